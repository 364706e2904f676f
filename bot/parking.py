"""Builds that leave the queue for a while, so that they hold nobody up: they wait for a person, not for a worker.

The engine knows only "queued", "running" and "ended": a parked build is stored as cancelled, with a note in the
journal that says what brings it back. It keeps its number in the queue, and its finished steps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bot import logs
from bot.builds import Awaits
from bot.journal import Journal, away, patiently
from bot.steps import Interrupted
from bot.store import Store, asker_of
from bot.tokens import Keyring

log = logs.get_logger(__name__)


class Parking:
    """Who has to wait for what. `most`: how many builds of one person run at once, on all workers together."""

    def __init__(self, journal: Journal, keys: Keyring, most: int, store: Store) -> None:
        self._journal = journal
        self._keys = keys
        self._most = most
        self._store = store
        self._going: dict[str, str] = {}
        self._lock = threading.Lock()

    def unfinished(self) -> tuple[list[Any], dict[str, Awaits]]:
        """Every stored build that waits or runs, and what brings back those that are parked.

        What is parked is looked up before and after: a build that is parked or woken meanwhile is not overlooked.
        """
        before = self._journal.parked()
        found = self._store.stored(status=["ENQUEUED", "PENDING"], load_output=False)
        parked = before | self._journal.parked()
        if missing := [*parked.keys() - {status.workflow_id for status in found}]:
            any_state = ["CANCELLED", "ENQUEUED", "PENDING"]
            found += self._store.stored(status=any_state, workflow_ids=missing, load_output=False)
        return found, parked

    def park(self, build: str, awaits: Awaits) -> None:
        """Take a build out of the queue. Whoever runs it must let go of it now."""
        self._journal.park(build, awaits)
        self._store.cancel(build)

    @contextmanager
    def turn(self, build: str, asker: str | None, me: str) -> Iterator[None]:
        """Run a build inside, if its asker has no more of them running than they may. `me` is this worker's name.

        Raises:
            Interrupted: it has to wait, and was parked.
        """
        if asker is None:
            yield
            return
        self._begin(build, asker, me)
        try:
            yield
        finally:
            with self._lock:
                del self._going[build]
            self._wake_if_there(me)

    @patiently
    def _begin(self, build: str, asker: str, me: str) -> None:
        with self._lock:
            if self._running(asker, me) >= self._most:
                self.park(build, Awaits.TURN)
                raise Interrupted
            self._going[build] = asker

    def _wake_if_there(self, me: str) -> None:
        """What a build came to is not lost because the database is away at its end: the rescuer wakes soon enough."""
        try:
            self.wake(me)
        except Exception as error:
            if not away(error):
                raise
            log.warning("The database is away; builds that wait for their turn are woken later.")

    def _running(self, asker: str, me: str) -> int:
        here = sum(other == asker for other in self._going.values())
        pending = self._store.stored(status="PENDING", load_output=False)
        return here + sum(1 for s in pending if s.executor_id != me and asker_of(s) == asker)

    def wake(self, me: str) -> None:
        """Queue what need not wait any longer: a token has come, or another build of the same person has ended."""
        parked = self._journal.parked()
        for status in self._store.stored(workflow_ids=list(parked), load_output=False) if parked else ():
            asker = asker_of(status) or ""
            if parked[status.workflow_id] is Awaits.SIGN_IN:
                ready = self._keys.token(asker) is not None
            else:
                ready = self._running(asker, me) < self._most
            if ready:
                self._journal.unpark(status.workflow_id, partial(self._unparked, status.workflow_id))

    def _unparked(self, build: str) -> bool:
        """Queue a build again unless somebody did that meanwhile. Asked while its note is locked."""
        [status] = self._store.stored(workflow_ids=[build], load_output=False)
        if status.status == "CANCELLED":
            self._store.queue_again(status)
        # One that is queued or runs is just being parked, and its note stays.
        return status.status not in ("ENQUEUED", "PENDING")
