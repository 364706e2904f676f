"""How the variants of a request ended, as people are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.builds import Failure, VariantResult
from bot.errors import ConverterFailed, GateFailed
from bot.measures import Fidelity
from bot.models import Recipe
from bot.publication import Publication, PublishedVariant


def published(repo: str, variant: PublishedVariant, *, built: bool, tag: str | None) -> VariantResult:
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


def failed_gate(recipe: Recipe, fidelity: Fidelity, problem: str) -> VariantResult:
    """A variant that was measured and is not published."""
    figures = fidelity.model_dump(include={"kl_mean", "kl_p99", "top1", "perplexity_ratio"})
    return VariantResult(recipe=recipe.id, status="gate_failed", reason=problem, **figures)


def tagged(result: VariantResult, finished: Mapping[str, Publication | None]) -> VariantResult:
    """The result with the tag it can be pulled at, once the version is complete."""
    publication = finished.get(result.repo or "")
    if publication is None or not publication.complete:
        return result
    return result.model_copy(update={"tag": publication.version})


def first_failure(results: Sequence[VariantResult]) -> Failure | None:
    """How a build with these results has failed, if it has: a variant that could not be made counts most."""
    for status, error in (("failed", ConverterFailed), ("gate_failed", GateFailed)):
        for result in results:
            if result.status == status:
                return Failure.of(error(f"{result.recipe}: {result.reason}", "Its log says more."))
    return None
