"""Builds: what one is asked for, where it stands, what it said, how it ended."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from bot.errors import PhimillError, error_classes
from bot.models import Frozen, digest


class Target(Frozen):
    """What a build brings into one repo: these recipes, as this version. Without recipes: its card and its tag."""

    repo: str
    version: str
    recipes: tuple[str, ...]


class BuildRequest(Frozen):
    """One release x one backend x the recipes asked for, to one namespace. What a durable build is started with.

    Holds no token: whoever publishes looks one up. `asker` is the account whose own token that is; None for what the
    mill publishes itself. What is `private`, source or targets, is seen by its asker and by the operator only.
    """

    repo: str
    sha: str
    backend: str
    namespace: str
    toolchain: str
    targets: tuple[Target, ...]
    asker: str | None = None
    private: bool = False

    @property
    def recipes(self) -> tuple[str, ...]:
        """Everything that is to be made, whichever repo it goes to."""
        return tuple(recipe for target in self.targets for recipe in target.recipes)

    @property
    def key(self) -> str:
        """The build's identity: the same request twice is the same build."""
        return digest(self.model_dump(mode="json"))[:32]

    def covered_by(self, other: BuildRequest) -> bool:
        """Whether another build makes everything this one would, from the same commit, with the same tools."""
        same = {"repo", "sha", "backend", "namespace", "toolchain", "asker", "private"}
        return (
            self.model_dump(include=same) == other.model_dump(include=same)
            and {t.repo for t in self.targets} <= {t.repo for t in other.targets}
            and set(self.recipes) <= set(other.recipes)
        )


class Phase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Awaits(StrEnum):
    """What a waiting build needs before it takes its place in the queue again."""

    SIGN_IN = "sign_in"  # its asker's token, which only lived in memory
    TURN = "turn"  # the end of another build of the same person


class VariantResult(Frozen):
    """How one variant of a build ended. This is the object `convert --format json` prints."""

    recipe: str
    status: Literal["published", "already_published", "gate_failed", "refused", "failed"]
    repo: str | None = None
    tag: str | None = None
    files: tuple[str, ...] = ()
    bytes: int | None = None
    kl_mean: float | None = None
    kl_p99: float | None = None
    top1: float | None = None
    perplexity_ratio: float | None = None
    reason: str | None = None


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
    """The newest thing a running build said about itself. `eta` is seconds, `unit` what `done` and `total` count.

    `memory` are the bytes that the child at work holds, where one is at work.
    """

    stage: str
    recipe: str | None = None
    done: float = 0
    total: float = 0
    unit: str = ""
    eta: float | None = None
    memory: int | None = None

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
    awaits: Awaits | None = None

    @property
    def over(self) -> bool:
        return self.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)
