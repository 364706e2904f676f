"""Plans for a backend that publishes to several repos, on a Hub that is read from folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import phi_repos
import pytest
import two_repos
from phi_repos import FolderHub
from two_repos import DESK, MODEL, WEB

from bot import catalog, ledger, recipes, toolchain
from bot.builds import Target
from bot.errors import NotOurs, UsageError
from bot.measures import Fidelity
from bot.models import ArtifactFile, Release, RepoRef
from bot.planning import Plan, Planning
from bot.publication import Publication, PublishedVariant, SourceDigests
from bot.publisher import Head
from bot.recipes import Backend
from bot.settings import Settings

GOOD = Fidelity(
    kl_mean=1e-6, kl_p99=1e-5, top1=1, perplexity_ratio=1, windows=8, window_tokens=256,
    finite=True, same_end_tokens=True, tokenizer_agrees=True,
)  # fmt: skip


class Shelf:
    """What stands in our repos, and which tags they have."""

    def __init__(self) -> None:
        self.there: dict[str, Publication] = {}
        self.tagged: dict[str, tuple[str, ...]] = {}
        self.looked_at: list[str] = []

    def put(self, state: Publication, *tags: str) -> None:
        self.there[state.repo], self.tagged[state.repo] = state, tags

    def head(self, repo: str) -> Head:
        self.looked_at.append(repo)
        found = self.there.get(repo)
        return Head(sha="e" * 40 if found else None, publication=found)

    def tags(self, repo: str) -> tuple[str, ...]:
        return self.tagged[repo]


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    return two_repos.install(tmp_path / "twin", monkeypatch)


@pytest.fixture
def hub(tmp_path: Path) -> FolderHub:
    return FolderHub(phi_repos.write("phi3_mini_4k", tmp_path / "phi"), MODEL)


@pytest.fixture
def release(hub: FolderHub) -> Release:
    return catalog.release(hub, RepoRef(repo=MODEL))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def plan(twin: Backend, hub: FolderHub, shelf: Shelf, tmp_path: Path) -> Callable[..., Plan]:
    publisher: Any = shelf
    planning = Planning(Settings(home=tmp_path / "home", disk_floor=0), hub, publisher)
    return lambda *asked: planning.plan(MODEL, asked, "phimill")


def standing(release: Release, repo: str, *names: str, version: str = "v1.0", **digests: str) -> Publication:
    """A finished repo with these variants, made from the release, or from one with other files."""
    made = SourceDigests.model_validate(catalog.classify_files(release).model_dump() | digests)
    state = Publication(
        repo=repo, backend="twin", source=release.repo, source_sha="d" * 40 if digests else release.sha,
        digests=made, version=version, complete=False,
    )  # fmt: skip
    for recipe in recipes.by_id(names):
        variant = PublishedVariant(
            recipe=recipe.id, title=recipe.title, precision=recipe.precision, preset=recipe.preset,
            suits=recipe.suits, recipe_digest=recipe.digest, toolchain=toolchain.lock_digest("twin"),
            made_from=made.made_from, version=version, bits_per_weight=recipe.bits_per_weight, fidelity=GOOD,
            files=(ArtifactFile.of(recipe.file, recipe.id.encode()),),
        )  # fmt: skip
        state = ledger.add(state, variant)
    return ledger.close(state)


def targets(plan: Plan) -> dict[str, tuple[str, tuple[str, ...]]]:
    [request] = plan.builds
    return {target.repo: (target.version, target.recipes) for target in request.targets}


def test_a_new_release_is_one_build_with_every_repo_of_its_backend(plan: Callable[..., Plan]) -> None:
    made = plan()
    assert targets(made) == {
        DESK: ("v1.0", ("twin/int4", "twin/fp32")),
        WEB: ("v1.0", ("twin/web-int4", "twin/web-fp32")),
    }
    assert made.repos == (DESK, WEB)
    assert made.builds[0].recipes == ("twin/int4", "twin/fp32", "twin/web-int4", "twin/web-fp32")


def test_a_repo_in_which_everything_stands_is_left_alone_and_the_other_is_built(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    shelf.put(standing(release, DESK, "twin/int4", "twin/fp32", version="v1.3"), "v1.3")
    made = plan()
    assert targets(made) == {WEB: ("v1.0", ("twin/web-int4", "twin/web-fp32"))}
    assert made.repos == (DESK, WEB)
    assert {(r.recipe, r.status, r.repo, r.tag) for r in made.results} == {
        (recipe, "already_published", DESK, "v1.3") for recipe in ("twin/int4", "twin/fp32")
    }


def test_when_every_repo_stands_there_is_nothing_to_build(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    shelf.put(standing(release, DESK, "twin/int4", "twin/fp32"), "v1.0")
    shelf.put(standing(release, WEB, "twin/web-int4", "twin/web-fp32"), "v1.0")
    assert plan().builds == ()


def test_a_new_readme_renews_the_card_of_every_repo_and_builds_nothing(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    old = {"readme": "f" * 64}
    shelf.put(standing(release, DESK, "twin/int4", "twin/fp32", version="v2.1", **old), "v2.1")
    shelf.put(standing(release, WEB, "twin/web-int4", "twin/web-fp32", **old), "v1.0")
    assert targets(plan()) == {DESK: ("v2.1", ()), WEB: ("v1.0", ())}


def test_a_new_readme_comes_along_with_what_is_missing_in_another_repo(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    shelf.put(standing(release, DESK, "twin/int4", "twin/fp32", readme="f" * 64), "v1.0")
    assert targets(plan()) == {DESK: ("v1.0", ()), WEB: ("v1.0", ("twin/web-int4", "twin/web-fp32"))}


def test_a_finished_version_without_its_tag_is_a_target_with_nothing_to_make(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    shelf.put(standing(release, DESK, "twin/int4", "twin/fp32"))
    shelf.put(standing(release, WEB, "twin/web-int4", "twin/web-fp32"), "v1.0")
    assert targets(plan()) == {DESK: ("v1.0", ())}


def test_new_weights_make_again_what_stands_in_each_repo_and_no_more(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    old = {"weights": "f" * 64}
    shelf.put(standing(release, DESK, "twin/int8", version="v1.4", **old), "v1.4")
    shelf.put(standing(release, WEB, "twin/web-int4", "twin/web-fp32", **old), "v1.0")
    assert targets(plan()) == {
        DESK: ("v2.0", ("twin/int4", "twin/fp32", "twin/int8")),
        WEB: ("v2.0", ("twin/web-int4", "twin/web-fp32")),
    }


def test_asking_for_one_recipe_looks_at_its_repo_alone(plan: Callable[..., Plan], shelf: Shelf) -> None:
    assert targets(plan("twin/web-int4")) == {WEB: ("v1.0", ("twin/web-int4",))}
    assert set(shelf.looked_at) == {WEB}


def test_what_is_for_models_of_another_kind_is_refused_when_it_is_asked_for(plan: Callable[..., Plan]) -> None:
    made = plan("twin/web-moe")
    assert made.builds == ()
    assert [(r.recipe, r.status, r.reason) for r in made.results] == [
        ("twin/web-moe", "refused", "It is for models with experts.")
    ]


def test_one_repo_that_holds_another_model_stops_the_plan(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    shelf.put(standing(release, WEB, "twin/web-int4").model_copy(update={"source": "microsoft/other"}), "v1.0")
    with pytest.raises(NotOurs, match=f"{WEB} holds conversions of microsoft/other"):
        plan()


def test_nothing_asked_means_the_enabled_backends_and_what_nobody_here_would_build_is_refused(
    twin: Backend, hub: FolderHub, shelf: Shelf, tmp_path: Path
) -> None:
    publisher: Any = shelf
    planning = Planning(Settings(home=tmp_path / "home", disk_floor=0, backends=()), hub, publisher)
    assert planning.plan(MODEL, (), "phimill").builds == ()
    assert planning.plan(MODEL, ("all",), "phimill").builds == ()
    for name in ("twin/int4", "twin"):
        with pytest.raises(UsageError, match="Nothing is built with twin here"):
            planning.plan(MODEL, (name,), "phimill")


def test_the_same_plan_has_the_same_key_and_any_difference_another(
    plan: Callable[..., Plan], shelf: Shelf, release: Release
) -> None:
    [first], [same] = plan().builds, plan().builds
    shelf.put(standing(release, DESK, "twin/int4", "twin/fp32"), "v1.0")
    [less] = plan().builds
    assert first.key == same.key != less.key
    assert first.model_copy(update={"sha": "0" * 40}).key != first.key


def test_a_build_covers_another_that_makes_less_of_the_same_in_no_other_repo(plan: Callable[..., Plan]) -> None:
    [everything], [one] = plan().builds, plan("twin/web-int4").builds
    assert one.covered_by(everything)
    assert not everything.covered_by(one)
    later = everything.model_copy(
        update={"targets": tuple(t.model_copy(update={"version": "v1.1"}) for t in everything.targets)}
    )
    assert later.covered_by(everything), "the version is chosen anew when it is published"
    card = Target(repo="phimill/phi-other", version="v1.0", recipes=())
    elsewhere = one.model_copy(update={"targets": (*one.targets, card)})
    assert not elsewhere.covered_by(everything)
