"""How much one person, one network address and all people together may ask for."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import datetime

from bot.builds import Build
from bot.errors import Busy
from bot.settings import Settings
from bot.visitor import Visitor

MINUTE, DAY = 60.0, 86400.0
MOST_KEYS = 10_000
# What a build takes when too few have ended to tell, and the bounds of what is believed. Seconds.
USUAL, SHORTEST, LONGEST = 600.0, 60.0, 6 * 3600.0


class Allowance:
    """At most `most` of something in any `seconds`, per key. In memory; keys that were quiet longest are forgotten."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._used: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, count: int = 1) -> float:
        """Use `count` of what `key` may. 0, or in how many seconds there is enough again, and nothing was used."""
        now = self._clock()
        with self._lock:
            used = self._used.setdefault(key, deque())
            self._used.move_to_end(key)
            while len(self._used) > MOST_KEYS:
                self._used.popitem(last=False)
            while used and used[0] <= now - self._seconds:
                used.popleft()
            if (over := len(used) + count - self._most) > 0:
                return used[min(over, len(used)) - 1] + self._seconds - now if used else self._seconds
            used.extend([now] * count)
            return 0.0


class Limits:
    """The limits of one page. The operator has none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reads = Allowance(settings.address_reads, MINUTE)
        self._searches = Allowance(settings.address_searches, MINUTE)
        self._persons = Allowance(settings.person_daily, DAY)
        self._addresses = Allowance(settings.address_daily, DAY)

    def read(self, visitor: Visitor) -> None:
        """Count a look that costs calls of the Hub.

        Raises:
            Busy: too many from this address.
        """
        if not visitor.operator and (wait := self._reads.take(network(visitor.address))):
            raise Busy("Too many questions from your network address.", come_back(wait))

    def search(self, visitor: Visitor) -> None:
        """Count a search, of which people make one per letter.

        Raises:
            Busy: too many from this address.
        """
        if not visitor.operator and (wait := self._searches.take(network(visitor.address))):
            raise Busy("Too many searches from your network address.", come_back(wait))

    def build(self, visitor: Visitor, count: int, unfinished: Sequence[Build], ended: Sequence[Build]) -> None:
        """Count `count` new builds. `unfinished` are all that wait or run, `ended` the last ones that ended.

        Raises:
            Busy: the queue is full, or it is too much for one person or one address.
        """
        if visitor.operator or not count:
            return
        theirs = sum(build.request.asker == visitor.name for build in unfinished)
        waiting = sum(build.person for build in unfinished)
        pace = seconds_per_build(ended)
        if (over := theirs + count - self._settings.person_waiting) > 0:
            message = f"You have {theirs} builds in the queue, and {self._settings.person_waiting} is the most."
            raise Busy(message, come_back(over * pace))
        if (over := waiting + count - self._settings.queue_limit) > 0:
            raise Busy(f"The queue is full: {waiting} builds.", come_back(over * pace))
        whose = (self._persons, visitor.name or ""), (self._addresses, network(visitor.address))
        for allowance, key in whose:
            if wait := allowance.take(key, count):
                raise Busy("You have asked for as many builds as one may in a day.", come_back(wait))


def come_back(seconds: float) -> str:
    """When to try again, as people say it."""
    minutes = max(1, round(seconds / 60))
    when = f"{minutes} min" if minutes < 90 else f"{round(minutes / 60)} h"
    return f"Come back in about {when}."


def seconds_per_build(ended: Sequence[Build]) -> float:
    """How long the queue takes per build, from when the last ones ended."""
    times: list[datetime] = sorted(build.finished for build in ended if build.finished is not None)
    if len(times) < 3:
        return USUAL
    span = (times[-1] - times[0]).total_seconds() / (len(times) - 1)
    return min(max(span, SHORTEST), LONGEST)


def network(address: str) -> str:
    """What counts as one address: all of an IPv6 network that one subscriber gets."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
