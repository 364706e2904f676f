"""A build as people see it: where it stands, what it said, how it ended."""

from __future__ import annotations

from datetime import datetime

from bot.errors import PhimillError, error_classes
from bot.models import BuildRequest, Frozen, Phase, VariantResult


class Failure(Frozen):
    """A typed error, flattened so that it can be stored and shown on another machine."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: PhimillError) -> Failure:
        return cls(code=error.code, message=error.message, hint=error.hint)

    def error(self) -> PhimillError:
        """The same error again, to be raised."""
        return error_classes().get(self.code, PhimillError)(self.message, self.hint)


class Progress(Frozen):
    """The newest thing a running build said about itself. `eta` is seconds, `unit` what `done` and `total` count."""

    stage: str
    recipe: str | None = None
    done: float = 0
    total: float = 0
    unit: str = ""
    eta: float | None = None

    @property
    def percent(self) -> float | None:
        return min(100.0, 100.0 * self.done / self.total) if self.total else None


class LogLine(Frozen):
    """One line of a build's log. `number` grows by one per build, so that a reader can ask for what is new."""

    number: int
    at: datetime
    level: str
    stage: str
    text: str


class Build(Frozen):
    """One attempt at one build."""

    id: str
    request: BuildRequest
    phase: Phase
    person: bool
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    results: tuple[VariantResult, ...] = ()
    failure: Failure | None = None
    progress: Progress | None = None
    position: int | None = None

    @property
    def over(self) -> bool:
        return self.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)
