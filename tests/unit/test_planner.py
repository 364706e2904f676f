from __future__ import annotations

import pytest

from bot import planner
from bot.models import Recipe
from bot.planner import Wanted, choose_version, drift, missing, next_version, plan_target, settled
from bot.publication import RecipeMark, SourceDigests, Summary

TOOLS, OTHER_TOOLS = "c" * 64, "d" * 64
SHA, NEWER = "1" * 40, "2" * 40


def digests(weights: str = "a", assets: str = "b", readme: str = "e") -> SourceDigests:
    return SourceDigests(weights=weights * 64, assets=assets * 64, readme=readme * 64)


def recipe(name: str, **options: object) -> Recipe:
    return Recipe(
        id=f"gguf/{name}",
        backend="gguf",
        title=name,
        precision="INT4",
        preset="recommended",
        default=True,
        repo="{ns}/{m}-GGUF",
        file=f"{{m}}-{name}.gguf",
        baseline="gguf/a",
        bits_per_weight=4.9,
        suits="laptops",
        options=dict(options),
    )


def wanted(*recipes: Recipe) -> Wanted:
    return Wanted(repo="phimill/Phi-x-GGUF", toolchain=TOOLS, recipes=recipes)


def summary(
    *recipes: Recipe,
    sha: str = SHA,
    version: str = "v1.0",
    complete: bool = True,
    made: SourceDigests | None = None,
    declined: tuple[Recipe, ...] = (),
) -> Summary:
    made = made or digests()

    def mark(r: Recipe) -> RecipeMark:
        return RecipeMark(digest=r.digest, toolchain=TOOLS, made_from=made.made_from, version=version)

    return Summary(
        backend="gguf",
        source="microsoft/Phi-x",
        source_sha=sha,
        digests=made,
        version=version,
        complete=complete,
        recipes={r.id: mark(r) for r in recipes},
        declined={r.id: mark(r) for r in declined},
    )


A, B, C = recipe("a"), recipe("b"), recipe("c")


def test_a_new_release_is_built_whole_as_version_one() -> None:
    target = plan_target(SHA, digests(), wanted(A, B), None)
    assert target is not None
    assert (target.recipes, target.version, target.repo) == ((A.id, B.id), "v1.0", "phimill/Phi-x-GGUF")


def test_a_release_of_which_everything_is_refused_is_not_built() -> None:
    assert plan_target(SHA, digests(), wanted(), None) is None


def test_what_is_published_already_is_not_built_again() -> None:
    assert plan_target(SHA, digests(), wanted(A, B), summary(A, B)) is None


def test_a_half_published_version_is_gone_on_with_under_the_same_version() -> None:
    target = plan_target(SHA, digests(), wanted(A, B), summary(A, complete=False))
    assert target is not None
    assert (target.recipes, target.version) == ((B.id,), "v1.0")


def test_a_version_whose_variants_all_stand_but_was_never_completed_is_completed_without_building() -> None:
    target = plan_target(SHA, digests(), wanted(A), summary(A, complete=False))
    assert target is not None
    assert (target.recipes, target.version) == ((), "v1.0")


def test_another_recipe_of_the_same_source_makes_a_minor_version() -> None:
    target = plan_target(SHA, digests(), wanted(A, C), summary(A, B))
    assert target is not None
    assert (target.recipes, target.version) == ((C.id,), "v1.1")


def test_a_changed_recipe_makes_its_variant_again_as_a_minor_version() -> None:
    changed = recipe("a", imatrix=True)
    target = plan_target(SHA, digests(), wanted(changed, B), summary(A, B))
    assert target is not None
    assert (target.recipes, target.version) == ((A.id,), "v1.1")


@pytest.mark.parametrize(
    ("new", "kind", "version"),
    [
        (digests(), "none", "v1.0"),
        (digests(readme="f"), "readme", "v1.0"),
        (digests(assets="f"), "assets", "v1.1"),
        (digests(weights="f"), "weights", "v2.0"),
        (digests(weights="f", assets="f", readme="f"), "weights", "v2.0"),
    ],
)
def test_the_gravest_change_of_the_source_decides_the_version(new: SourceDigests, kind: str, version: str) -> None:
    assert drift(digests(), new) == kind
    assert choose_version(summary(A), new, builds_something=kind in ("assets", "weights")) == version


def test_a_new_readme_gives_a_build_without_recipes() -> None:
    target = plan_target(NEWER, digests(readme="f"), wanted(A, B), summary(A, B))
    assert target is not None
    assert (target.recipes, target.version) == ((), "v1.0")


def test_new_weights_make_everything_again() -> None:
    target = plan_target(NEWER, digests(weights="f"), wanted(A, B), summary(A, B, version="v1.3"))
    assert target is not None
    assert (target.recipes, target.version) == ((A.id, B.id), "v2.0")


def test_what_was_declined_is_not_tried_again_until_the_source_changes() -> None:
    state = summary(A, declined=(B,))
    assert missing(wanted(A, B), state, digests()) == ()
    assert missing(wanted(A, B), state, digests(weights="f")) == (A, B)


def test_what_was_declined_is_tried_again_with_a_new_toolchain() -> None:
    state = summary(A, declined=(B,))
    upgraded = wanted(A, B).model_copy(update={"toolchain": OTHER_TOOLS})
    assert missing(upgraded, state, digests()) == (B,)


def test_a_new_toolchain_makes_variants_again_only_when_a_person_asks() -> None:
    upgraded = wanted(A).model_copy(update={"toolchain": OTHER_TOOLS})
    assert missing(upgraded, summary(A), digests()) == ()
    assert missing(upgraded, summary(A), digests(), remake_stale=True) == (A,)


def test_a_settled_source_needs_no_look() -> None:
    assert settled(SHA, [A, B], TOOLS, summary(A, declined=(B,)))


@pytest.mark.parametrize(
    "state",
    [None, summary(A), summary(A, B, sha=NEWER), summary(A, B, complete=False)],
    ids=["nothing stands", "one is missing", "upstream moved", "not complete"],
)
def test_anything_open_is_not_settled(state: Summary | None) -> None:
    assert not settled(SHA, [A, B], TOOLS, state)


def test_new_weights_of_which_everything_was_declined_are_not_taken_for_a_new_readme() -> None:
    new = digests(weights="f")
    refused = summary(A).model_copy(update={"declined": summary(A, made=new).recipes})
    assert plan_target(NEWER, new, wanted(A), refused) is None


def test_versions_count_in_numbers() -> None:
    assert next_version("v1.9", major=False) == "v1.10"
    assert next_version("v9.3", major=True) == "v10.0"
    with pytest.raises(ValueError, match="not a version"):
        planner.next_version("latest", major=True)
