"""The mill itself: what every face (CLI, page, API) calls. Looks, plans, queues, follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property

from huggingface_hub import get_token
from pydantic import Field

from bot import advisor, card, catalog, devices, preflight, recipes, releases
from bot.advisor import Advice
from bot.build import Builder
from bot.builds import Build, LogLine, Progress
from bot.engine import Engine
from bot.errors import NotEnoughRoom
from bot.hub import Hub
from bot.journal import Journal
from bot.models import Frozen, Release, RepoRef, Verdict
from bot.planning import Plan, Planning
from bot.publication import CARD_PATH, Summary
from bot.publisher import Publisher, documents
from bot.recipes import Snippet
from bot.reconciler import Reconciler, standing
from bot.releases import ReleaseRow
from bot.search import Found, Search
from bot.settings import Settings, get_settings
from bot.watcher import ticking
from bot.workspace import Workspace

__all__ = ["CheckReport", "Mill", "Plan", "Preview", "ReleaseRow"]

FOLLOW_SECONDS = 0.5
# What a build that is followed says, by its id.
Event = tuple[str, Progress | LogLine | Build]


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


class Mill:
    """One mill on one home. Cheap to make; the database and the Hub are opened when first needed."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or get_settings()
        self._stack = ExitStack()

    @cached_property
    def hub(self) -> Hub:
        return Hub(self.settings.endpoint, get_token())

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.hub, get_token)

    @cached_property
    def planning(self) -> Planning:
        return Planning(self.settings, self.hub, self.publisher)

    @cached_property
    def journal(self) -> Journal:
        home = self.settings.home
        journal = Journal(self.settings.database_url or f"sqlite:///{home / 'journal.sqlite'}")
        self._stack.callback(journal.close)
        return journal

    @cached_property
    def engine(self) -> Engine:
        engine = Engine(self.settings, self.journal)
        self._stack.callback(engine.close)
        return engine

    @cached_property
    def namespace(self) -> str:
        """Where this mill publishes when nobody says otherwise."""
        return self.settings.namespace or self.publisher.account()

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            self.settings, self.hub, self.publisher, self.engine, self.journal, self.planning, self.namespace
        )

    def close(self) -> None:
        """Let go of the database. The mill can not be used afterwards."""
        self._stack.close()

    # --- looking ----------------------------------------------------------------------------------------------

    def check(self, text: str, namespace: str | None = None, *, anonymous: bool = False) -> CheckReport:
        """The verdict per recipe of every backend, from metadata alone.

        With `anonymous` the mill's token is not used on the source: a stranger is shown what strangers may see.
        """
        release, verdicts = self._look(text, anonymous)
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

    @cached_property
    def _search(self) -> Search:
        return Search(self.hub, self.settings.watch)

    @cached_property
    def _public_search(self) -> Search:
        return Search(Hub(self.settings.endpoint), self.settings.watch)

    def search(self, text: str, *, anonymous: bool = False) -> tuple[Found, ...]:
        """Repos by a few letters of their names, Phi releases first; with `anonymous`, what strangers may see."""
        return (self._public_search if anonymous else self._search)(text)

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

    def namespaces(self) -> tuple[str, ...]:
        """The accounts that the mill's token may publish to, the usual one first."""
        return tuple(dict.fromkeys((self.namespace, *self.publisher.namespaces())))

    def advise(
        self,
        text: str,
        device: str,
        memory: int | None = None,
        context: int | None = None,
        namespace: str | None = None,
        *,
        anonymous: bool = False,
    ) -> Advice:
        """Which variant of a release to run on a device with so many bytes of memory, for so many tokens of context.

        Raises:
            UsageError: there is no such device.
        """
        asked = devices.device(device)
        release, verdicts = self._look(text, anonymous)
        return advisor.advise(release, verdicts, self._standing(release, namespace), asked, memory, context)

    def _look(self, text: str, anonymous: bool) -> tuple[Release, tuple[Verdict, ...]]:
        hub = Hub(self.settings.endpoint) if anonymous else self.hub
        release = catalog.release(hub, RepoRef.parse(text, self.settings.endpoint))
        return release, preflight.verdicts(release, recipes.all_recipes(), hub, self.settings)

    def _standing(self, release: Release, namespace: str | None) -> dict[str, Summary]:
        """Our repos of this source, and what they say they hold. Nothing for somebody without a token."""
        where = namespace or self.settings.namespace
        if where is None:
            if not get_token():
                return {}
            where = self.namespace
        found = standing(self.hub, where).items()
        return {name: held for (source, _), repos in found if source == release.repo for name, held in repos.items()}

    def plan(self, text: str, asked: Sequence[str] = (), namespace: str | None = None) -> Plan:
        """What it takes to have these recipes (by default, each backend's default ones) of a release published."""
        return self.planning.plan(text, asked, namespace or self.namespace)

    def preview(self, plan: Plan) -> tuple[Preview, ...]:
        """What the plan's target repos hold now, and the exact card they would get today."""
        previews = []
        for repo in plan.repos:
            head = self.publisher.head(repo)
            if head.sha is not None and head.publication is not None:
                backend = recipes.backends()[head.publication.backend]
                files = tuple(f.path for f in self.hub.tree(repo, head.sha))
                card = documents(backend, head.publication, self.hub.endpoint)[CARD_PATH].decode()
                previews.append(Preview(repo=repo, files=files, card=card))
        return tuple(previews)

    def releases(self) -> tuple[ReleaseRow, ...]:
        """Every watched release x every default recipe, and where it stands."""
        candidates = catalog.releases(self.hub, self.settings.watch)
        backends = recipes.enabled(self.settings)
        why = {(c.repo, b.id): self.journal.note(f"why:{c.repo}:{b.id}") or "" for c in candidates for b in backends}
        there, builds = standing(self.hub, self.namespace), self.builds(500)
        return releases.rows(candidates, backends, there, builds, why, self.namespace, self.hub.endpoint)

    # --- building ---------------------------------------------------------------------------------------------

    def submit(self, plan: Plan, *, person: bool) -> tuple[Build, ...]:
        """Queue the plan's builds; the ones already under way are returned as they are.

        Raises:
            AccessDenied: the token may not publish to the plan's namespace.
            NotEnoughRoom: this machine lacks the memory or the disk for one of them.
        """
        if plan.builds:
            self.publisher.check_may_write(plan.namespace)
        building = {recipe for request in plan.builds for recipe in request.recipes}
        for verdict in plan.verdicts:
            if verdict.recipe in building and verdict.lacks:
                raise NotEnoughRoom(
                    f"{verdict.recipe}: {' '.join(verdict.lacks)}", "Use a larger machine, or ask for less."
                )
        return tuple(self.engine.submit(request, person=person) for request in plan.builds)

    def builds(self, limit: int = 50) -> tuple[Build, ...]:
        """The newest builds, newest first."""
        return self.engine.builds(limit)

    def build(self, id_prefix: str) -> Build:
        """The one build whose id starts so."""
        return self.engine.build(id_prefix)

    def steps(self, build_id: str) -> tuple[str, ...]:
        """The steps that a build has finished, by their names, in order."""
        return self.engine.steps(build_id)

    def log(self, build_id: str, after: int = 0) -> tuple[LogLine, ...]:
        """A build's log lines numbered above `after`."""
        return self.journal.log(build_id, after)

    def cancel(self, id_prefix: str) -> Build:
        """Stop a build for good."""
        return self.engine.cancel(id_prefix)

    def retry(self, id_prefix: str) -> Build:
        """Begin a failed or cancelled build again."""
        return self.engine.retry(id_prefix)

    def pause(self) -> None:
        """No build begins another step until `resume`."""
        self.engine.pause()

    def resume(self) -> None:
        """Let builds go on."""
        self.engine.resume()

    @property
    def paused(self) -> bool:
        return self.engine.paused

    def follow(self, build_ids: Sequence[str], tend: Callable[[], None] = lambda: None) -> Iterator[Event]:
        """What builds say, as they say it, until all are over; the last thing of each is the finished build. `tend` is
        called meanwhile.
        """
        seen = dict.fromkeys(build_ids, 0)
        last: dict[str, Progress] = {}
        while seen:
            tend()
            for one in list(seen):
                build = self.engine.build(one)
                for line in self.journal.log(build.id, seen[one]):
                    seen[one] = line.number
                    yield one, line
                if build.progress is not None and build.progress != last.get(one):
                    last[one] = build.progress
                    yield one, build.progress
                if build.over:
                    del seen[one]
                    yield one, build
            if seen:
                time.sleep(FOLLOW_SECONDS)

    @contextmanager
    def working(self) -> Iterator[None]:
        """This process takes builds while inside. What dead processes left in the workspace is swept first."""
        Workspace(self.settings).sweep()
        with self.engine.working(Builder(self.settings, self.hub, self.publisher)):
            yield

    def others_working(self) -> bool:
        """Whether another living process on this database takes builds."""
        return self.engine.others_working()

    @contextmanager
    def helping(self) -> Iterator[Callable[[], None]]:
        """Take builds while nobody else does. Call what this yields now and then: another worker may have ended."""
        with ExitStack() as stack:
            taking = False

            def tend() -> None:
                nonlocal taking
                if not taking and not self.others_working():
                    stack.enter_context(self.working())
                    taking = True

            tend()
            yield tend

    def drain(self) -> None:
        """Wait until nothing waits and nothing runs, or somebody pauses the mill."""
        while self.engine.unfinished() and not self.paused:
            time.sleep(FOLLOW_SECONDS)

    # --- watching ---------------------------------------------------------------------------------------------

    def reconcile(self, only: RepoRef | None = None) -> tuple[Build, ...]:
        """One look at the watched organisations: queue what is missing, whatever it was that called."""
        return self.reconciler.reconcile(only)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Reconcile now and on the clock while inside."""
        with ticking(self.reconcile, self.settings.poll_seconds):
            yield
