"""The newest known answer to a slow question: many visitors read it, and none waits while it is asked again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from bot.errors import PhimillError
from bot.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")


class Known(NamedTuple, Generic[T]):
    """`value` is None until the first answer; `age` is in seconds; `error` is why the last try brought none."""

    value: T | None
    age: float
    error: PhimillError | None


class Latest(Generic[T]):
    """The answer of `ask`, asked again in the background when it is older than `seconds` and somebody looks."""

    def __init__(self, ask: Callable[[], T], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._tried = threading.Event()
        self._asking = False
        self._next = 0.0
        self._at = 0.0
        self._value: T | None = None
        self._error: PhimillError | None = None

    def get(self, wait: float = 0.0) -> Known[T]:
        """What is known now. Who comes before the first try has ended waits for it, `wait` seconds at most."""
        with self._lock:
            if not self._asking and time.monotonic() >= self._next:
                self._asking = True
                threading.Thread(target=self._look, name="phimill-look", daemon=True).start()
        self._tried.wait(wait)
        with self._lock:
            return Known(self._value, time.monotonic() - self._at, self._error)

    def _look(self) -> None:
        value, error = None, None
        try:
            value = self._ask()
        except PhimillError as problem:
            error = problem
        except Exception:
            log.exception("Looking for the page failed; trying again.")
            error = PhimillError(
                "Looking for this failed.", "It is tried again in a moment; the server's log says why."
            )
        with self._lock:
            now = time.monotonic()
            if error is None:
                self._value, self._at = value, now
            self._error, self._asking, self._next = error, False, now + self._seconds
        self._tried.set()
