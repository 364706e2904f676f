"""The dashboard's table: every watched release x every default recipe, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bot import recipes, toolchain
from bot.builds import Build, Phase
from bot.catalog import Candidate
from bot.models import Frozen, Recipe
from bot.publication import Standing, Summary
from bot.recipes import Backend

State = Literal["published", "building", "waiting", "refused", "failed", "stale", "missing"]


class ReleaseRow(Frozen):
    """One recipe of one release. `url` is where to look at it on the Hub, `kl` its mean KL in nats."""

    repo: str
    sha: str
    recipe: str
    state: State
    detail: str = ""
    url: str | None = None
    tag: str | None = None
    kl: float | None = None


def rows(
    candidates: Sequence[Candidate],
    backends: Sequence[Backend],
    standing: Standing,
    builds: Sequence[Build],
    why: dict[tuple[str, str], str],
    namespace: str,
    endpoint: str,
) -> tuple[ReleaseRow, ...]:
    """The table, from one look at the Hub (`candidates`, `standing`) and at the queue (`builds`, newest first)."""
    table = []
    for candidate in candidates:
        for backend in backends:
            published = standing.get((candidate.repo, backend.id), {})
            newest = next(
                (b for b in builds if b.request.repo == candidate.repo and b.request.backend == backend.id),
                None,
            )
            reason = why.get((candidate.repo, backend.id), "")
            for recipe in recipes.defaults(backend.id):
                target = recipe.target(namespace, candidate.repo.split("/")[1])
                table.append(_row(candidate, recipe, published.get(target), newest, f"{endpoint}/{target}", reason))
    return tuple(table)


def _row(
    candidate: Candidate, recipe: Recipe, published: Summary | None, build: Build | None, url: str, why: str
) -> ReleaseRow:
    row = ReleaseRow(repo=candidate.repo, sha=candidate.sha, recipe=recipe.id, state="missing", detail=why)
    if why:
        row = row.model_copy(update={"state": "refused"})
    if published is not None and (mark := published.recipes.get(recipe.id)) is not None:
        current = mark.digest == recipe.digest and mark.toolchain == toolchain.lock_digest(recipe.backend)
        fresh = published.source_sha == candidate.sha and current
        row = row.model_copy(
            update={
                "state": "published" if fresh else "stale",
                "detail": "" if fresh else "upstream or the converter moved on",
                "url": url,
                "tag": mark.version,
                "kl": mark.kl_mean,
            }
        )
    elif published is not None and recipe.id in published.declined:
        row = row.model_copy(update={"state": "refused", "detail": "the card says why", "url": url})
    if build is not None and recipe.id in build.request.recipes and row.state != "published":
        row = row.model_copy(update=_under_way(build))
    return row


def _under_way(build: Build) -> dict[str, str]:
    if build.phase is Phase.RUNNING:
        return {"state": "building", "detail": f"build {build.id[:8]}"}
    if build.phase is Phase.WAITING:
        return {"state": "waiting", "detail": f"build {build.id[:8]}"}
    if build.phase is Phase.FAILED:
        return {"state": "failed", "detail": build.failure.message if build.failure else ""}
    return {}
