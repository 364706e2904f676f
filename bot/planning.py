"""From a request to a plan: reads the Hub, asks the verdict, and lets the pure planner decide."""

from __future__ import annotations

from collections.abc import Sequence

from bot import catalog, preflight, recipes, toolchain
from bot.errors import NotOurs
from bot.hub import Hub
from bot.models import BuildRequest, Frozen, Recipe, Release, RepoRef, VariantResult, Verdict
from bot.planner import Wanted, drift, plan_backend, published_recipes
from bot.publication import Publication, PublishedVariant
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

    repo: str
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

    def plan(self, text: str, asked: Sequence[str], namespace: str) -> Plan:
        """What it takes to have these recipes (by default, each backend's default ones) of a release published.

        Raises:
            UsageError: a recipe that does not exist.
            NotOurs: a target repo holds something else.
        """
        release = self.release(text)
        plans = [
            self.plan_backend(backend, release, chosen, namespace, remake_stale=True)
            for backend in recipes.backends().values()
            if (chosen := recipes.select(asked, release, backend.id))
        ]
        return Plan(
            namespace=namespace,
            release=release,
            verdicts=tuple(v for p in plans for v in p.verdicts),
            builds=tuple(p.request for p in plans if p.request is not None),
            repos=tuple(p.repo for p in plans),
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
    ) -> BackendPlan:
        """One backend's share. When the source has changed, everything that stands is made again with it."""
        repo = backend.target(namespace, release.name)
        head = self._publisher.head(repo).publication
        if head is not None and head.source != release.repo:
            raise NotOurs(f"{repo} holds conversions of {head.source}.", "Publish to another namespace.")
        published = head.summary() if head else None
        digests = catalog.classify_files(release)
        if published and drift(published.digests, digests) in ("weights", "assets"):
            again = published_recipes(published, {r.id: r for r in recipes.all_recipes()})
            chosen = [*chosen, *(r for r in again if r not in chosen)]
        verdicts = preflight.verdicts(release, chosen, self._hub, self._settings)
        wanted = Wanted(
            backend=backend.id,
            repo=repo,
            toolchain=toolchain.lock_digest(backend.id),
            recipes=tuple(r for r, v in zip(chosen, verdicts, strict=True) if v.convertible),
        )
        request = plan_backend(release, digests, wanted, published, remake_stale=remake_stale)
        if request is None and head is not None and head.complete and head.version not in self._publisher.tags(repo):
            request = _finishing(head, release, wanted)  # what built it ended just before the tag
        return BackendPlan(repo=repo, verdicts=verdicts, request=request, results=_settled(head, verdicts, request))


def _finishing(head: Publication, release: Release, wanted: Wanted) -> BuildRequest:
    """The build that makes no variant and leaves the repo tagged and in its collection."""
    return BuildRequest(
        repo=release.repo,
        sha=release.sha,
        backend=wanted.backend,
        recipes=(),
        namespace=wanted.repo.split("/")[0],
        toolchain=wanted.toolchain,
        version=head.version,
    )


def variant_result(repo: str, variant: PublishedVariant, *, built: bool, tag: str | None) -> VariantResult:
    """A published variant as people are told of it."""
    return VariantResult(
        recipe=variant.recipe,
        status="published" if built else "already_published",
        repo=repo,
        tag=tag,
        files=tuple(f.path for f in variant.files),
        bytes=variant.bytes,
        kl_mean=variant.fidelity.kl_mean,
        kl_p99=variant.fidelity.kl_p99,
        top1=variant.fidelity.top1,
        perplexity_ratio=variant.fidelity.perplexity_ratio,
    )


def _settled(
    head: Publication | None, verdicts: Sequence[Verdict], request: BuildRequest | None
) -> tuple[VariantResult, ...]:
    """The results that are known without building."""
    building = set(request.recipes) if request else set()
    return tuple(_known(head, v) for v in verdicts if v.recipe not in building)


def _known(head: Publication | None, verdict: Verdict) -> VariantResult:
    if head is not None and verdict.convertible:
        for variant in head.variants:
            if variant.recipe == verdict.recipe:
                tag = head.version if head.complete else None
                return variant_result(head.repo, variant, built=False, tag=tag)
        for declined in head.declined:
            if declined.recipe == verdict.recipe:
                return VariantResult(recipe=verdict.recipe, status="gate_failed", reason=declined.reason)
    return VariantResult(recipe=verdict.recipe, status="refused", reason=" ".join(verdict.reasons))
