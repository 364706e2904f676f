"""A process that takes builds.

A build is a workflow of named, idempotent steps. DBOS stores a step's result when it finishes; a worker that dies is
found out by its lease (`liveness.py`) and its builds are queued again by whoever is alive, to go on after the last
finished step.

A workflow never raises what it can explain: it returns an `Outcome`, so that errors are data on every database.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from structlog.contextvars import bound_contextvars

from bot import logs, metrics
from bot.builds import Awaits, BuildRequest
from bot.journal import Journal
from bot.liveness import Leases, leased
from bot.parking import Parking
from bot.steps import MAX_TRIES, Outcome, Runner, Steps
from bot.store import WORKFLOW_VERSION, Store, asker_of, queue
from bot.tokens import Keyring
from bot.withheld import token_withheld

with token_withheld():
    from dbos import DBOS, DBOSConfig
    from dbos._serialization import DBOSPortableJSONSerializer

log = logs.get_logger(__name__)

RESCUE_SECONDS = 5.0

_current: Worker | None = None


@DBOS.workflow(name="build", max_recovery_attempts=MAX_TRIES)
def _build(request: dict[str, Any], person: bool) -> dict[str, Any]:
    if _current is None:
        raise RuntimeError("nobody is working")
    return _current.perform(request, person=person).model_dump(mode="json")


class Worker:
    """Runs stored builds with `runner`, and those of dead workers. One at a time per process."""

    def __init__(
        self, store: Store, journal: Journal, keys: Keyring, leases: Leases, parking: Parking, runner: Runner
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._leases = leases
        self._parking = parking
        self._runner = runner
        self._stopping = threading.Event()
        self._stranded: set[str] = set()
        self.name = ""

    @property
    def stopping(self) -> bool:
        """Whether this worker is on its way out: a step in hand should end soon, by an exception."""
        return self._stopping.is_set()

    @contextmanager
    def working(self, backends: Sequence[str]) -> Iterator[None]:
        """Take builds while inside, one at a time of each backend. What is in hand on the way out is left to the next
        worker.
        """
        global _current
        self.name = self._join()
        _current = self
        dbos = DBOS(config=self._config())
        queues = [queue(backend) for backend in backends]
        DBOS.listen_queues(queues)
        DBOS.launch()
        for name in queues:
            DBOS.register_queue(name, worker_concurrency=1, polling_interval_sec=0.5, on_conflict="always_update")
        rescuer = threading.Thread(target=self._rescue_forever, args=(dbos,), name="phimill-rescuer", daemon=True)
        rescuer.start()
        try:
            yield
        finally:
            self._stopping.set()
            rescuer.join()
            DBOS.destroy(workflow_completion_timeout_sec=10)
            _current = None
            self._leases.release(self.name)

    def _join(self) -> str:
        while True:
            name = uuid.uuid4().hex
            if self._leases.take(name):
                return name

    def _config(self) -> DBOSConfig:
        return DBOSConfig(
            name="phimill",
            system_database_url=self._store.url,
            application_version=WORKFLOW_VERSION,
            executor_id=self.name,
            serializer=DBOSPortableJSONSerializer(),
            log_level="ERROR",
            max_executor_threads=8,
            # Its listener thread leaves a connection behind; a queue of builds can be polled.
            use_listen_notify=False,
        )

    def perform(self, request: dict[str, Any], *, person: bool) -> Outcome:
        """Run one build in this thread. Called by the workflow."""
        build = str(DBOS.workflow_id)
        cancelled = _throttled(lambda: self.stopping or self._store.cancelled(build))
        asked = BuildRequest.model_validate(request)
        steps = Steps(
            build, self._journal, metrics.timed(asked.backend, _durably), cancelled, lambda: self._journal.paused,
            person=person, await_sign_in=lambda: self._parking.park(build, Awaits.SIGN_IN),
        )  # fmt: skip
        about = bound_contextvars(build=build, repo=asked.repo, backend=asked.backend)
        with about, self._parking.turn(build, asked.asker, self.name), metrics.building(asked.backend) as ended:
            log.info("The build begins.")
            outcome = ended(self._runner(asked, steps))
            log.info("The build is over.", failure=outcome.failure and outcome.failure.code)
            return outcome

    def _rescue_forever(self, dbos: DBOS) -> None:
        while not self._stopping.is_set():
            try:
                self._leases.held()  # a dropped connection is noticed, and our own lease taken again
                self._rescue()
                self._rescue_own(set(dbos._active_workflows_set.activeList()))
                self._parking.wake(self.name)
                unfinished, _ = self._parking.unfinished()
                self._keys.keep_only({asker for asker in map(asker_of, unfinished) if asker})
            except Exception:
                # A database that is away for a moment must not end rescuing for the life of this process.
                log.exception("Looking for dead workers failed; trying again.")
            self._stopping.wait(RESCUE_SECONDS)

    def _rescue(self) -> None:
        """Queue the builds of dead workers again. The dead one's lease is held meanwhile, so only one rescues."""
        if not self._leases.settled:
            return
        for worker in {s.executor_id for s in self._store.stored(status="PENDING")}:
            if worker is None or worker == self.name:
                continue
            with leased(self._leases, worker) as dead:
                if dead:
                    for build in self._store.stored(status="PENDING", executor_id=worker):
                        self._store.queue_again(build)

    def _rescue_own(self, running: set[str]) -> None:
        """Queue again what this worker took and does not run. Where the database goes away while a build is taken, or
        its end recorded, DBOS leaves it at that; and others see that we are alive. What is seen only once may be about
        to begin, or to end.
        """
        stored = self._store.stored(status="PENDING", executor_id=self.name)
        stranded = {status.workflow_id: status for status in stored if status.workflow_id not in running}
        for build in self._stranded & stranded.keys():
            log.warning("A build that was taken is not run; queued again.", build=build)
            self._store.queue_again(stranded.pop(build))
        self._stranded = set(stranded)


def _durably(name: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return DBOS.run_step({"name": name}, action)


def _throttled(ask: Callable[[], bool], seconds: float = 1.0) -> Callable[[], bool]:
    """`ask`, but at most once in `seconds`; once true, true for good."""
    last = {"at": 0.0, "answer": False}

    def answer() -> bool:
        if not last["answer"] and time.monotonic() - last["at"] >= seconds:
            last["answer"], last["at"] = ask(), time.monotonic()
        return bool(last["answer"])

    return answer
