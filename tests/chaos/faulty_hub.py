"""A Hub whose connection, answers and listings go wrong, once for each fault that is asked for."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2 as httpx
from go_between import GoBetween, HungUp, Seen

READ, WRITE, COMMIT = "GET|HEAD", "POST|PUT|DELETE", "POST"
Ask = Callable[[], httpx.Response]


@dataclass(frozen=True)
class Fault:
    """What happens to one request with this method, whose path the pattern is found in."""

    name: str
    methods: str
    path: str
    happens: Callable[[FaultyHub, Seen, Ask], httpx.Response]

    def strikes(self, seen: Seen) -> bool:
        return bool(re.fullmatch(self.methods, seen.method) and re.search(self.path, seen.path))

    def __repr__(self) -> str:
        return self.name


class FaultyHub(GoBetween):
    """Stands before the real Hub, and does to its requests what it is told to, in that order."""

    def __init__(self, hub: str) -> None:
        super().__init__(hub)
        self._first: dict[str, httpx.Response] = {}
        self._coming: list[tuple[int, Fault]] = []
        self._lock = threading.Lock()
        self.struck: list[str] = []

    def expect(self, fault: Fault, after: int) -> None:
        """Let so many requests pass that it could happen to, and then do it to the next one."""
        with self._lock:
            self._coming.append((after, fault))

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        with self._lock:
            self._coming.clear()
        self.seen.clear()

    def earlier(self, seen: Seen, ask: Ask) -> httpx.Response:
        """What was answered when the same was asked for the first time."""
        return self._first.get(seen.target) or ask()

    def _pass_on(self, seen: Seen) -> httpx.Response:
        fault = self._next(seen)
        if fault is None:
            return self._asked(seen)
        self.struck.append(f"{fault} {seen.method} {seen.path}")
        return fault.happens(self, seen, lambda: self._asked(seen))

    def _next(self, seen: Seen) -> Fault | None:
        with self._lock:
            for place, (left, fault) in enumerate(self._coming):
                if fault.strikes(seen):
                    if left == 0:
                        del self._coming[place]
                        return fault
                    self._coming[place] = (left - 1, fault)
        return None

    def _asked(self, seen: Seen) -> httpx.Response:
        answer = super()._pass_on(seen)
        if seen.method == "GET" and answer.status_code == httpx.codes.OK and seen.path.startswith("/api/"):
            self._first.setdefault(seen.target, answer)
        return answer


def _refused(status: int, **headers: str) -> Callable[[FaultyHub, Seen, Ask], httpx.Response]:
    spelled = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda hub, seen, ask: httpx.Response(status, headers=spelled, content=b"{}")


def _unheard(hub: FaultyHub, seen: Seen, ask: Ask) -> httpx.Response:
    raise HungUp


def _unanswered(hub: FaultyHub, seen: Seen, ask: Ask) -> httpx.Response:
    ask()
    raise HungUp


def _late(hub: FaultyHub, seen: Seen, ask: Ask) -> httpx.Response:
    time.sleep(0.2)
    return ask()


def _changed(change: Callable[[bytes], bytes]) -> Callable[[FaultyHub, Seen, Ask], httpx.Response]:
    def happens(hub: FaultyHub, seen: Seen, ask: Ask) -> httpx.Response:
        answer = ask()
        return httpx.Response(answer.status_code, headers=answer.headers.raw, content=change(answer.content))

    return happens


def _other(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


FAULTS = (
    Fault("a read breaks off", READ, "", _unheard),
    Fault("a write is not heard", WRITE, "", _unheard),
    Fault("a write is not answered", WRITE, "", _unanswered),
    Fault("a commit is not answered", COMMIT, "/commit/", _unanswered),
    Fault("a commit comes too late", COMMIT, "/commit/", _refused(412)),
    Fault("a tag is there already", COMMIT, "/tag/", _refused(409)),
    Fault("too many reads", READ, "", _refused(429, retry_after="1")),
    Fault("too many writes", WRITE, "", _refused(429, ratelimit='"api";r=0;t=1')),
    Fault("the Hub is broken for a read", READ, "", _refused(500)),
    Fault("the Hub is away for a read", READ, "", _refused(503)),
    Fault("the Hub is broken for a write", WRITE, "", _refused(500)),
    Fault("the Hub is away for a write", WRITE, "", _refused(503)),
    Fault("an answer is late", f"{READ}|{WRITE}", "", _late),
    Fault("a file is cut short", "GET", "/resolve/", _changed(lambda data: data[: len(data) // 2])),
    Fault("a file has another byte", "GET", "/resolve/", _changed(_other)),
    Fault("a listing is old", "GET", "^/api/models/phimill/", FaultyHub.earlier),
)
