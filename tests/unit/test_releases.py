"""The table of what stands where, for a backend that publishes to two repos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import two_repos
from fake_mill import NOON, build
from two_repos import DESK, MODEL, WEB

from bot import recipes, releases, toolchain
from bot.builds import Build, BuildRequest, Failure, Phase, Target, VariantResult
from bot.catalog import Candidate
from bot.hub import RepoSummary
from bot.publication import RecipeMark, SourceDigests, Summary
from bot.recipes import Backend
from bot.releases import ReleaseRow

CANDIDATE = Candidate(repo=MODEL, sha="1" * 40, architecture="Phi3ForCausalLM")
DIGESTS = SourceDigests(weights="a" * 64, assets="b" * 64, readme="c" * 64)


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    return two_repos.install(tmp_path / "twin", monkeypatch)


def state(*names: str, version: str = "v1.0", sha: str = "1" * 40) -> Summary:
    lock = toolchain.lock_digest("twin")
    marks = {
        r.id: RecipeMark(digest=r.digest, toolchain=lock, version=version, kl_mean=0.02) for r in recipes.by_id(names)
    }
    return Summary(
        backend="twin", source=MODEL, source_sha=sha, digests=DIGESTS, version=version, complete=True, recipes=marks
    )


def table(
    backend: Backend, there: dict[str, Summary], *builds: Build, private: bool = False, **notes: str
) -> dict[str, ReleaseRow]:
    ours = [(RepoSummary(repo=r, sha="2" * 40, last_modified=NOON, private=private), s) for r, s in there.items()]
    noted = {f"{name}:{MODEL}:twin": text for name, text in notes.items()}
    rows = releases.Table("phimill", "https://hub.example").rows([CANDIDATE], [backend], ours, builds, noted)
    return {row.recipe.removeprefix("twin/"): row for row in rows}


def of(*names: str, namespace: str = "phimill") -> BuildRequest:
    target = Target(repo=f"{namespace}/Phi-x", version="v1.0", recipes=names)
    return BuildRequest(
        repo=MODEL, sha="1" * 40, backend="twin", namespace=namespace, toolchain="t", targets=(target,)
    )


def test_each_recipe_is_looked_up_in_its_own_repo(twin: Backend) -> None:
    rows = table(twin, {DESK: state("twin/int4"), WEB: state("twin/web-int4", version="v2.0", sha="0" * 40)})
    assert {name: (row.state, row.url, row.tag) for name, row in rows.items()} == {
        "int4": ("published", f"https://hub.example/{DESK}", "v1.0"),
        "fp32": ("missing", None, None),
        "web-int4": ("stale", f"https://hub.example/{WEB}", "v2.0"),
        "web-fp32": ("missing", None, None),
        "web-moe": ("missing", None, None),
    }


def test_a_variant_in_another_repo_than_its_own_does_not_count(twin: Backend) -> None:
    assert table(twin, {DESK: state("twin/web-int4")})["web-int4"].state == "missing"


def test_a_build_under_way_is_shown_for_the_recipes_of_all_its_targets(twin: Backend) -> None:
    request = BuildRequest(
        repo=MODEL, sha="1" * 40, backend="twin", namespace="phimill", toolchain="t",
        targets=(
            Target(repo=DESK, version="v1.0", recipes=("twin/fp32",)),
            Target(repo=WEB, version="v1.0", recipes=("twin/web-fp32",)),
        ),
    )  # fmt: skip
    rows = table(twin, {DESK: state("twin/int4")}, build(phase=Phase.RUNNING, asked=request))
    assert {name: row.state for name, row in rows.items()} == {
        "int4": "published", "fp32": "building", "web-int4": "missing", "web-fp32": "building", "web-moe": "missing",
    }  # fmt: skip


def test_what_stands_has_its_version_its_date_and_its_distance(twin: Backend) -> None:
    row = table(twin, {DESK: state("twin/int4")})["int4"]
    assert (row.tag, row.date, row.kl) == ("v1.0", NOON, 0.02)


def test_a_stale_variant_says_whether_the_source_or_the_converter_changed(twin: Backend) -> None:
    moved = table(twin, {DESK: state("twin/int4", sha="0" * 40)})["int4"]
    old = state("twin/int4")
    mark = old.recipes["twin/int4"].model_copy(update={"toolchain": "e" * 64})
    renewed = table(twin, {DESK: old.model_copy(update={"recipes": {"twin/int4": mark}})})["int4"]
    assert [(row.state, row.detail) for row in (moved, renewed)] == [
        ("stale", releases.MOVED), ("stale", releases.RENEWED),
    ]  # fmt: skip


def test_a_recipe_for_releases_of_another_kind_is_not_missing(twin: Backend) -> None:
    rows = table(twin, {}, unsuited=json.dumps({"twin/web-moe": "It is for models with experts."}))
    assert (rows["web-moe"].state, rows["web-moe"].detail) == ("unsuited", "It is for models with experts.")
    assert rows["int4"].state == "missing"


def test_what_cannot_be_made_says_why(twin: Backend) -> None:
    assert {row.state for row in table(twin, {}, why="Not enough disk.").values()} == {"refused"}
    ended = VariantResult(recipe="twin/int4", status="gate_failed", reason="Too far.")
    failed = build(phase=Phase.FAILED, results=(ended,), asked=of("twin/int4", "twin/fp32"))
    rows = table(twin, {}, failed)
    assert (rows["int4"].state, rows["int4"].detail, rows["int4"].build) == ("failed", "Too far.", failed.id)


def test_a_build_that_broke_is_shown_for_all_that_it_did_not_make(twin: Backend) -> None:
    made = VariantResult(recipe="twin/int4", status="published")
    broken = build(
        phase=Phase.FAILED, results=(made,), failure=Failure(code="error", message="The disk is full."),
        asked=of("twin/int4", "twin/fp32"),
    )  # fmt: skip
    rows = table(twin, {DESK: state("twin/int4")}, broken)
    assert (rows["int4"].state, rows["fp32"].state, rows["fp32"].detail) == (
        "published",
        "failed",
        "The disk is full.",
    )


def test_a_build_for_somebody_else_s_account_is_not_shown(twin: Backend) -> None:
    mine = build(phase=Phase.RUNNING, asked=of("twin/int4", namespace="ann"))
    assert table(twin, {}, mine)["int4"].state == "missing"


def test_what_stands_in_a_private_repo_is_not_there_for_strangers(twin: Backend) -> None:
    rows = tuple(table(twin, {DESK: state("twin/int4")}, private=True).values())
    assert next(row for row in rows if row.state == "published").url == f"https://hub.example/{DESK}"
    assert {(row.state, row.url, row.tag) for row in releases.public(rows)} == {("missing", None, None)}


def test_the_rows_of_a_release_are_made_again_when_something_about_it_changed_and_not_before(twin: Backend) -> None:
    moved, int4 = CANDIDATE.model_copy(update={"sha": "3" * 40}), state("twin/int4")
    listed = RepoSummary(repo=DESK, sha="2" * 40)
    later = listed.model_copy(update={"last_modified": NOON})
    hidden = later.model_copy(update={"private": True})
    running, noted = build(phase=Phase.RUNNING, asked=of("twin/fp32")), f":{MODEL}:twin"
    why = {f"{releases.WHY[:-1]}{noted}": "Not enough disk."}
    unsuited = why | {f"{releases.UNSUITED[:-1]}{noted}": json.dumps({"twin/web-int4": "Not for it."})}
    # Each differs from the one before it in one thing.
    looks: list[tuple[Candidate, list[tuple[RepoSummary, Summary]], list[Build], dict[str, str]]] = [
        (CANDIDATE, [], [], {}),
        (CANDIDATE, [(listed, int4)], [], {}),
        (CANDIDATE, [(later, int4)], [], {}),
        (CANDIDATE, [(hidden, int4)], [], {}),
        (CANDIDATE, [(hidden, state("twin/fp32"))], [], {}),
        (moved, [(hidden, state("twin/fp32"))], [], {}),
        (moved, [(hidden, state("twin/fp32"))], [running], {}),
        (moved, [(hidden, state("twin/fp32"))], [running], why),
        (moved, [(hidden, state("twin/fp32"))], [running], unsuited),
    ]
    kept, before = releases.Table("phimill", "https://hub.example"), ()
    for candidate, there, builds, notes in looks:
        fresh = releases.Table("phimill", "https://hub.example").rows([candidate], [twin], there, builds, notes)
        made = kept.rows([candidate], [twin], there, builds, notes)
        assert made == fresh != before
        again = kept.rows([candidate], [twin], there, builds, notes)
        assert all(new is old for new, old in zip(again, made, strict=True))
        before = made
