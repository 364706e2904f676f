"""The one seam to the durable engine, DBOS.

A build is a workflow of named, idempotent steps. DBOS stores a step's result when it finishes; a worker that dies is
found out by its lease (`liveness.py`) and its builds are queued again by whoever is alive, to go on after the last
finished step. SQLite serves one machine; a Postgres URL serves many workers with the same code.

A workflow never raises what it can explain: it returns an `Outcome`, so that errors are data on every database.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from bot import metrics, recipes
from bot.builds import Awaits, Build, BuildRequest, Failure, Phase
from bot.errors import UsageError
from bot.journal import Journal, connect
from bot.liveness import leased, open_leases
from bot.parking import Parking
from bot.settings import Settings
from bot.steps import MAX_TRIES, Outcome, Runner, Steps
from bot.tokens import Keyring
from bot.withheld import token_withheld

with token_withheld():
    from dbos import DBOS, DBOSClient, DBOSConfig
    from dbos._serialization import DBOSPortableJSONSerializer

log = logging.getLogger(__name__)

# Part of every stored workflow. Raise it when the order or the names of a build's steps change.
WORKFLOW_VERSION = "2"
# Lower goes first; equal goes oldest first. Each further build of one person goes behind the first ones of others.
PERSON, LAST_PERSON, WATCHER = 1, 9, 10
RESCUE_SECONDS = 5.0


def queue(backend: str) -> str:
    """The queue of one backend's builds: those of different backends go side by side."""
    return f"builds-{backend}"


_current: Engine | None = None


@DBOS.workflow(name="build", max_recovery_attempts=MAX_TRIES)
def _build(request: dict[str, Any], person: bool) -> dict[str, Any]:
    if _current is None:
        raise RuntimeError("the engine was closed")
    return _current.perform(request, person=person).model_dump(mode="json")


