"""How a repo's state changes: pure functions from one `Publication` to the next. The publisher makes them commits.

`fresh` is always the state a build would publish into an empty repo: its source, its digests, the version it was
planned for, and no variants.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.errors import NotOurs, Superseded
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
        Superseded: the head was made from another state of the source since this build was planned.
        NotOurs: the head was made from another source.
    """
    if head is None:
        return fresh
    _check_source(head, fresh)
    # New weights or assets were planned as a new version: an equal one was planned before the head was made.
    moved = head.digests.made_from != fresh.digests.made_from
    ahead = order(head.version) > order(fresh.version) or (moved and order(head.version) == order(fresh.version))
    if head.source_sha != fresh.source_sha and ahead:
        raise Superseded(
            f"{head.repo} already holds {head.version}, made from another commit of {head.source}.",
            "Ask again: the newest commit is planned on top of what stands now.",
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
            "signer": head.signer,
        }
    )
    for item in fresh.declined:
        begun = decline(begun, item)
    return begun


def _check_source(head: Publication, fresh: Publication) -> None:
    if head.source != fresh.source:
        raise NotOurs(f"{head.repo} holds conversions of {head.source}.", "Publish to another namespace.")


def settle(head: Publication, fresh: Publication, declined: Sequence[Declined]) -> Publication:
    """The end of a build: its version complete, and why a recipe is not in it.

    When nothing stands that was made from this source (everything was declined), what stands stays as it is: a
    version without a variant would take away what people have.
    """
    _check_source(head, fresh)
    made = any(v.made_from == fresh.digests.made_from for v in head.variants)
    over = head.complete and head.source_sha == fresh.source_sha
    state = head if over or not made or fresh.version in head.versions else begin(head, fresh)
    for item in declined:
        state = decline(state, item)
    return state if state.complete or not made else close(state)


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
    _check_source(head, fresh)
    if not head.complete:
        return close(begin(head, fresh))
    # What the files were made with does not change with a readme.
    about_the_source = {"source_sha", "source_files", "digests", "license", "license_link", "language"}
    return head.model_copy(update={name: getattr(fresh, name) for name in about_the_source})


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
