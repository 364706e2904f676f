"""Has a build's work done by children, as soon as the machine has room for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot import converter, sandbox
from bot.admission import Admission, Grant, Peaks
from bot.errors import MemoryExceeded
from bot.settings import GIB, Settings
from bot.steps import Steps
from bot.telling import Telling
from bot.workspace import Workspace

REFERENCE = "reference"


@dataclass(frozen=True)
class Work:
    """One piece of work for a child: what it will hold in memory (bytes), may read and may write.

    It makes `out` anew, where there is one; what else it may write is kept for others.
    """

    backend: str
    name: str
    memory: int
    read: tuple[Path, ...]
    write: tuple[Path, ...] = ()
    out: Path | None = None


class Children:
    """The children of one build of a model with so many `parameters`; `code` is where their program lies."""

    def __init__(self, settings: Settings, admission: Admission, steps: Steps, parameters: int, code: Path) -> None:
        self._settings = settings
        self._admission = admission
        self._peaks = Peaks(steps.journal)
        self._steps = steps
        self._parameters = parameters
        self._code = code

    def call(self, work: Work, request: dict[str, Any], telling: Telling) -> converter.Reply:
        """Have `work` done, and remember what it took. One that held more than the others had left runs again, alone.

        Raises:
            ConverterFailed: it did not succeed.
            BuildCancelled: the build was cancelled meanwhile.
        """
        memory = self._peaks.corrected(work.name, self._parameters, work.memory)
        try:
            reply, grant = self._admitted(work, memory, request, telling)
        except MemoryExceeded as error:
            if error.limit >= self._admission.budget:
                raise
            telling.log("warning", f"{work.name} held more than was left beside others; it runs again, alone.")
            if work.out is not None:
                Workspace(self._settings).clear(work.out)
            reply, grant = self._admitted(work, self._admission.budget, request, telling)
        telling.memory(0)
        outcome = reply.outcome
        self._peaks.remember(work.name, self._parameters, outcome.peak_memory)
        telling.log(
            "info",
            f"{work.backend} took {outcome.wall:.1f} s, {outcome.cpu:.1f} CPU s, "
            f"{outcome.peak_memory / GIB:.2f} GiB, on {grant.threads} threads (sandbox: {outcome.tier})",
        )
        return reply

    def _admitted(
        self, work: Work, memory: int, request: dict[str, Any], telling: Telling
    ) -> tuple[converter.Reply, Grant]:
        with self._admission.admitted(memory, self._steps.cancelled, person=self._steps.person) as grant:
            share = {"threads": grant.threads}
            if work.backend == REFERENCE:
                share["memory"] = grant.memory
            return self._run(work, {**request, **share}, telling, grant), grant

    def _run(self, work: Work, request: dict[str, Any], telling: Telling, grant: Grant) -> converter.Reply:
        folder = self._settings.home / "work" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        limits = sandbox.Limits(
            memory=grant.memory,
            wall=self._settings.build_timeout,
            file_size=max(8 * self._parameters, 2 * GIB),
            threads=grant.threads,
            disk_floor=self._settings.disk_floor,
        )
        write = (*filter(None, (work.out,)), *work.write)
        return converter.call(
            work.backend, request, read=[self._code, *work.read], write=write, work=folder, limits=limits,
            on_progress=telling.progress, on_log=telling.log, cancelled=self._steps.cancelled,
            on_memory=telling.memory,
            settings=self._settings,
        )  # fmt: skip
