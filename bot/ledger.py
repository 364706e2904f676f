"""How a repo's state changes: pure functions from one `Publication` to the next. The publisher makes them commits.

`fresh` is always the state a build would publish into an empty repo: its source, its digests, the version it was
planned for, and no variants.
"""

from __future__ import annotations

from bot.errors import Superseded
from bot.planner import next_version
from bot.publication import Declined, Publication, PublishedVariant


def order(version: str) -> tuple[int, int]:
    """`v1.10` as `(1, 10)`, to be compared."""
    big, _, small = version.removeprefix("v").partition(".")
    return int(big), int(small)


def begin(head: Publication | None, fresh: Publication) -> Publication:
    """The head's variants under this build's source and version.

    A version that is already complete is never added to: the next minor one is begun instead.

    Raises:
        Superseded: the head was made from another, later state of the source.
    """
    if head is None:
        return fresh
    if head.source_sha != fresh.source_sha and order(head.version) > order(fresh.version):
        raise Superseded(
            f"{head.repo} already holds {head.version}, made from a later commit of {head.source}.",
            "Nothing to do: ask for the newest commit instead.",
        )
    version = max(head.version, fresh.version, key=order)
    if head.complete and version == head.version:
        version = next_version(version, major=False)
    begun = fresh.model_copy(
        update={
            "version": version,
            "variants": head.variants,
            "declined": head.declined,
            "versions": head.versions,
        }
    )
    for item in fresh.declined:
        begun = decline(begun, item)
    return begun


def add(state: Publication, variant: PublishedVariant) -> Publication:
    """The state with this variant in it, in place of an older form of the same recipe."""
    variant = variant.model_copy(update={"version": state.version})
    others = [v for v in state.variants if v.recipe != variant.recipe]
    declined = tuple(d for d in state.declined if d.recipe != variant.recipe)
    # By recipe, not by time of arrival: the same set of variants is the same state, however it came about.
    variants = tuple(sorted([*others, variant], key=lambda v: v.recipe))
    return state.model_copy(update={"variants": variants, "declined": declined})


def decline(state: Publication, declined: Declined) -> Publication:
    """The state saying why this recipe is not in it."""
    others = [d for d in state.declined if d.recipe != declined.recipe]
    return state.model_copy(update={"declined": tuple(sorted([*others, declined], key=lambda d: d.recipe))})


def close(state: Publication) -> Publication:
    """The version complete: variants that were not made from this source again are gone from it."""
    made_from = state.digests.made_from
    return state.model_copy(
        update={
            "variants": tuple(v for v in state.variants if v.made_from == made_from),
            "declined": tuple(d for d in state.declined if d.made_from == made_from),
            "complete": True,
            "versions": {**state.versions, state.version: state.source_sha},
        }
    )


def refresh(head: Publication, fresh: Publication) -> Publication:
    """The head under a newer source commit that changed nothing but the readme: same version, same variants."""
    if head.complete:
        return fresh.model_copy(
            update={
                "version": head.version,
                "complete": True,
                "variants": head.variants,
                "declined": head.declined,
                "versions": head.versions,
            }
        )
    return close(begin(head, fresh))


def stands(state: Publication | None, recipe: str, recipe_digest: str, made_from: str) -> PublishedVariant | None:
    """The variant of this recipe in the state, if it was made from these source bytes with this form of the recipe."""
    for variant in state.variants if state else ():
        if (variant.recipe, variant.recipe_digest, variant.made_from) == (recipe, recipe_digest, made_from):
            return variant
    return None


def gone(old: Publication | None, new: Publication) -> list[str]:
    """Files of variants that the old state had and the new one has not."""
    kept = {f.path for v in new.variants for f in (*v.files, *v.extras)}
    had = {f.path for v in (old.variants if old else ()) for f in (*v.files, *v.extras)}
    return sorted(had - kept)
