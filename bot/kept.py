"""Answers that are remembered for a while, so that many who ask the same cost one call."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """One answer per question, for so many seconds; beyond `most` the oldest are forgotten. Errors are not kept.

    A question has in it whoever may see its answer.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    def get(self, question: Hashable, ask: Callable[[], T]) -> T:
        """What is known, or what `ask` answers now. Others are not held up meanwhile."""
        with self._lock:
            known = self._known.get(question)
        if known is not None and time.monotonic() - known[0] < self._seconds:
            return known[1]
        fresh = ask()
        with self._lock:
            self._known[question] = (time.monotonic(), fresh)
            self._known.move_to_end(question)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return fresh
