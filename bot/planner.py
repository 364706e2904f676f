"""Desired minus published: what to build, and under which version. Pure functions; nothing here talks to anyone.

A version is a tag once it is complete. Weights changed upstream: next major. Tokenizer, template or generation config
changed, a recipe changed, or a recipe is added: next minor. Only the readme changed: same version, fresh card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from bot.builds import Target
from bot.models import Frozen, Recipe
from bot.publication import RecipeMark, SourceDigests, Summary

Drift = Literal["none", "readme", "assets", "weights"]
FIRST_VERSION = "v1.0"
_VERSION = re.compile(r"v(\d+)\.(\d+)")


class Wanted(Frozen):
    """What somebody wants in one repo: the recipes that the verdict allows."""

    repo: str
    toolchain: str
    recipes: tuple[Recipe, ...]


def drift(old: SourceDigests, new: SourceDigests) -> Drift:
    """The gravest kind of file that differs between two states of a source."""
    if old.weights != new.weights:
        return "weights"
    if old.assets != new.assets:
        return "assets"
    return "readme" if old.readme != new.readme else "none"


def next_version(version: str, *, major: bool) -> str:
    """The version after `version`; `v1.3` gives `v2.0` or `v1.4`."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version")
    big, small = int(match[1]), int(match[2])
    return f"v{big + 1}.0" if major else f"v{big}.{small + 1}"


def _stands(mark: RecipeMark | None, recipe: Recipe, made_from: str, toolchain: str | None) -> bool:
    return (
        mark is not None
        and mark.digest == recipe.digest
        and mark.made_from == made_from
        and toolchain in (None, mark.toolchain)
    )


def missing(
    wanted: Wanted, published: Summary | None, digests: SourceDigests, *, remake_stale: bool = False
) -> tuple[Recipe, ...]:
    """The wanted recipes that do not stand in the repo, made from these source bytes with this form of the recipe.

    What was declined before is not tried again until the source, the recipe or the toolchain changes. With
    `remake_stale`, variants made by another toolchain count as missing too.
    """
    if published is None:
        return wanted.recipes
    made_from = digests.made_from
    return tuple(
        recipe
        for recipe in wanted.recipes
        if not _stands(published.recipes.get(recipe.id), recipe, made_from, wanted.toolchain if remake_stale else None)
        and not _stands(published.declined.get(recipe.id), recipe, made_from, wanted.toolchain)
    )


def settled(sha: str, recipes: Sequence[Recipe], toolchain: str, published: Summary | None) -> bool:
    """Whether a source at `sha` needs no look at all: everything wanted of it was published or declined already."""
    if published is None or published.source_sha != sha or not published.complete:
        return False
    made_from = published.digests.made_from
    return all(
        _stands(published.recipes.get(r.id), r, made_from, None)
        or _stands(published.declined.get(r.id), r, made_from, toolchain)
        for r in recipes
    )


def choose_version(published: Summary | None, digests: SourceDigests, builds_something: bool) -> str:
    """The version that a build on top of `published` makes."""
    if published is None:
        return FIRST_VERSION
    change = drift(published.digests, digests)
    if change == "weights":
        return next_version(published.version, major=True)
    if change == "assets" or (published.complete and builds_something):
        return next_version(published.version, major=False)
    return published.version


def plan_target(
    sha: str,
    digests: SourceDigests,
    wanted: Wanted,
    published: Summary | None,
    *,
    remake_stale: bool = False,
) -> Target | None:
    """What brings one repo from what is published to what is wanted of the source at `sha`; None for nothing to do."""
    todo = missing(wanted, published, digests, remake_stale=remake_stale)
    if published is None and not todo:
        return None
    if published is not None and not todo and drift(published.digests, digests) in ("assets", "weights"):
        return None  # everything made from the new source was declined: what stands is not of it
    finished = published is not None and published.complete and published.source_sha == sha
    if not todo and finished:
        return None
    return Target(
        repo=wanted.repo,
        version=choose_version(published, digests, bool(todo)),
        recipes=tuple(r.id for r in todo),
    )


def published_recipes(published: Summary | None, known: Mapping[str, Recipe]) -> tuple[Recipe, ...]:
    """The recipes that stand in a repo: a new version makes all of them again, asked for or not."""
    return tuple(known[r] for r in published.recipes if r in known) if published else ()
