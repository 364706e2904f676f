"""The one seam to the durable engine, DBOS: queue builds, look at them, stop them, and have this process take them.

What is stored is `store.py`, who takes it `worker.py`, and what waits for a person `parking.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from bot import recipes
from bot.builds import Awaits, Build, BuildRequest, Failure, Phase
from bot.errors import UsageError
from bot.journal import Journal
from bot.liveness import open_leases
from bot.parking import Parking
from bot.settings import Settings
from bot.steps import Outcome, Runner
from bot.store import Store
from bot.tokens import Keyring
from bot.worker import Worker

# Lower goes first; equal goes oldest first. Each further build of one person goes behind the first ones of others.
PERSON, LAST_PERSON, WATCHER = 1, 9, 10


class Engine:
    """Queue, run, look at, cancel and retry builds. One per process."""

    def __init__(self, settings: Settings, journal: Journal, keys: Keyring | None = None) -> None:
        self._settings = settings
        self._journal = journal
        self._keys = keys or Keyring()
        settings.home.mkdir(parents=True, exist_ok=True)
        self._leases = open_leases(settings.database_url, settings.home)
        self._store = Store(settings)
        self._parking = Parking(journal, self._keys, settings.person_running, self._store)
        self._worker: Worker | None = None

    def close(self) -> None:
        self._store.close()
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
        self._store.cancel(build.id)
        return self.build(hurried)

    def _enqueue(self, build: str, request: BuildRequest, *, person: bool) -> None:
        priority = self._priority(request.asker) if person else WATCHER
        self._store.enqueue(build, request, priority, person=person)

    def _priority(self, asker: str | None) -> int:
        ahead = 0 if asker is None else sum(b.request.asker == asker for b in self.unfinished_builds())
        return min(PERSON + ahead, LAST_PERSON)

    def wake(self) -> None:
        """Queue the builds that waited for what is there now: somebody has signed in."""
        worker = self._worker
        self._parking.wake(worker.name if worker else "")

    def _attempts(self, key: str) -> list[Build]:
        found = [self._view(s, (), {}) for s in self._store.stored(workflow_id_prefix=f"{key}-")]
        return sorted(found, key=lambda b: int(b.id.rsplit("-", 1)[1]))

    def latest(self, request: BuildRequest) -> Build | None:
        """The newest build that made, or was to make, all that is requested; None if there was none."""
        return next((b for b in self.builds(500) if request.covered_by(b.request)), None)

    def builds(self, limit: int = 50) -> tuple[Build, ...]:
        """The newest builds, newest first."""
        found = self._store.stored(limit=limit, sort_desc=True)
        parked = self._journal.parked()
        waiting = self._waiting(parked)
        return tuple(self._view(s, waiting, parked) for s in found)

    def _waiting(self, parked: dict[str, Awaits]) -> list[Any]:
        waiting = self._store.stored(status="ENQUEUED", load_output=False)
        if turns := [build for build, awaits in parked.items() if awaits is Awaits.TURN]:
            waiting += self._store.stored(status="CANCELLED", workflow_ids=turns, load_output=False)
        return sorted(waiting, key=lambda s: (s.priority or 0, s.created_at or 0))

    def unfinished_builds(self) -> tuple[Build, ...]:
        """Every build that waits or runs, whatever it waits for."""
        found, parked = self._parking.unfinished()
        return tuple(self._view(status, (), parked) for status in found)

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
        found = self._store.stored(workflow_id_prefix=prefix) if prefix.strip() else []
        found = [s for s in found if seen(BuildRequest.model_validate(s.input["args"][0]))]
        builds = {s.workflow_id.rsplit("-", 1)[0]: s for s in sorted(found, key=lambda s: s.created_at or 0)}
        if len(builds) != 1:
            problem = "names several builds" if builds else "is not a build"
            raise UsageError(f"{prefix!r} {problem}.", "`phimill status` lists them.")
        parked = self._journal.parked()
        return self._view(next(iter(builds.values())), self._waiting(parked), parked)

    def steps(self, build: str) -> tuple[str, ...]:
        """The names of the steps that a build has finished, in order."""
        return self._store.steps(build)

    def cancel(self, prefix: str) -> Build:
        """Stop a build for good; its running child dies within a second or two."""
        build = self.build(prefix)
        if not build.over:
            self._journal.unpark(build.id)
            self._store.cancel(build.id)
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
        self._journal.pause(paused=True)

    def resume(self) -> None:
        self._journal.pause(paused=False)

    @property
    def paused(self) -> bool:
        return self._journal.paused

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
        worker = self._worker
        return worker is not None and not worker.stopping

    def others_working(self) -> bool:
        """Whether another living process takes builds."""
        return self._leases.held()

    @contextmanager
    def working(self, runner: Runner) -> Iterator[None]:
        """Take builds of the enabled backends while inside, one at a time of each. What is in hand on the way out is
        left to the next worker.
        """
        self._worker = Worker(self._store, self._journal, self._keys, self._leases, self._parking, runner)
        try:
            with self._worker.working([backend.id for backend in recipes.enabled(self._settings)]):
                yield
        finally:
            self._worker = None


def _when(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
