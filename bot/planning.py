"""From a request to a plan: reads the Hub, asks the verdict, and lets the pure planner decide."""

from __future__ import annotations

from collections.abc import Sequence

from bot import catalog, endings, preflight, recipes, toolchain
from bot.builds import BuildRequest, Target, VariantResult
from bot.errors import NotOurs, UsageError
from bot.hub import Hub
from bot.models import Frozen, Recipe, Release, RepoRef, Verdict
from bot.planner import Wanted, drift, plan_target, published_recipes
from bot.publication import Publication, SourceDigests
from bot.publisher import Publisher
from bot.recipes import Backend
from bot.settings import Settings


class Plan(Frozen):
    """What a request would do. `results` are the variants that need no build: there already, or refused."""

    namespace: str
    release: Release
    verdicts: tuple[Verdict, ...]
    builds: tuple[BuildRequest, ...]
    repos: tuple[str, ...]
    results: tuple[VariantResult, ...]


class BackendPlan(Frozen):
    """One backend's share of a plan."""

    repos: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    request: BuildRequest | None
    results: tuple[VariantResult, ...]


class Planning:
    """Plans for one account on one Hub."""

    def __init__(self, settings: Settings, hub: Hub, publisher: Publisher) -> None:
        self._settings = settings
        self._hub = hub
        self._publisher = publisher

    def release(self, text: str) -> Release:
        """The release that a person means by `owner/name[@revision]` or a URL of it."""
        return catalog.release(self._hub, RepoRef.parse(text, self._settings.endpoint))

    def plan(
        self, text: str, asked: Sequence[str], namespace: str, *, asker: str | None = None, private: bool = False
    ) -> Plan:
        """What it takes to have these recipes (by default, the default ones of the enabled backends) published.

        Args:
            asker: the account whose own token publishes; None for the mill's.
            private: into private repos. What is made from a private source goes there in any case.

        Raises:
            UsageError: a recipe that does not exist, or of a backend that is not enabled; a target repo is public
                already.
            NotOurs: a target repo holds something else.
        """
        release, here = self.release(text), recipes.enabled(self._settings)
        for backend in recipes.backends().values():
            if backend not in here and any(name.split("/")[0] == backend.id for name in asked):
                # Nobody here would take the build, and whoever asked would wait for ever.
                raise UsageError(f"Nothing is built with {backend.id} here.", "Add it to PHIMILL_BACKENDS.")
        plans = [
            self.plan_backend(backend, release, chosen, namespace, remake_stale=True, asker=asker, private=private)
            for backend in here
            if (chosen := recipes.select(asked, release, backend.id))
        ]
        return Plan(
            namespace=namespace,
            release=release,
            verdicts=tuple(v for p in plans for v in p.verdicts),
            builds=tuple(p.request for p in plans if p.request is not None),
            repos=tuple(repo for p in plans for repo in p.repos),
            results=tuple(r for p in plans for r in p.results),
        )

    def plan_backend(
        self,
        backend: Backend,
        release: Release,
        chosen: Sequence[Recipe],
        namespace: str,
        *,
        remake_stale: bool,
        asker: str | None = None,
        private: bool = False,
    ) -> BackendPlan:
        """One backend's share. When the source has changed, everything that stands is made again with it."""
        groups = recipes.by_target(chosen, namespace, release.name)
        heads = {repo: self._head(repo, release) for repo in groups}
        digests = catalog.classify_files(release)
        groups = {repo: _with_what_stands(group, heads[repo], digests) for repo, group in groups.items()}
        wanted = [recipe for group in groups.values() for recipe in group]
        verdicts = preflight.verdicts(release, wanted, self._hub, self._settings)
        allowed = {v.recipe for v in verdicts if v.convertible}
        lock = toolchain.lock_digest(backend.id)
        targets = []
        for repo, group in groups.items():
            want = Wanted(repo=repo, toolchain=lock, recipes=tuple(r for r in group if r.id in allowed))
            targets.append(self._target(release, digests, want, heads[repo], remake_stale=remake_stale))
        request = BuildRequest(
            repo=release.repo,
            sha=release.sha,
            backend=backend.id,
            namespace=namespace,
            toolchain=lock,
            targets=tuple(t for t in targets if t is not None),
            asker=asker,
            private=private or release.private,
        )
        if request.private:
            for repo in groups:
                self._publisher.check_private(repo)
        return BackendPlan(
            repos=tuple(groups),
            verdicts=verdicts,
            request=request if request.targets else None,
            results=tuple(
                _known(heads[recipe.target(namespace, release.name)], verdict)
                for recipe, verdict in zip(wanted, verdicts, strict=True)
                if recipe.id not in request.recipes
            ),
        )

    def _head(self, repo: str, release: Release) -> Publication | None:
        head = self._publisher.head(repo).publication
        if head is not None and head.source != release.repo:
            raise NotOurs(f"{repo} holds conversions of {head.source}.", "Publish to another namespace.")
        return head

    def _target(
        self, release: Release, digests: SourceDigests, wanted: Wanted, head: Publication | None, *, remake_stale: bool
    ) -> Target | None:
        published = head.summary() if head else None
        target = plan_target(release.sha, digests, wanted, published, remake_stale=remake_stale)
        if target is not None or head is None or not head.complete:
            return target
        if head.version in self._publisher.tags(wanted.repo):
            return None
        return Target(repo=wanted.repo, version=head.version, recipes=())  # what built it ended just before the tag


def _with_what_stands(
    chosen: Sequence[Recipe], head: Publication | None, digests: SourceDigests
) -> tuple[Recipe, ...]:
    """The recipes, and if the source has changed since, whatever else stands in their repo."""
    if head is None or drift(head.digests, digests) not in ("weights", "assets"):
        return tuple(chosen)
    again = published_recipes(head.summary(), {r.id: r for r in recipes.all_recipes()})
    return (*chosen, *(r for r in again if r not in chosen))


def _known(head: Publication | None, verdict: Verdict) -> VariantResult:
    if head is not None and verdict.convertible:
        for variant in head.variants:
            if variant.recipe == verdict.recipe:
                tag = head.version if head.complete else None
                return endings.published(head.repo, variant, built=False, tag=tag)
        for declined in head.declined:
            if declined.recipe == verdict.recipe:
                return VariantResult(recipe=verdict.recipe, status="gate_failed", reason=declined.reason)
    return VariantResult(recipe=verdict.recipe, status="refused", reason=" ".join(verdict.reasons))
