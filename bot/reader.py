"""What somebody may read of a release and of our repos: verdicts, plans, advice, figures, cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huggingface_hub import get_token
from pydantic import Field

from bot import advisor, card, catalog, comparison, devices, preflight, recipes
from bot.advisor import Advice
from bot.comparison import Compared
from bot.documents import documents
from bot.hub import Hub
from bot.models import Frozen, Release, RepoRef, Verdict
from bot.planning import Plan, Planning
from bot.publication import CARD_PATH, Summary
from bot.publisher import Publisher
from bot.recipes import Snippet
from bot.reconciler import standing
from bot.settings import Settings
from bot.visitor import Visitor


class CheckReport(Frozen):
    """The verdict on a release. `published` maps recipes to the tag they already stand under, `places` to the repo."""

    release: Release
    verdicts: tuple[Verdict, ...]
    published: dict[str, str]
    places: dict[str, str] = Field(default_factory=dict)


class Preview(Frozen):
    """What stands in a target repo now: its files, and the card it would get today."""

    repo: str
    files: tuple[str, ...]
    card: str


class Reader:
    """What `by` may read, with a `hub` and a `publisher` of theirs. `ours` names the mill's own namespace."""

    def __init__(
        self, settings: Settings, hub: Hub, publisher: Publisher, ours: Callable[[], str], by: Visitor
    ) -> None:
        self._settings = settings
        self._hub = hub
        self.publisher = publisher
        self._ours = ours
        self._by = by

    def check(self, text: str, namespace: str | None = None) -> CheckReport:
        """The verdict per recipe of every backend, from metadata alone."""
        release, verdicts = self._look(text)
        made_from = catalog.classify_files(release).made_from
        there = {
            recipe: (repo, mark.version)
            for repo, summary in self._standing(release, namespace).items()
            for recipe, mark in summary.recipes.items()
            if mark.made_from == made_from and mark.version
        }
        return CheckReport(
            release=release,
            verdicts=verdicts,
            published={recipe: tag for recipe, (_, tag) in there.items()},
            places={recipe: repo for recipe, (repo, _) in there.items()},
        )

    def pull(self, repo: str) -> tuple[Snippet, ...]:
        """How to get and run what stands in a repo of ours, as its card says it. Nothing for a repo without variants.

        Raises:
            NotOurs: it was not made by phimill.
        """
        held = self.publisher.head(repo).publication
        if held is None or not held.variants:
            return ()
        ways = card.pull(held, recipes.backends()[held.backend])
        return tuple(Snippet(title=t, language=lang, install=first, code=code) for t, lang, first, code in ways)

    def advise(
        self,
        text: str,
        device: str,
        memory: int | None = None,
        context: int | None = None,
        namespace: str | None = None,
    ) -> Advice:
        """Which variant of a release to run on a device with so many bytes of memory, for so many tokens of context.

        Raises:
            UsageError: there is no such device.
        """
        asked = devices.device(device)
        release, verdicts = self._look(text)
        return advisor.advise(release, verdicts, self._standing(release, namespace), asked, memory, context)

    def compare(self, text: str) -> tuple[Compared, ...]:
        """Every published variant of a release, with its figures, from the receipts in our repos.

        Costs a listing of our repos and some calls for each that holds this release.
        """
        repo = RepoRef.parse(text, self._settings.endpoint).repo
        there = standing(self._hub, self._ours())
        held = sorted(name for (source, _), repos in there.items() if source == repo for name in repos)
        return tuple(
            row for name in held if (state := self.publisher.head(name).publication) for row in comparison.rows(state)
        )

    def plan(
        self, text: str, asked: Sequence[str] = (), namespace: str | None = None, *, private: bool = False
    ) -> Plan:
        """What it takes to have these recipes (by default, each backend's default ones) of a release published.

        What somebody else than the operator asks for goes to their own account by default, with their own token.
        """
        planning = Planning(self._settings, self._hub, self.publisher)
        if self._by.operator:
            return planning.plan(text, asked, namespace or self._ours(), private=private)
        name = self._by.name
        return planning.plan(text, asked, namespace or str(name), asker=name, private=private)

    def preview(self, plan: Plan) -> tuple[Preview, ...]:
        """What the plan's target repos hold now, and the exact card they would get today."""
        previews = []
        for repo in plan.repos:
            head = self.publisher.head(repo)
            if head.sha is not None and head.publication is not None:
                backend = recipes.backends()[head.publication.backend]
                files = tuple(f.path for f in self._hub.tree(repo, head.sha))
                shown = documents(backend, head.publication, self._hub.endpoint)[CARD_PATH].decode()
                previews.append(Preview(repo=repo, files=files, card=shown))
        return tuple(previews)

    def _look(self, text: str) -> tuple[Release, tuple[Verdict, ...]]:
        release = catalog.release(self._hub, RepoRef.parse(text, self._settings.endpoint))
        return release, preflight.verdicts(release, recipes.all_recipes(), self._hub, self._settings)

    def _standing(self, release: Release, namespace: str | None) -> dict[str, Summary]:
        """Our repos of this source, and what they say they hold. Nothing where nobody knows where to look."""
        where = namespace or self._settings.namespace
        if where is None:
            if not self._by.operator or not get_token():
                return {}
            where = self._ours()
        found = standing(self._hub, where).items()
        return {name: held for (source, _), repos in found if source == release.repo for name, held in repos.items()}
