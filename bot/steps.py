"""The steps of a running build: done once, however often the build is begun again.

An explained error is a result like any other and is kept; an interruption leaves the step to be done again.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from structlog.contextvars import bound_contextvars

from bot.builds import BuildRequest, Failure, VariantResult
from bot.errors import BuildCancelled, PhimillError, SignInNeeded, of_the_disk
from bot.journal import Journal, away, patiently
from bot.models import Frozen

MAX_TRIES = 5
PAUSE_SECONDS = 1.0


class Outcome(Frozen):
    """How a build ended: one result per recipe, and the error that stopped it, if one did."""

    results: tuple[VariantResult, ...] = ()
    failure: Failure | None = None


class Steps:
    """What a running build gets from the engine: durable steps, its log, and whether somebody cancelled it."""

    def __init__(
        self,
        build: str,
        journal: Journal,
        once: Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]],
        cancelled: Callable[[], bool],
        paused: Callable[[], bool],
        *,
        person: bool = False,
        await_sign_in: Callable[[], None] = lambda: None,
    ) -> None:
        self.build = build
        self._await_sign_in = await_sign_in
        self.person = person
        self.journal = journal
        self.cancelled = cancelled
        self._once = once
        self._paused = paused

    @classmethod
    def in_foreground(cls, build: str, journal: Journal) -> Steps:
        """Steps of work that somebody waits for: nothing is queued, nothing pauses it, and Ctrl-C cancels it."""
        return cls(build, journal, lambda _, act: act(), lambda: False, lambda: False, person=True)

    def run(self, name: str, action: Callable[[], Any]) -> Any:
        """Do `action` once and keep its result (JSON); a later attempt at this build gets the stored result instead.

        Errors are kept as data too, so that a replay ends as the first run did.
        """
        self._wait_while_paused()
        kept = self._once(name, lambda: self._guarded(name, action))
        if "failure" in kept:
            raise Failure.model_validate(kept["failure"]).error()
        return kept["value"]

    @patiently
    def _wait_while_paused(self) -> None:
        while self._paused():
            if self.cancelled():
                raise Interrupted
            time.sleep(PAUSE_SECONDS)

    def leave_for_sign_in(self, error: SignInNeeded) -> NoReturn:
        """Give the build's place to others until its asker has signed in again."""
        self.journal.write(self.build, "warning", "sign in", str(error))
        self._await_sign_in()
        raise Interrupted from error

    @patiently  # begun again, as after a kill
    def _guarded(self, name: str, action: Callable[[], Any]) -> dict[str, Any]:
        """A step that was begun and never ended MAX_TRIES times in a row is poison: it takes its worker down."""
        if self.journal.begin_step(self.build, name) > MAX_TRIES:
            message = f"The step {name!r} brought its worker down {MAX_TRIES} times in a row."
            return {
                "failure": Failure(code="error", message=message, hint="Its log says how far it got.").model_dump()
            }
        try:
            with bound_contextvars(stage=name):
                kept = {"value": action()}
        except BuildCancelled as error:
            self.journal.end_step(self.build, name)
            raise Interrupted from error
        except SignInNeeded as error:
            self.journal.end_step(self.build, name)
            self.leave_for_sign_in(error)
        except PhimillError as error:
            kept = {"failure": Failure.of(error).model_dump()}
        except Exception as error:
            if away(error):
                raise
            self.journal.write(self.build, "error", name, traceback.format_exc())
            kept = {"failure": Failure.of(_explained(name, error)).model_dump()}
        self.journal.end_step(self.build, name)
        return kept


def _explained(step: str, error: Exception) -> PhimillError:
    if (known := of_the_disk(error)) is not None:
        return known
    message = f"The step {step!r} failed in an unforeseen way: {type(error).__name__}."
    return PhimillError(message, "Its log has the details.")


class Interrupted(BaseException):
    """Leaves a workflow as it stands: its worker is stopping, somebody cancelled it, or it waits for something.

    Not an Exception, because the engine stores those as the step's result, and an interruption is none.
    """


Runner = Callable[[BuildRequest, Steps], Outcome]
