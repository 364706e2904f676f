"""The table of what stands where, for a backend that publishes to two repos."""

from __future__ import annotations

from pathlib import Path

import pytest
import two_repos
from fake_mill import build
from two_repos import DESK, MODEL, WEB

from bot import recipes, releases, toolchain
from bot.builds import Build, BuildRequest, Phase, Target
from bot.catalog import Candidate
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
    marks = {r.id: RecipeMark(digest=r.digest, toolchain=lock, version=version) for r in recipes.by_id(names)}
    return Summary(
        backend="twin", source=MODEL, source_sha=sha, digests=DIGESTS, version=version, complete=True, recipes=marks
    )


def table(backend: Backend, there: dict[str, Summary], *builds: Build) -> dict[str, ReleaseRow]:
    standing = {(MODEL, "twin"): there}
    rows = releases.rows([CANDIDATE], [backend], standing, builds, {}, "phimill", "https://hub.example")
    return {row.recipe.removeprefix("twin/"): row for row in rows}


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
