"""One round of the watcher: list what Microsoft has, list what we have, queue the difference. Idempotent.

The Hub is the truth. What is remembered in between (`seen:` notes) only saves calls, and may be lost.
"""

from __future__ import annotations

from bot import catalog, recipes, toolchain
from bot.builds import Build
from bot.card import summary_from_card_data
from bot.catalog import Candidate
from bot.engine import Engine
from bot.errors import PhimillError, error_classes
from bot.hub import Hub
from bot.journal import Journal
from bot.models import BuildRequest, Phase, RepoRef, digest
from bot.planner import settled
from bot.planning import Planning
from bot.publication import Summary
from bot.publisher import Publisher
from bot.recipes import Backend
from bot.settings import Settings


class Reconciler:
    """Brings `namespace` up to date with the watched organisations."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        publisher: Publisher,
        engine: Engine,
        journal: Journal,
        planning: Planning,
        namespace: str,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._publisher = publisher
        self._engine = engine
        self._journal = journal
        self._planning = planning
        self._namespace = namespace
        self._tagged: set[str] = set()

    def reconcile(self, only: RepoRef | None = None) -> tuple[Build, ...]:
        """Queue what is missing. When nothing changed: one listing per organisation, and one of our own repos."""
        standing = self.standing()
        queued = []
        for candidate in catalog.releases(self._hub, self._settings.watch):
            if only is not None and candidate.repo != only.repo:
                continue
            for backend in recipes.backends().values():
                build = self._one(candidate, backend, standing.get((candidate.repo, backend.id)))
                queued.extend([build] if build else [])
        return tuple(queued)

    def standing(self) -> dict[tuple[str, str], Summary]:
        """What our own repos say they hold, by source and backend."""
        backends, found = recipes.backends(), {}
        for repo in self._hub.list_org(self._namespace):
            block = summary_from_card_data(repo.card)
            if block is None or block.backend not in backends:
                continue
            # A copy of our card in some other repo is not our repo.
            if repo.repo == backends[block.backend].target(self._namespace, block.source.split("/")[-1]):
                found[block.source, block.backend] = block
        return found

    def _one(self, candidate: Candidate, backend: Backend, published: Summary | None) -> Build | None:
        wanted = recipes.defaults(backend.id)
        lock = toolchain.lock_digest(backend.id)
        self._repair_tag(candidate, backend, published)
        if settled(candidate.sha, wanted, lock, published):
            return None
        note = f"seen:{candidate.repo}:{backend.id}:{self._namespace}"
        standing = published.model_dump(mode="json") if published else None
        state = digest(candidate.sha, lock, [r.digest for r in wanted], standing)
        if self._journal.note(note) == state:
            return None
        request = self._request(candidate, backend)
        build = None if request is None or self._hopeless(request) else self._engine.submit(request, person=False)
        if build is None:
            self._journal.set_note(note, state)
        return build

    def _request(self, candidate: Candidate, backend: Backend) -> BuildRequest | None:
        """The build this candidate needs. None when nothing of it can be made; the reason goes to the page."""
        why = f"why:{candidate.repo}:{backend.id}"
        try:
            release = catalog.release(self._hub, RepoRef(repo=candidate.repo, revision=candidate.sha))
            chosen = recipes.defaults(backend.id)
            plan = self._planning.plan_backend(backend, release, chosen, self._namespace, remake_stale=False)
        except PhimillError as error:
            if error.retryable:
                raise
            self._journal.set_note(why, str(error))
            return None
        self._journal.set_note(why, "" if plan.request else " ".join(r.reason or "" for r in plan.results[:1]))
        return plan.request

    def _hopeless(self, request: BuildRequest) -> bool:
        """Whether this was cancelled or failed for good: the clock does not begin it again, a person may."""
        latest = self._engine.latest(request)
        if latest is None or latest.phase not in (Phase.FAILED, Phase.CANCELLED):
            return False
        code = latest.failure.code if latest.failure else "cancelled"
        return not error_classes().get(code, PhimillError).retryable

    def _repair_tag(self, candidate: Candidate, backend: Backend, published: Summary | None) -> None:
        """Once per process and version: a complete version has its tag, even if the mill died just before it."""
        if published is None or not published.complete:
            return
        repo = backend.target(self._namespace, candidate.repo.split("/")[1])
        if f"{repo}@{published.version}" in self._tagged:
            return
        state = self._publisher.head(repo).publication
        if state is not None and state.complete and state.version not in self._publisher.tags(repo):
            self._publisher.tag(state)
            self._publisher.collect(state)
        self._tagged.add(f"{repo}@{published.version}")
