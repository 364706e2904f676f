"""A page with a thousand releases: `python -m benchmarks.crowd_server PORT LOG`. Only the Hub's lists are made up."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn

from bot import recipes, releases, toolchain
from bot.api import answer_promptly, create_app
from bot.catalog import OWN_BLOCK, Candidate
from bot.hub import RepoSummary
from bot.mill import Mill
from bot.models import Recipe
from bot.publication import RecipeMark, SourceDigests, Summary
from bot.recipes import Backend
from bot.reconciler import OurRepos
from bot.releases import ReleaseRow
from bot.search import Search
from bot.settings import Settings

RELEASES, VARIANTS, OWNER = 1000, 16, "phimill"
DIGESTS = SourceDigests(weights="a" * 64, assets="b" * 64, readme="c" * 64)


class Sources:
    """What the Hub would list of the watched organisation: the releases."""

    def __init__(self, candidates: list[Candidate]) -> None:
        self._repos = [RepoSummary(repo=c.repo, sha=c.sha, architectures=(c.architecture,)) for c in candidates]

    def list_org(self, _org: str) -> list[RepoSummary]:
        return self._repos

    def search(self, words: str) -> list[RepoSummary]:
        return [repo for repo in self._repos if words in repo.repo]


class Lists:
    """What the Hub would list of our own: three of four repos of each release are there, some of an older commit."""

    def __init__(self, candidates: list[Candidate], backends: list[Backend]) -> None:
        self._repos = [
            _published(candidate.repo, candidate.sha if number % 9 else "f" * 40, repo, own, number)
            for number, candidate in enumerate(candidates)
            for backend in backends[: 3 + number % 2]
            for repo, own in recipes.by_target(backend.recipes, OWNER, candidate.repo.split("/")[1]).items()
        ]

    def list_org(self, _org: str) -> list[RepoSummary]:
        return self._repos


class CrowdedMill(Mill):
    """A mill with its real journal and queue, and the table made as ever from a thousand releases."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._backends = sixteen()
        self._candidates = [
            Candidate(
                repo=f"microsoft/Phi-{n // 10}.{n % 10}-instruct", sha=f"{n:040x}", architecture="Phi3ForCausalLM"
            )
            for n in range(RELEASES)
        ]
        lists: Any = Lists(self._candidates, self._backends)
        self._ours = OurRepos(lists, OWNER)
        sources: Any = Sources(self._candidates)
        self._search = self._public_search = Search(sources, settings.watch)
        for number, candidate in enumerate(self._candidates[::7]):
            name = f"{releases.WHY}{candidate.repo}:{self._backends[number % 4].id}"
            self.journal.set_note(name, "The vocabulary is larger than the tokenizer's.")

    def releases(self) -> tuple[ReleaseRow, ...]:
        notes = self.journal.notes(releases.WHY) | self.journal.notes(releases.UNSUITED)
        return self._table.rows(self._candidates, self._backends, self._ours.look(), self.builds(500), notes)


def _published(source: str, sha: str, repo: str, own: tuple[Recipe, ...], number: int) -> RepoSummary:
    lock = toolchain.lock_digest(own[0].backend)
    marks = {
        recipe.id: RecipeMark(digest=recipe.digest, toolchain=lock, version="v1.0", bytes=10**9, kl_mean=0.01)
        for recipe in own
    }
    said = Summary(
        backend=own[0].backend, source=source, source_sha=sha, digests=DIGESTS, version="v1.0", complete=True,
        recipes=marks,
    )  # fmt: skip
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    return RepoSummary(repo=repo, sha="e" * 40, last_modified=when, card={OWN_BLOCK: said.model_dump(mode="json")})


def sixteen() -> list[Backend]:
    """The backends with so many of their default recipes that a release has sixteen variants."""
    each = VARIANTS // len(recipes.backends())
    return [
        backend.model_copy(update={"recipes": recipes.defaults(backend.id)[:each]})
        for backend in recipes.backends().values()
    ]


if __name__ == "__main__":
    with open(sys.argv[2], "a") as log:
        sys.stdout = sys.stderr = log
        mill = CrowdedMill(Settings(namespace=OWNER))
        app = create_app(mill)
        answer_promptly()
        uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
