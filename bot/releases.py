"""The dashboard's table: every watched release x every recipe that is made of it, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from bot import toolchain
from bot.builds import Build, Phase
from bot.catalog import Candidate
from bot.hub import RepoSummary
from bot.models import Frozen, Recipe
from bot.publication import Summary
from bot.recipes import Backend

State = Literal["published", "building", "waiting", "refused", "failed", "stale", "unsuited", "missing"]
# What the reconciler notes per release and backend: why nothing of it is made, and, as JSON by recipe, why it leaves
# one out. Their names go on with `repo:backend`.
WHY, UNSUITED = "why:", "unsuited:"
MOVED = "The source has changed since."
RENEWED = "The converter has changed since."


class ReleaseRow(Frozen):
    """One recipe of one release. `url` is where to look at it on the Hub, `kl` its mean KL in nats, `date` when its
    repo was last written to. `build` is the id of the build that `state` comes from. `unsuited`: the recipe is for
    releases of another kind. `private`: whoever may not see the repo may not see this.
    """

    repo: str
    sha: str
    recipe: str
    state: State
    detail: str = ""
    url: str | None = None
    tag: str | None = None
    kl: float | None = None
    date: datetime | None = None
    build: str | None = None
    private: bool = False


# Our own repos, as their listing and their cards describe them.
Ours = Sequence[tuple[RepoSummary, Summary]]


def public(rows: Iterable[ReleaseRow]) -> tuple[ReleaseRow, ...]:
    """The rows as strangers may see them: what stands in a private repo is not there."""
    return tuple(
        ReleaseRow(repo=row.repo, sha=row.sha, recipe=row.recipe, state="missing") if row.private else row
        for row in rows
    )


class Table:
    """The table of one mill. It keeps what it made of a release for as long as it would make the same again: there may
    be a thousand of them, and the whole page waits while Python is busy.
    """

    def __init__(self, namespace: str, endpoint: str) -> None:
        self._namespace, self._endpoint = namespace, endpoint
        # By release and backend: what was seen, and what was made of it.
        self._made: dict[tuple[str, str], tuple[_Seen, tuple[ReleaseRow, ...]]] = {}

    def rows(
        self,
        candidates: Sequence[Candidate],
        backends: Sequence[Backend],
        ours: Ours,
        builds: Sequence[Build],
        notes: Mapping[str, str],
    ) -> tuple[ReleaseRow, ...]:
        """The table, from one look at the Hub (`candidates`, `ours`) and at the queue (`builds`, newest first)."""
        look = _Look(backends, ours, builds, notes, self._namespace, self._endpoint)
        before, made = self._made, {}
        for candidate in candidates:
            for backend in backends:
                of, seen = (candidate.repo, backend.id), look.seen(candidate, backend)
                kept = before.get(of)
                made[of] = kept if kept and kept[0] == seen else (seen, tuple(look.rows(candidate, backend, seen)))
        self._made = made
        return tuple(row for _, own in made.values() for row in own)


class _There(NamedTuple):
    """What stands in a repo of ours, and what the listing says of the repo."""

    summary: Summary
    private: bool
    date: datetime | None


class _Seen(NamedTuple):
    """Everything that the rows of one release and backend are made of."""

    sha: str
    made_with: Mapping[str, tuple[str, str]]
    there: Mapping[str, _There]  # by repo
    build: Build | None
    unsuited: str
    why: str


class _Look:
    """Everything that was seen, arranged so that each row is found at once."""

    def __init__(
        self,
        backends: Sequence[Backend],
        ours: Ours,
        builds: Sequence[Build],
        notes: Mapping[str, str],
        namespace: str,
        endpoint: str,
    ) -> None:
        self._notes, self._namespace, self._endpoint = notes, namespace, endpoint
        # Worked out once, for there may be a thousand releases: what a variant would be made with today, and a recipe
        # for each kind of repo that a backend publishes to.
        self._made_with = {
            backend.id: {recipe.id: (recipe.digest, lock) for recipe in backend.recipes}
            for backend in backends
            for lock in [toolchain.lock_digest(backend.id)]
        }
        self._kinds = {
            backend.id: tuple({recipe.repo: recipe for recipe in backend.recipes}.values()) for backend in backends
        }
        self._ours = {(summary.source, listed.repo): (listed, summary) for listed, summary in ours}
        self._newest: dict[tuple[str, str], Build] = {}
        for build in builds:
            if build.request.namespace == namespace:
                self._newest.setdefault((build.request.repo, build.request.backend), build)

    def seen(self, candidate: Candidate, backend: Backend) -> _Seen:
        of, model = f"{candidate.repo}:{backend.id}", candidate.repo.split("/")[1]
        there = {}
        for kind in self._kinds[backend.id]:
            if found := self._ours.get((candidate.repo, kind.target(self._namespace, model))):
                listed, summary = found
                there[listed.repo] = _There(summary, listed.private, listed.last_modified)
        return _Seen(
            candidate.sha, self._made_with[backend.id], there, self._newest.get((candidate.repo, backend.id)),
            self._notes.get(UNSUITED + of) or "{}", self._notes.get(WHY + of, ""),
        )  # fmt: skip

    def rows(self, candidate: Candidate, backend: Backend, seen: _Seen) -> Iterator[ReleaseRow]:
        unsuited = json.loads(seen.unsuited)
        for recipe in backend.recipes:
            known = self._known(candidate, recipe, seen)
            if not known and not recipe.default:
                continue
            if not known:
                known = _unmade(unsuited.get(recipe.id, ""), seen.why)
            yield ReleaseRow(repo=candidate.repo, sha=candidate.sha, recipe=recipe.id, **known)

    def _known(self, candidate: Candidate, recipe: Recipe, seen: _Seen) -> dict[str, Any]:
        target = recipe.target(self._namespace, candidate.repo.split("/")[1])
        known: dict[str, Any] = {}
        if there := seen.there.get(target):
            known = _standing(candidate, recipe, there, f"{self._endpoint}/{target}", seen.made_with[recipe.id])
        if seen.build is not None and recipe.id in seen.build.request.recipes and known.get("state") != "published":
            known |= _under_way(seen.build, recipe)
        return known


def _unmade(unsuited: str, why: str) -> dict[str, Any]:
    if unsuited:
        return {"state": "unsuited", "detail": unsuited}
    return {"state": "refused", "detail": why} if why else {"state": "missing"}


def _standing(
    candidate: Candidate, recipe: Recipe, there: _There, url: str, made_with: tuple[str, str]
) -> dict[str, Any]:
    summary, private, date = there
    mark, where = summary.recipes.get(recipe.id), {"url": url, "private": private}
    if mark is None:
        declined = recipe.id in summary.declined
        return {"state": "refused", "detail": "Its card says why.", **where} if declined else {}
    moved = summary.source_sha != candidate.sha
    stale = moved or (mark.digest, mark.toolchain) != made_with
    return where | {
        "state": "stale" if stale else "published",
        "detail": (MOVED if moved else RENEWED) if stale else "",
        "tag": mark.version,
        "kl": mark.kl_mean,
        "date": date,
    }


def _under_way(build: Build, recipe: Recipe) -> dict[str, Any]:
    """What a build says of one of its recipes; nothing where it ended well or was cancelled."""
    if build.phase in (Phase.RUNNING, Phase.WAITING):
        return {"state": "building" if build.phase is Phase.RUNNING else "waiting", "detail": "", "build": build.id}
    ended = next((result for result in build.results if result.recipe == recipe.id), None)
    if ended is not None and ended.status in ("refused", "gate_failed", "failed"):
        state = "refused" if ended.status == "refused" else "failed"
        return {"state": state, "detail": ended.reason or "", "build": build.id}
    if build.phase is Phase.FAILED and ended is None:
        return {"state": "failed", "detail": build.failure.message if build.failure else "", "build": build.id}
    return {}
