"""Who may run a converter now. Builds go side by side, but their children share one machine: there are never more of
them than cores, nor do they get more memory than the budget, as far as it can be told beforehand.

Builds share the cores evenly. Only a child that leaves the next one no room gets all of them, whoever is still running
beside it: it will soon be alone, and threads cannot be added later.

How much a child will hold is estimated (`costs.py`) and corrected by what the same work was seen to hold here before.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bot import metrics
from bot.doctor import cores, memory_budget
from bot.errors import BuildCancelled
from bot.journal import Journal
from bot.settings import Settings

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Grant:
    """What one child may use: threads, and bytes of memory."""

    threads: int
    memory: int


class Admission:
    """The cores and the memory budget (bytes) of one process's converters."""

    def __init__(self, settings: Settings) -> None:
        self._cores = settings.threads or cores()
        self.budget = memory_budget(settings)
        metrics.MEMORY_BUDGET.set(self.budget)
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._builds = 0
        self._running: dict[int, Grant] = {}
        self._waiting: dict[tuple[bool, int], int] = {}  # in order of the key: the memory they need

    @contextmanager
    def building(self) -> Iterator[None]:
        """A build goes on while inside. Cores are shared out evenly among builds."""
        with self._changed:
            self._builds += 1
        try:
            yield
        finally:
            with self._changed:
                self._builds -= 1
                self._changed.notify_all()

    @contextmanager
    def admitted(self, memory: int, cancelled: Callable[[], bool], *, person: bool = False) -> Iterator[Grant]:
        """Wait until a child that will hold `memory` bytes fits beside those that run. People go first, then the
        longest waiting; nobody overtakes, so that a large child is not kept waiting by small ones for ever. One that
        needs more than the budget runs alone.

        Raises:
            BuildCancelled: `cancelled` said so while waiting.
        """
        ticket = (not person, next(self._order))
        with self._changed:
            self._waiting[ticket] = memory
            try:
                while (grant := self._fitting(ticket, memory)) is None:
                    self._changed.wait(POLL_SECONDS)
                    if cancelled():
                        raise BuildCancelled("The build was cancelled.")
                held = min(memory, self.budget)
                self._running[ticket[1]] = Grant(grant.threads, held)
                metrics.MEMORY_GRANTED.inc(held)
            finally:
                del self._waiting[ticket]
                self._changed.notify_all()
        try:
            yield grant
        finally:
            with self._changed:
                del self._running[ticket[1]]
                metrics.MEMORY_GRANTED.dec(held)
                self._changed.notify_all()

    def _fitting(self, ticket: tuple[bool, int], memory: int) -> Grant | None:
        """What the first in line gets now, if there is room for it. Its memory is all that the others leave."""
        free = self._cores - sum(g.threads for g in self._running.values())
        left = self.budget - sum(g.memory for g in self._running.values())
        if ticket != min(self._waiting) or len(self._running) >= self._cores or (self._running and memory > left):
            return None
        behind = [other for other in self._waiting if other != ticket]
        beside = self._waiting[min(behind)] if behind else memory  # nobody asks yet: who comes next may be as large
        alone = memory + beside > left
        share = self._cores if alone else min(free, self._cores // max(self._builds, 1))
        return Grant(max(share, 1) if free > 0 else 1, left)


class Peaks:
    """What children were seen to hold, remembered by what they did and how large the model was."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def corrected(self, work: str, parameters: int, estimate: int) -> int:
        """The estimate for `work`, or the most that it was seen to hold with a model of that order of magnitude."""
        seen = self._seen(work, parameters)
        return int(seen * parameters) if seen else estimate

    def remember(self, work: str, parameters: int, peak: int) -> None:
        """Keep what `work` held, in bytes per parameter. It holds less when it finds a part of its work done."""
        if (held := peak / parameters) > self._seen(work, parameters):
            self._journal.set_note(self._key(work, parameters), repr(held))

    def _seen(self, work: str, parameters: int) -> float:
        return float(self._journal.note(self._key(work, parameters)) or 0)

    @staticmethod
    def _key(work: str, parameters: int) -> str:
        return f"peak:{work}:1e{len(str(parameters)) - 1}"
