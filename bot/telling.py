"""How a running step tells people what it is doing: log lines, and progress with an estimate of what is left."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from bot.builds import Progress
from bot.redaction import redacted

QUIET_SECONDS = 0.5
MEMORY_SECONDS = 2.0


class Ear(Protocol):
    """Who is told: the journal, or a terminal."""

    def write(self, build: str, level: str, stage: str, text: str) -> None: ...
    def set_progress(self, build: str, progress: Progress) -> None: ...


class Telling:
    """The voice of one stage of one build. Progress is kept at most twice a second; its last word always is."""

    def __init__(self, ear: Ear, build: str, stage: str, recipe: str | None = None) -> None:
        self._ear = ear
        self._build = build
        self._stage = stage
        self._recipe = recipe
        self._part = ""
        self._part_began = time.monotonic()
        self._last = self._held = 0.0
        self._said: Progress | None = None
        self.log("info", f"{stage} {recipe or ''}".strip())
        self.progress("", 0, 0, "")

    def log(self, level: str, text: str) -> None:
        # A database that is away for a moment costs a line of the log, not hours of a converter's work.
        with suppress(SQLAlchemyError):
            self._ear.write(self._build, level, self._stage, redacted(text))

    def progress(self, part: str, done: float, total: float, unit: str) -> None:
        """Say how far a part of the stage is. The estimate assumes that the rest goes as fast as what is done."""
        now = time.monotonic()
        if part != self._part:
            self._part, self._part_began = part, now
        elif now - self._last < QUIET_SECONDS and done < total:
            return
        self._last = now
        elapsed = now - self._part_began
        eta = elapsed * (total - done) / done if done and total and elapsed > 1 else None
        stage = f"{self._stage}: {redacted(part)}" if part else self._stage
        memory = self._said.memory if self._said else None
        self._say(
            Progress(stage=stage, recipe=self._recipe, done=done, total=total, unit=unit, eta=eta, memory=memory)
        )

    def memory(self, held: int) -> None:
        """Say how many bytes the child at work holds: 0 once it has ended. Said every two seconds at most."""
        now = time.monotonic()
        if self._said is not None and (not held or now - self._held > MEMORY_SECONDS):
            self._held = now
            self._say(self._said.model_copy(update={"memory": held or None}))

    def _say(self, said: Progress) -> None:
        self._said = said
        with suppress(SQLAlchemyError):
            self._ear.set_progress(self._build, said)
