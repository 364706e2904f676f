"""Answers about one release, kept for a minute: many visitors look at the same."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from bot.visitor import Visitor

T = TypeVar("T")
SECONDS = 60.0
MOST = 64


class Kept(Generic[T]):
    """`ask(visitor, name)`, at most once a minute for each account and for all strangers. Errors are not kept."""

    def __init__(self, ask: Callable[[Visitor, str], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bool, str | None, str], tuple[float, T]] = OrderedDict()

    def get(self, who: Visitor, name: str) -> T:
        """The answer as this visitor may see it."""
        key = (who.operator, who.name, name)
        with self._lock:
            at, value = self._known.get(key, (None, None))
        if at is not None and value is not None and time.monotonic() - at < SECONDS:
            return value
        fresh = self._ask(who, name)
        with self._lock:
            self._known[key] = (time.monotonic(), fresh)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return fresh