class Engine:
    """Queue, run, look at, cancel and retry builds. One per process."""

    def __init__(self, settings: Settings, journal: Journal, keys: Keyring | None = None) -> None:
        self._settings = settings
        self._journal = journal
        self._keys = keys or Keyring()
        settings.home.mkdir(parents=True, exist_ok=True)
        self._url = settings.database_url or f"sqlite:///{settings.home / 'engine.sqlite'}"
        if not settings.database_url:
            connect(self._url).connect().close()  # WAL is a property of the file: set before DBOS opens it
        self._leases = open_leases(settings.database_url, settings.home)
        self._runner: Runner | None = None
        self._stopping = threading.Event()
        self._client = self._migrated_client()
        self._parking = Parking(
            journal, self._keys, settings.person_running, self._stored, self._client.cancel_workflow, self._queue_again
        )

    def _migrated_client(self) -> DBOSClient:
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS.migrate(system_database_url=self._url)
        return DBOSClient(system_database_url=self._url, serializer=DBOSPortableJSONSerializer())

    def close(self) -> None:
        self._client.destroy()
        self._leases.close()

    # --- asking -----------------------------------------------------------------------------------------------

    def submit(self, request: BuildRequest, *, person: bool) -> Build:
        """Queue a build, or return the one already under way that makes the same things (and perhaps more).

        A build that ended is begun again, as a new attempt: whoever asks has looked at the Hub and found it missing.
        """
        # Counted first: who asks for the same after that is found under way, or gets the same number.
        attempts = self._attempts(request.key)
        for other in self.unfinished_builds():
            if request.covered_by(other.request):
                return self._hurried(other) if person and not other.person else other
        self._enqueue(f"{request.key}-{len(attempts) + 1}", request, person=person)
        return self.build(f"{request.key}-{len(attempts) + 1}")

    def _hurried(self, build: Build) -> Build:
        """The same build as a person's: what a person asks for does not wait behind the watcher's."""
        if build.phase is not Phase.WAITING:
            return build
        # First the new attempt, then the end of the old one: a worker that dies in between loses nothing.
        hurried = f"{build.request.key}-{len(self._attempts(build.request.key)) + 1}"
        self._enqueue(hurried, build.request, person=True)
        self._client.cancel_workflow(build.id)
        return self.build(hurried)

    def _enqueue(self, workflow: str, request: BuildRequest, *, person: bool) -> None:
        self._client.enqueue(
            {
                "queue_name": queue(request.backend),
                "workflow_name": "build",
                "workflow_id": workflow,
                "app_version": WORKFLOW_VERSION,
                "priority": self._priority(request.asker) if person else WATCHER,
            },
            request.model_dump(mode="json"),
            person,
        )

    def _priority(self, asker: str | None) -> int:
        ahead = 0 if asker is None else sum(b.request.asker == asker for b in self.unfinished_builds())
        return min(PERSON + ahead, LAST_PERSON)

    def _queue_again(self, status: Any) -> None:
        backend = status.input["args"][0]["backend"]
        self._client.resume_workflow(status.workflow_id, queue_name=queue(backend))

    def wake(self) -> None:
        """Queue the builds that waited for what is there now: somebody has signed in."""
        self._parking.wake(self._me)

    @property
    def _me(self) -> str:
        return DBOS.executor_id if self._runner is not None else ""

    def _attempts(self, key: str) -> list[Build]:
        found = [self._view(s, (), {}) for s in self._stored(workflow_id_prefix=f"{key}-")]
        return sorted(found, key=lambda b: int(b.id.rsplit("-", 1)[1]))

    def latest(self, request: BuildRequest) -> Build | None:
        """The newest build that made, or was to make, all that is requested; None if there was none."""
        return next((b for b in self.builds(500) if request.covered_by(b.request)), None)

    def builds(self, limit: int = 50) -> tuple[Build, ...]:
        """The newest builds, newest first."""
        found = self._stored(limit=limit, sort_desc=True)
        parked = self._journal.parked()
        waiting = self._waiting(parked)
        return tuple(self._view(s, waiting, parked) for s in found)

    def _stored(self, **which: Any) -> list[Any]:
        """Stored builds. Those of an older version, whose requests had another form, are planned again instead."""
        return list(self._client.list_workflows(name="build", app_version=WORKFLOW_VERSION, **which))

    def _waiting(self, parked: dict[str, Awaits]) -> list[Any]:
        waiting = self._stored(status="ENQUEUED", load_output=False)
        if turns := [build for build, awaits in parked.items() if awaits is Awaits.TURN]:
            waiting += self._stored(status="CANCELLED", workflow_ids=turns, load_output=False)
        return sorted(waiting, key=lambda s: (s.priority or 0, s.created_at or 0))

    def unfinished_builds(self) -> tuple[Build, ...]:
        """Every build that waits or runs, whatever it waits for."""
        parked = self._journal.parked()
        found = self._stored(status=["ENQUEUED", "PENDING"], load_output=False)
        if parked:
            found += self._stored(status="CANCELLED", workflow_ids=list(parked), load_output=False)
        return tuple(self._view(s, (), parked) for s in found)

    def unfinished(self) -> int:
        """How many builds of the enabled backends wait or run. Others may wait here for other workers, or for somebody
        to sign in.
        """
        mine = {backend.id for backend in recipes.enabled(self._settings)}
        builds = [build for build in self.unfinished_builds() if build.awaits is not Awaits.SIGN_IN]
        return sum(build.request.backend in mine for build in builds)

    def queued(self) -> Counter[tuple[str, Phase]]:
        """How many builds are waiting and how many are running, by backend."""
        return Counter((build.request.backend, build.phase) for build in self.unfinished_builds())

    def build(self, prefix: str, seen: Callable[[BuildRequest], bool] = lambda _: True) -> Build:
        """The build whose id starts with `prefix` (the newest attempt, when it names several of one build). One that
        is not `seen` is as good as not there.

        Raises:
            UsageError: no such build, or several different ones.
        """
        found = self._stored(workflow_id_prefix=prefix) if prefix.strip() else []
        found = [s for s in found if seen(BuildRequest.model_validate(s.input["args"][0]))]
        builds = {s.workflow_id.rsplit("-", 1)[0]: s for s in sorted(found, key=lambda s: s.created_at or 0)}
        if len(builds) != 1:
            problem = "names several builds" if builds else "is not a build"
            raise UsageError(f"{prefix!r} {problem}.", "`phimill status` lists them.")
        parked = self._journal.parked()
        return self._view(next(iter(builds.values())), self._waiting(parked), parked)

    def steps(self, build: str) -> tuple[str, ...]:
        """The names of the steps that a build has finished, in order."""
        done = self._client.list_workflow_steps(build) or ()
        return tuple(step["function_name"] for step in done if step["error"] is None)

    def cancel(self, prefix: str) -> Build:
        """Stop a build for good; its running child dies within a second or two."""
        build = self.build(prefix)
        if not build.over:
            self._journal.unpark(build.id)
            self._client.cancel_workflow(build.id)
        return self.build(build.id)

    def retry(self, prefix: str) -> Build:
        """Begin a failed or cancelled build again, as a new attempt that reuses what the old one finished."""
        build = self.build(prefix)
        if build.phase is Phase.DONE or not build.over:
            raise UsageError(
                f"Build {build.id[:8]} is {build.phase}.", "Only failed and cancelled builds are retried."
            )
        return self.submit(build.request, person=build.person)

    def pause(self) -> None:
        """No build, on any worker, begins another step until `resume`."""
        self._journal.set_note("paused", "yes")

    def resume(self) -> None:
        self._journal.set_note("paused", "")

    @property
    def paused(self) -> bool:
        return bool(self._journal.note("paused"))

    def cancelled(self, build: str) -> bool:
        """Whether a build was cancelled (by anyone, anywhere)."""
        found = self._client.list_workflows(workflow_ids=[build], load_input=False, load_output=False)
        return bool(found) and found[0].status == "CANCELLED"

    def _view(self, status: Any, waiting: Sequence[Any], parked: dict[str, Awaits]) -> Build:
        request, person = status.input["args"]
        queue = [other.workflow_id for other in waiting if other.input["args"][0]["backend"] == request["backend"]]
        awaits = parked.get(status.workflow_id) if status.status == "CANCELLED" else None
        outcome = Outcome.model_validate(status.output) if status.status == "SUCCESS" else Outcome()
        failure = outcome.failure
        if status.status in ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
            failure = Failure(code="error", message="The build's worker failed in a way it could not explain.",
                              hint="Look at the worker's own log.")  # fmt: skip
        phase = {"ENQUEUED": Phase.WAITING, "DELAYED": Phase.WAITING, "PENDING": Phase.RUNNING,
                 "CANCELLED": Phase.CANCELLED}.get(status.status, Phase.FAILED if failure else Phase.DONE)  # fmt: skip
        if awaits is not None:
            phase = Phase.WAITING
        return Build(
            id=status.workflow_id,
            request=BuildRequest.model_validate(request),
            phase=phase,
            person=person,
            created=_when(status.created_at),
            finished=_when(status.updated_at) if phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED) else None,
            results=outcome.results,
            failure=failure,
            progress=self._journal.progress(status.workflow_id) if phase is Phase.RUNNING else None,
            position=queue.index(status.workflow_id) + 1 if status.workflow_id in queue else None,
            awaits=awaits,
        )

    # --- working ----------------------------------------------------------------------------------------------

    def working_here(self) -> bool:
        """Whether this process takes builds."""
        return _current is self and not self.stopping

    def others_working(self) -> bool:
        """Whether another living process takes builds."""
        return self._leases.held()

    @contextmanager
    def working(self, runner: Runner) -> Iterator[None]:
        """Take builds while inside, one at a time of each backend. What is in hand on the way out is left to the next
        worker.
        """
        global _current
        worker = self._join()
        self._runner, _current = runner, self
        self._stopping.clear()
        DBOS(config=self._config(worker))
        queues = [queue(backend.id) for backend in recipes.enabled(self._settings)]
        DBOS.listen_queues(queues)
        DBOS.launch()
        for name in queues:
            DBOS.register_queue(name, worker_concurrency=1, polling_interval_sec=0.5, on_conflict="always_update")
        rescuer = threading.Thread(target=self._rescue_forever, name="phimill-rescuer", daemon=True)
        rescuer.start()
        try:
            yield
        finally:
            self._stopping.set()
            rescuer.join()
            DBOS.destroy(workflow_completion_timeout_sec=10)
            _current = None
            self._leases.release(worker)

    def _join(self) -> str:
        while True:
            worker = uuid.uuid4().hex
            if self._leases.take(worker):
                return worker

    def _config(self, worker: str) -> DBOSConfig:
        return DBOSConfig(
            name="phimill",
            system_database_url=self._url,
            application_version=WORKFLOW_VERSION,
            executor_id=worker,
            serializer=DBOSPortableJSONSerializer(),
            log_level="ERROR",
            max_executor_threads=8,
            # Its listener thread leaves a connection behind; a queue of builds can be polled.
            use_listen_notify=False,
        )

    @property
    def stopping(self) -> bool:
        """Whether this worker is on its way out: a step in hand should end soon, by an exception."""
        return self._stopping.is_set()

    def perform(self, request: dict[str, Any], *, person: bool) -> Outcome:
        """Run one build in this thread. Called by the workflow."""
        build = str(DBOS.workflow_id)
        if self._runner is None:
            raise RuntimeError("nobody is working")
        cancelled = _throttled(lambda: self.stopping or self.cancelled(build))
        asked = BuildRequest.model_validate(request)
        steps = Steps(
            build, self._journal, metrics.timed(asked.backend, _durably), cancelled, lambda: self.paused,
            person=person, await_sign_in=lambda: self._parking.park(build, Awaits.SIGN_IN),
        )  # fmt: skip
        with self._parking.turn(build, asked.asker, self._me), metrics.building(asked.backend) as ended:
            return ended(self._runner(asked, steps))

    def _rescue_forever(self) -> None:
        while not self._stopping.is_set():
            try:
                self._leases.held()  # a dropped connection is noticed, and our own lease taken again
                self._rescue()
                self._parking.wake(self._me)
                self._keys.keep_only({b.request.asker for b in self.unfinished_builds() if b.request.asker})
            except Exception:
                # A database that is away for a moment must not end rescuing for the life of this process.
                log.exception("Looking for dead workers failed; trying again.")
            self._stopping.wait(RESCUE_SECONDS)

    def _rescue(self) -> None:
        """Queue the builds of dead workers again. The dead one's lease is held meanwhile, so only one rescues."""
        for worker in {s.executor_id for s in self._stored(status="PENDING")}:
            if worker is None or worker == DBOS.executor_id:
                continue
            with leased(self._leases, worker) as dead:
                if dead:
                    for build in self._stored(status="PENDING", executor_id=worker):
                        self._client.resume_workflow(build.workflow_id, queue_name=build.queue_name)


def _durably(name: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return DBOS.run_step({"name": name}, action)


def _when(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)


def _throttled(ask: Callable[[], bool], seconds: float = 1.0) -> Callable[[], bool]:
    """`ask`, but at most once in `seconds`; once true, true for good."""
    last = {"at": 0.0, "answer": False}

    def answer() -> bool:
        if not last["answer"] and time.monotonic() - last["at"] >= seconds:
            last["answer"], last["at"] = ask(), time.monotonic()
        return bool(last["answer"])

    return answer
