"""Asks once for many visitors: every open page refreshes itself, and none may cost the Hub a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The answer of `ask`, at most `seconds` old. Errors are not kept."""

    def __init__(self, ask: Callable[[], T], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: tuple[float, T] | None = None

    def get(self) -> T:
        """Return the answer, asking again if it is too old."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > self._seconds:
                self._known = (time.monotonic(), self._ask())
            return self._known[1]

    def forget(self) -> None:
        """Ask again next time, whatever the age."""
        with self._lock:
            self._known = None
