"""Builds that leave the queue for a while, so that they hold nobody up: they wait for a person, not for a worker.

The engine knows only "queued", "running" and "ended": a parked build is stored as cancelled, with a note in the
journal that says what brings it back. It keeps its number in the queue, and its finished steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from bot.builds import Awaits
from bot.journal import Journal
from bot.steps import Interrupted
from bot.tokens import Keyring


class Stored(Protocol):
    """What is looked up of stored builds."""

    def __call__(self, **which: Any) -> Sequence[Any]: ...


class Parking:
    """Who has to wait for what. `most`: how many builds of one person run at once, on all workers together."""

    def __init__(
        self, journal: Journal, keys: Keyring, most: int, stored: Stored, stop: Callable[[str], None],
        queue_again: Callable[[Any], None],
    ) -> None:  # fmt: skip
        self._journal = journal
        self._keys = keys
        self._most = most
        self._stored = stored
        self._stop = stop
        self._queue_again = queue_again
        self._going: dict[str, str] = {}
        self._lock = threading.Lock()

    def park(self, build: str, awaits: Awaits) -> None:
        """Take a build out of the queue. Whoever runs it must let go of it now."""
        self._journal.park(build, awaits)
        self._stop(build)

    @contextmanager
    def turn(self, build: str, asker: str | None, me: str) -> Iterator[None]:
        """Run a build inside, if its asker has no more of them running than they may. `me` is this worker's name.

        Raises:
            Interrupted: it has to wait, and was parked.
        """
        if asker is None:
            yield
            return
        with self._lock:
            if self._running(asker, me) >= self._most:
                self.park(build, Awaits.TURN)
                raise Interrupted
            self._going[build] = asker
        try:
            yield
        finally:
            with self._lock:
                del self._going[build]
            self.wake(me)

    def _running(self, asker: str, me: str) -> int:
        here = sum(other == asker for other in self._going.values())
        pending = self._stored(status="PENDING", load_output=False)
        return here + sum(1 for s in pending if s.executor_id != me and asker_of(s) == asker)

    def wake(self, me: str) -> None:
        """Queue what need not wait any longer: a token has come, or another build of the same person has ended."""
        parked = self._journal.parked()
        for status in self._stored(workflow_ids=list(parked), load_output=False) if parked else ():
            asker = asker_of(status) or ""
            if parked[status.workflow_id] is Awaits.SIGN_IN:
                ready = self._keys.token(asker) is not None
            else:
                ready = self._running(asker, me) < self._most
            if ready:
                self._journal.unpark(status.workflow_id, partial(self._unparked, status.workflow_id))

    def _unparked(self, build: str) -> bool:
        """Queue a build again unless somebody did that meanwhile. Asked while its note is locked."""
        [status] = self._stored(workflow_ids=[build], load_output=False)
        if status.status == "CANCELLED":
            self._queue_again(status)
        # One that is queued or runs is just being parked, and its note stays.
        return status.status not in ("ENQUEUED", "PENDING")


def asker_of(status: Any) -> str | None:
    """Who asked for a stored build."""
    asker = status.input["args"][0].get("asker")
    return None if asker is None else str(asker)
