"""The mill itself: what every face (CLI, page, API) calls. Looks, plans, queues, follows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property

from huggingface_hub import get_token
from pydantic import Field, SecretStr

from bot import accounts, advisor, card, catalog, comparison, devices, logs, preflight, recipes, releases
from bot.advisor import Advice
from bot.build import Builder
from bot.builds import Build, BuildRequest, LogLine, Phase, Progress
from bot.comparison import Compared
from bot.engine import Engine
from bot.errors import NotEnoughRoom
from bot.hub import Hub
from bot.journal import Journal
from bot.models import Frozen, Release, RepoRef, Verdict
from bot.planning import Plan, Planning
from bot.publication import CARD_PATH, Summary
from bot.publisher import Publisher, documents
from bot.recipes import Snippet
from bot.reconciler import OurRepos, Reconciler, standing
from bot.redaction import SECRETS
from bot.releases import ReleaseRow, Table
from bot.search import Found, Search
from bot.settings import Settings, get_settings
from bot.signing import signer
from bot.tokens import Keyring
from bot.visitor import OPERATOR, Visitor
from bot.watcher import ticking
from bot.workspace import Workspace

__all__ = ["CheckReport", "Mill", "Plan", "Preview", "ReleaseRow"]

FOLLOW_SECONDS = 0.5
SWEEP_SECONDS = 24 * 3600.0
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
        self.keys = Keyring()
        self._stack = ExitStack()
        self._stack.callback(self.keys.keep_only, ())
        SECRETS.learn(get_token(), os.environ.get("OAUTH_CLIENT_SECRET"), *self.settings.secrets())
        logs.adopt("huggingface_hub")

    @cached_property
    def hub(self) -> Hub:
        return Hub(self.settings.endpoint, get_token())

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.hub, get_token, signer(self.settings))

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
        engine = Engine(self.settings, self.journal, self.keys)
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

    def check(self, text: str, namespace: str | None = None, *, by: Visitor = OPERATOR) -> CheckReport:
        """The verdict per recipe of every backend, from metadata alone.

        The mill's token serves its operator only: others are shown what they may see themselves.
        """
        release, verdicts = self._look(text, by)
        made_from = catalog.classify_files(release).made_from
        there = {
            recipe: (repo, mark.version)
            for repo, summary in self._standing(release, namespace, by).items()
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

    def pull(self, repo: str, *, by: Visitor = OPERATOR) -> tuple[Snippet, ...]:
        """How to get and run what stands in a repo of ours, as its card says it. Nothing for a repo without variants.

        Raises:
            NotOurs: it was not made by phimill.
        """
        held = self._publisher_of(by).head(repo).publication
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
        *,
        by: Visitor = OPERATOR,
    ) -> Advice:
        """Which variant of a release to run on a device with so many bytes of memory, for so many tokens of context.

        Raises:
            UsageError: there is no such device.
        """
        asked = devices.device(device)
        release, verdicts = self._look(text, by)
        return advisor.advise(release, verdicts, self._standing(release, namespace, by), asked, memory, context)

    def _hub_of(self, by: Visitor) -> Hub:
        return self.hub if by.operator else Hub(self.settings.endpoint, by.token)

    def _publisher_of(self, by: Visitor) -> Publisher:
        if by.operator:
            return self.publisher
        return Publisher(self._hub_of(by), lambda: by.token.get_secret_value() if by.token else None)

    def _look(self, text: str, by: Visitor) -> tuple[Release, tuple[Verdict, ...]]:
        hub = self._hub_of(by)
        release = catalog.release(hub, RepoRef.parse(text, self.settings.endpoint))
        return release, preflight.verdicts(release, recipes.all_recipes(), hub, self.settings)

    def _standing(self, release: Release, namespace: str | None, by: Visitor) -> dict[str, Summary]:
        """Our repos of this source, and what they say they hold. Nothing where nobody knows where to look."""
        where = namespace or self.settings.namespace
        if where is None:
            if not by.operator or not get_token():
                return {}
            where = self.namespace
        found = standing(self._hub_of(by), where).items()
        return {name: held for (source, _), repos in found if source == release.repo for name, held in repos.items()}

    def compare(self, text: str, *, by: Visitor = OPERATOR) -> tuple[Compared, ...]:
        """Every published variant of a release, with its figures, from the receipts in our repos.

        Costs a listing of our repos and some calls for each that holds this release.
        """
        repo = RepoRef.parse(text, self.settings.endpoint).repo
        there, publisher = standing(self._hub_of(by), self.namespace), self._publisher_of(by)
        held = sorted(name for (source, _), repos in there.items() if source == repo for name in repos)
        return tuple(
            row for name in held if (state := publisher.head(name).publication) for row in comparison.rows(state)
        )

    def plan(
        self,
        text: str,
        asked: Sequence[str] = (),
        namespace: str | None = None,
        *,
        by: Visitor = OPERATOR,
        private: bool = False,
    ) -> Plan:
        """What it takes to have these recipes (by default, each backend's default ones) of a release published.

        What somebody else than the operator asks for is read, and later published, with their own token.
        """
        if by.operator:
            return self.planning.plan(text, asked, namespace or self.namespace, private=private)
        planning = Planning(self.settings, self._hub_of(by), self._publisher_of(by))
        return planning.plan(text, asked, namespace or str(by.name), asker=by.name, private=private)

    def namespaces(self) -> tuple[str, ...]:
        """Where the mill's own token may publish to, what it does by default first. Nowhere without one."""
        token = get_token()
        account = accounts.accounts(self.settings.endpoint).of(SecretStr(token)) if token else None
        writable = account.writable if account else ()
        return tuple(dict.fromkeys((*(name for name in writable if name == self.settings.namespace), *writable)))

    def preview(self, plan: Plan, *, by: Visitor = OPERATOR) -> tuple[Preview, ...]:
        """What the plan's target repos hold now, and the exact card they would get today."""
        previews, hub, publisher = [], self._hub_of(by), self._publisher_of(by)
        for repo in plan.repos:
            head = publisher.head(repo)
            if head.sha is not None and head.publication is not None:
                backend = recipes.backends()[head.publication.backend]
                files = tuple(f.path for f in hub.tree(repo, head.sha))
                shown = documents(backend, head.publication, hub.endpoint)[CARD_PATH].decode()
                previews.append(Preview(repo=repo, files=files, card=shown))
        return tuple(previews)

    def releases(self) -> tuple[ReleaseRow, ...]:
        """Every watched release x every recipe that is made of it, and where it stands."""
        candidates = catalog.releases(self.hub, self.settings.watch)
        notes = self.journal.notes(releases.WHY) | self.journal.notes(releases.UNSUITED)
        there, enabled = self._ours.look(), recipes.enabled(self.settings)
        builds = tuple(build for build in self.builds(500) if build.request.asker is None)
        return self._table.rows(candidates, enabled, there, builds, notes)

    @cached_property
    def _ours(self) -> OurRepos:
        return OurRepos(self.hub, self.namespace)

    @cached_property
    def _table(self) -> Table:
        return Table(self.namespace, self.hub.endpoint)

    # --- building ---------------------------------------------------------------------------------------------

    def submit(self, plan: Plan, *, person: bool, by: Visitor = OPERATOR) -> tuple[Build, ...]:
        """Queue the plan's builds; the ones already under way are returned as they are.

        Raises:
            AccessDenied: the token, of whoever asks, may not publish to the plan's namespace.
            NotEnoughRoom: this machine lacks the memory or the disk for one of them.
        """
        if plan.builds:
            self._publisher_of(by).check_may_write(plan.namespace)
        building = {recipe for request in plan.builds for recipe in request.recipes}
        for verdict in plan.verdicts:
            if verdict.recipe in building and verdict.lacks:
                raise NotEnoughRoom(
                    f"{verdict.recipe}: {' '.join(verdict.lacks)}", "Use a larger machine, or ask for less."
                )
        self.lend(by)
        builds = tuple(self.engine.submit(request, person=person) for request in plan.builds)
        self.lend(by)  # once more: until the builds were queued, nobody knew what the token was lent for
        return builds

    def lend(self, by: Visitor) -> None:
        """Have somebody's own token at hand as long as they have builds. Those that waited for it go on."""
        if by.name is not None and by.token is not None:
            self.keys.lend(by.name, by.token, by.expires)
            self.engine.wake()

    def builds(self, limit: int = 50) -> tuple[Build, ...]:
        """The newest builds, newest first."""
        return self.engine.builds(limit)

    def unfinished(self) -> tuple[Build, ...]:
        """Every build that waits or runs."""
        return self.engine.unfinished_builds()

    def build(self, id_prefix: str, seen: Callable[[BuildRequest], bool] = lambda _: True) -> Build:
        """The one build whose id starts so, among those that are `seen`."""
        return self.engine.build(id_prefix, seen)

    def steps(self, build_id: str) -> tuple[str, ...]:
        """The steps that a build has finished, by their names, in order."""
        return self.engine.steps(build_id)

    def log(self, build_id: str, after: int = 0) -> tuple[LogLine, ...]:
        """A build's log lines numbered above `after`."""
        return self.journal.log(build_id, after)

    def cancel(self, id_prefix: str) -> Build:
        """Stop a build for good."""
        return self.engine.cancel(id_prefix)

    def retry(self, id_prefix: str, *, by: Visitor = OPERATOR) -> Build:
        """Begin a failed or cancelled build again."""
        self.lend(by)
        build = self.engine.retry(id_prefix)
        self.lend(by)
        return build

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
        """This process takes builds while inside. What nobody needs in the workspace is swept now, and once a day."""
        with (
            ticking(Workspace(self.settings).sweep, SWEEP_SECONDS),
            self.engine.working(Builder(self.settings, self.hub, self.publisher, self.keys)),
        ):
            yield

    def queued(self) -> Mapping[tuple[str, Phase], int]:
        """How many builds are waiting and how many are running, by backend."""
        return self.engine.queued()

    def someone_works(self) -> bool:
        """Whether builds are taken: here, or by another living process. Asks the database."""
        self.engine.unfinished()
        return self.engine.working_here() or self.engine.others_working()

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
