"""One round of the watcher: list what Microsoft has, list what we have, queue the difference. Idempotent.

The Hub is the truth. What is remembered in between (`seen:` notes) only saves calls, and may be lost.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence

from bot import VERSION, catalog, problems, recipes, releases, toolchain
from bot.builds import Build, BuildRequest, Phase
from bot.card import summary_from_card_data
from bot.catalog import Candidate
from bot.engine import Engine
from bot.errors import PhimillError
from bot.hub import Hub, RepoSummary
from bot.journal import Journal
from bot.logs import get_logger
from bot.models import Recipe, RepoRef, digest
from bot.planner import settled
from bot.planning import Planning
from bot.publication import Standing, Summary
from bot.publisher import Publisher
from bot.recipes import Backend
from bot.settings import Settings

# How long to wait for somebody to free a disk or to renew a token, before trying again.
AGAIN_SECONDS = 3600.0


log = get_logger(__name__)


class OurRepos:
    """Our own repos, and what they say they hold, from one listing of them. Only what has changed is read again."""

    def __init__(self, hub: Hub, namespace: str) -> None:
        self._hub, self._namespace = hub, namespace
        # One recipe per kind of repo that a backend publishes to: there may be thousands of repos to look at.
        self._kinds = {
            backend.id: tuple({recipe.repo: recipe for recipe in backend.recipes}.values())
            for backend in recipes.backends().values()
        }
        self._read: dict[tuple[str, str], Summary | None] = {}  # by repo and commit; None where it is not ours

    def look(self) -> list[tuple[RepoSummary, Summary]]:
        """What is there now."""
        before, listed = self._read, {(repo.repo, repo.sha): repo for repo in self._hub.list_org(self._namespace)}
        read = {key: before[key] if key in before else self._held(repo) for key, repo in listed.items()}
        self._read = read
        return [(listed[key], held) for key, held in read.items() if held is not None]

    def _held(self, repo: RepoSummary) -> Summary | None:
        block = summary_from_card_data(repo.card)
        if block is None or block.backend not in self._kinds:
            return None
        # A copy of our card in some other repo is not our repo.
        model, kinds = block.source.split("/")[-1], self._kinds[block.backend]
        return block if any(repo.repo == recipe.target(self._namespace, model) for recipe in kinds) else None


def standing(hub: Hub, namespace: str) -> Standing:
    """The same by source and backend, and then by repo."""
    found: Standing = {}
    for repo, block in OurRepos(hub, namespace).look():
        found.setdefault((block.source, block.backend), {})[repo.repo] = block
    return found


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
        there = standing(self._hub, self._namespace)
        queued: list[Build] = []
        late: Exception | None = None
        for candidate in catalog.releases(self._hub, self._settings.watch):
            if only is not None and candidate.repo != only.repo:
                continue
            for backend in recipes.enabled(self._settings):
                try:
                    build = self._one(candidate, backend, there.get((candidate.repo, backend.id), {}))
                except Exception as error:
                    # One bad repo must not keep the others waiting.
                    unforeseen = not isinstance(error, PhimillError)
                    log.warning(
                        "Looking at a release failed.", repo=candidate.repo, error=str(error), exc_info=unforeseen
                    )
                    self._journal.set_note(f"{releases.WHY}{candidate.repo}:{backend.id}", str(error))
                    late = late or error
                    continue
                queued.extend([build] if build else [])
        if late is not None:
            log.warning("A part of this look is left to the next one.", error=str(late))
            if isinstance(late, PhimillError) and late.retryable and not queued:
                raise late
        return tuple(queued)

    def _one(self, candidate: Candidate, backend: Backend, published: dict[str, Summary]) -> Build | None:
        wanted = self._wanted(backend, published)
        lock = toolchain.lock_digest(backend.id)
        for repo, summary in published.items():
            self._repair_tag(repo, summary)
        groups = recipes.by_target(wanted, self._namespace, candidate.repo.split("/")[1])
        if all(settled(candidate.sha, group, lock, published.get(repo)) for repo, group in groups.items()):
            return None
        note = f"seen:{candidate.repo}:{backend.id}:{self._namespace}"
        there = {repo: summary.model_dump(mode="json") for repo, summary in published.items()}
        ours = (VERSION, toolchain.code_path(settings=self._settings).name)
        state = digest(candidate.sha, lock, [r.digest for r in wanted], there, ours)
        seen, _, until = (self._journal.note(note) or "").partition(" ")
        if seen == state and time.time() < float(until):
            return None
        try:
            request = self._request(candidate, backend, wanted)
            if request is not None and (seen == state or self._may_begin(request)):
                self._journal.set_note(note, "")
                return self._engine.submit(request, person=False)
        except PhimillError as error:
            if error.retryable:
                raise
            until = str(time.time() + AGAIN_SECONDS if error.mendable else math.inf)
        else:
            until = str(math.inf)
        self._journal.set_note(note, f"{state} {until}")
        return None

    def _wanted(self, backend: Backend, published: dict[str, Summary]) -> tuple[Recipe, ...]:
        """The default recipes, and whatever else somebody has had made: it is kept up to date with them."""
        there = {name for summary in published.values() for name in summary.recipes}
        return tuple(recipe for recipe in backend.recipes if recipe.default or recipe.id in there)

    def _request(self, candidate: Candidate, backend: Backend, wanted: Sequence[Recipe]) -> BuildRequest | None:
        """The build this candidate needs. None when nothing of it can be made; the reason goes to the page."""
        why = f"{releases.WHY}{candidate.repo}:{backend.id}"
        try:
            release = catalog.release(self._hub, RepoRef(repo=candidate.repo, revision=candidate.sha))
            chosen = [recipe for recipe in wanted if recipe.suits_release(release)]
            left = {r.id: " ".join(problems.unsuited(release, r)) for r in wanted if r not in chosen}
            self._journal.set_note(f"{releases.UNSUITED}{candidate.repo}:{backend.id}", json.dumps(left))
            plan = self._planning.plan_backend(backend, release, chosen, self._namespace, remake_stale=False)
        except PhimillError as error:
            self._journal.set_note(why, str(error))
            raise
        self._journal.set_note(why, "" if plan.request else " ".join(r.reason or "" for r in plan.results[:1]))
        return plan.request

    def _may_begin(self, request: BuildRequest) -> bool:
        """Whether the clock may begin this build: not if it was cancelled or failed for good; a person still may.

        Raises:
            PhimillError: it failed for a reason that somebody may have seen to in a while.
        """
        latest = self._engine.latest(request)  # or one that would have made this and more
        if latest is None or latest.phase is Phase.DONE:
            return True
        error = latest.failure.error() if latest.failure else None
        if error is not None and error.mendable:
            raise error
        return not latest.over or (error is not None and error.retryable)

    def _repair_tag(self, repo: str, published: Summary) -> None:
        """Once per process and version: a complete version has its tag, even if the mill died just before it."""
        if not published.complete or f"{repo}@{published.version}" in self._tagged:
            return
        state = self._publisher.head(repo).publication
        if state is not None:
            for left in self._publisher.untagged(state):
                self._publisher.tag(repo, left)
                self._publisher.collect(state)
        self._tagged.add(f"{repo}@{published.version}")
