"""The mill itself: what every face (CLI, page, API) calls. Looks, plans, queues, follows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property

from huggingface_hub import get_token
from pydantic import SecretStr

from bot import accounts, catalog, logs, recipes, releases
from bot.build import Builder
from bot.builds import Build, BuildRequest, LogLine, Phase, Progress
from bot.engine import Engine
from bot.errors import NotEnoughRoom
from bot.hub import Hub
from bot.journal import Journal
from bot.models import RepoRef
from bot.planning import Plan, Planning
from bot.publisher import Publisher
from bot.reader import Reader
from bot.reconciler import OurRepos, Reconciler
from bot.redaction import SECRETS
from bot.releases import ReleaseRow, Table
from bot.search import Found, Search
from bot.settings import Settings, get_settings
from bot.signing import signer
from bot.tokens import Keyring
from bot.visitor import OPERATOR, Visitor
from bot.watcher import ticking
from bot.workspace import Workspace

FOLLOW_SECONDS = 0.5
SWEEP_SECONDS = 24 * 3600.0
# What a build that is followed says, by its id.
Event = tuple[str, Progress | LogLine | Build]


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

    def reader(self, by: Visitor = OPERATOR) -> Reader:
        """What the mill knows and the Hub shows to somebody. The mill's token serves its operator only: others are
        shown what they may see themselves.
        """
        if by.operator:
            return Reader(self.settings, self.hub, self.publisher, lambda: self.namespace, by)
        hub = Hub(self.settings.endpoint, by.token)
        publisher = Publisher(hub, lambda: by.token.get_secret_value() if by.token else None)
        return Reader(self.settings, hub, publisher, lambda: self.namespace, by)

    @cached_property
    def _search(self) -> Search:
        return Search(self.hub, self.settings.watch)

    @cached_property
    def _public_search(self) -> Search:
        return Search(Hub(self.settings.endpoint), self.settings.watch)

    def search(self, text: str, *, anonymous: bool = False) -> tuple[Found, ...]:
        """Repos by a few letters of their names, Phi releases first; with `anonymous`, what strangers may see."""
        return (self._public_search if anonymous else self._search)(text)

    def namespaces(self) -> tuple[str, ...]:
        """Where the mill's own token may publish to, what it does by default first. Nowhere without one."""
        token = get_token()
        account = accounts.accounts(self.settings.endpoint).of(SecretStr(token)) if token else None
        writable = account.writable if account else ()
        return tuple(dict.fromkeys((*(name for name in writable if name == self.settings.namespace), *writable)))

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
            self.reader(by).publisher.check_may_write(plan.namespace)
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
