"""Tuning without a converter: candidates as data, the Pareto front, the choice, and the recipe that is written."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import phi_repos
import pytest
from phi_repos import FolderHub

from bot import candidates, catalog, choice, recipes, tune
from bot.choice import Candidate, Evidence, Tools
from bot.cli.entry import run
from bot.errors import ConverterFailed, PhimillError, UsageError
from bot.measures import Fidelity
from bot.models import Artifact, ArtifactFile, Precision, Recipe, Release, RepoRef, Status, Verdict
from bot.recipes import Backend
from bot.settings import Settings, get_settings

INT4 = recipes.by_id(["gguf/int4"])[0]
DIGEST = "a" * 64
GOOD = """
[[candidate]]
id = "gguf/q4_k_m+emb-q6_k2"
like = "gguf/int4"
title = "Another"
file = "{m}-other.gguf"
bits_per_weight = 5.1
options = { type = "Q4_K_M", embedding_type = "Q6_K" }
"""


@pytest.fixture
def gguf() -> Backend:
    return recipes.backends()["gguf"]


@pytest.fixture
def release(tmp_path: Path) -> Release:
    hub = FolderHub(phi_repos.write("fp16_source", tmp_path / "fp16"))
    return catalog.release(hub, RepoRef(repo="microsoft/phi"))


def fidelity(kl: float, *, baseline: float | None = None, **changes: Any) -> Fidelity:
    return Fidelity(
        kl_mean=kl, kl_p99=10 * kl, top1=0.9, perplexity_ratio=1.0, baseline_kl_mean=baseline, windows=8,
        window_tokens=256, finite=True, same_end_tokens=True, tokenizer_agrees=True, **changes,
    )  # fmt: skip


def candidate(name: str, size: int | None, kl: float | None, **changes: Any) -> Candidate:
    given = {"status": "measured", "own": False, "preset": "ladder", **changes}
    return Candidate(
        recipe=f"gguf/{name}", title=name, file="f", options={}, recipe_digest=DIGEST, bytes=size, kl=kl,
        bits_per_weight=5.0, **given,
    )  # fmt: skip


def decided(*tried: Candidate, ratio: float = 1.05) -> tuple[tuple[Candidate, ...], str | None]:
    rows = choice.marked(tried, choice.ruled(tried, "gguf/cookbook", ratio))
    return rows, choice.choose(rows)


def evidence(*tried: Candidate, recipe: Recipe | None = INT4) -> Evidence:
    rows, _ = decided(*tried)
    tools = Tools(
        toolchain=DIGEST, versions={}, reference=DIGEST, code="code-1", calibration_sha256=DIGEST,
        evaluation_sha256=DIGEST, windows=8, window_tokens=256, sandbox="none", phimill="0.1.0",
    )  # fmt: skip
    return Evidence(
        source="microsoft/phi", source_sha="c" * 40, backend="gguf", precision=Precision.INT4, made_with=tools,
        rule=choice.ruled(rows, "gguf/cookbook", 1.05), candidates=rows,
        chosen=recipe.id if recipe else None, recipe=recipe,
    )  # fmt: skip


COOKBOOK = candidate("cookbook", 1000, 0.02, own=True, preset="cookbook")


def test_the_nearest_within_the_size_is_chosen() -> None:
    _, chosen = decided(COOKBOOK, candidate("near", 1050, 0.01), candidate("nearer", 1051, 0.005))
    assert chosen == "gguf/near"


def test_a_larger_ratio_lets_a_larger_one_be_chosen() -> None:
    _, chosen = decided(COOKBOOK, candidate("nearer", 1051, 0.005), ratio=1.1)
    assert chosen == "gguf/nearer"


def test_of_equally_near_ones_the_smallest_is_chosen() -> None:
    _, chosen = decided(COOKBOOK, candidate("b", 990, 0.01), candidate("a", 999, 0.01))
    assert chosen == "gguf/b"


@pytest.mark.parametrize("status", ["gate_failed", "refused", "failed"])
def test_what_did_not_pass_is_neither_chosen_nor_on_the_front(status: str) -> None:
    rows, chosen = decided(COOKBOOK, candidate("best", 900, 0.001, status=status))
    assert chosen == "gguf/cookbook"
    assert [row.recipe for row in rows if row.front] == ["gguf/cookbook"]


def test_without_the_size_of_the_cookbook_s_recipe_nothing_is_chosen() -> None:
    failed = candidate("cookbook", None, None, status="failed")
    rows, chosen = decided(failed, candidate("best", 900, 0.001))
    assert chosen is None
    assert rows[0].front


def test_a_cookbook_recipe_that_fails_the_gate_still_sets_the_size() -> None:
    _, chosen = decided(candidate("cookbook", 1000, 9.0, status="gate_failed"), candidate("other", 1040, 0.1))
    assert chosen == "gguf/other"


def test_the_front_holds_what_nothing_smaller_beats_and_rows_come_by_size() -> None:
    rows, _ = decided(
        candidate("worse", 1100, 0.03), candidate("small", 900, 0.03), COOKBOOK, candidate("best", 2000, 0.001),
        candidate("broken", None, None, status="failed"),
    )  # fmt: skip
    assert [row.name for row in rows] == ["small", "cookbook", "worse", "best", "broken"]
    assert [row.name for row in rows if row.front] == ["small", "cookbook", "best"]


def test_the_picture_shows_the_choice_and_is_the_same_each_time() -> None:
    tried = (COOKBOOK, candidate("int4", 1010, 0.01))
    drawn = choice.picture(evidence(*tried))
    assert drawn == choice.picture(evidence(*tried))
    assert drawn != choice.picture(evidence(*tried, recipe=None))


def test_the_chosen_recipe_can_be_pasted_into_the_backend_s_file(gguf: Backend, tmp_path: Path) -> None:
    chosen = next(r for r in candidates.extra("gguf") if r.options.get("tensor_types"))
    found = evidence(COOKBOOK, candidate(chosen.id.partition("/")[2], 1010, 0.01), recipe=chosen)
    table = choice.table(found, "gguf-INT4.json")
    assert "0.0100" in table
    assert f"microsoft/phi@{'c' * 12}" in table
    folder = Path(recipes.__file__).parents[1] / "converters" / "gguf"
    for name in ("architectures.toml", "pretokenizers.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "recipes.toml").write_text((folder / "recipes.toml").read_text() + "\n" + table)
    assert recipes.load(tmp_path).recipes == (*gguf.recipes, chosen)


def test_a_table_says_what_its_backend_does_not_say_for_all(gguf: Backend) -> None:
    elsewhere = INT4.model_copy(update={"repo": "{ns}/{m}-other", "only_when": {"longrope": False}})
    said = tomllib.loads(candidates.as_toml(elsewhere, gguf))["recipe"][0]
    assert said["repo"] == "{ns}/{m}-other"
    assert said["only_when"] == {"longrope": False}
    assert {"baseline", "backend", "runtime", "only_dtype"}.isdisjoint(said)


@pytest.mark.parametrize("text", ['"', "\\", "a\nb", "\x7f", "日本", "\U0001f600", "{m} # no comment", "\x00\x1f"])
def test_any_text_survives_as_toml(text: str) -> None:
    value = {"k": text, text: [text, True, 0.5, 3, {"deep": [1e-5]}]}
    assert tomllib.loads(f"value = {candidates.spelled(value)}")["value"] == value


def test_gguf_has_real_candidates_beside_its_recipes(gguf: Backend) -> None:
    made = candidates.extra("gguf")
    assert {"INT4", "INT8"} <= {r.precision for r in made}
    assert all(r.by_hand and r.file.format(m="{m}") in r.by_hand[-1] for r in made)
    for recipe in made:
        command = recipe.by_hand[-1].lower()
        assert ("--imatrix" in command) == bool(recipe.options.get("imatrix"))
        types = [recipe.options.get(name, "") for name in ("type", "embedding_type", "output_type")]
        assert all(kind.lower() in command for kind in (*types, *recipe.options.get("tensor_types", {}).values()))


def test_a_candidate_is_like_a_recipe_but_for_what_it_says(gguf: Backend, tmp_path: Path) -> None:
    (tmp_path / "candidates.toml").write_text(GOOD)
    (made,) = candidates.read(tmp_path / "candidates.toml", gguf.recipes)
    assert (made.precision, made.repo, made.baseline, made.suits) == ("INT4", INT4.repo, INT4.baseline, INT4.suits)
    assert made.options == {"type": "Q4_K_M", "embedding_type": "Q6_K"}
    assert made.by_hand == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("gguf/int4", "gguf/int5"), "candidate.0: `like`"),
        (GOOD.replace('like = "gguf/int4"', ""), "candidate.0: `like`"),
        (GOOD.replace('file = "{m}-other.gguf"', ""), "'file' is missing"),
        (GOOD + 'baseline = "gguf/bf16"', "'baseline' is that of"),
        (GOOD + "typo = 1", "candidate.0.typo"),
        (GOOD.replace("5.1", '"many"'), "candidate.0.bits_per_weight"),
        (GOOD.replace("gguf/q4", "onnx/q4"), "is not gguf/ and a name"),
        (GOOD.replace("gguf/q4", "gguf/../q4"), "is not gguf/ and a name"),
        (GOOD + GOOD, "is there twice"),
        (GOOD.replace("{m}-other.gguf", "{m}-Q8_0.gguf"), "is there twice, or a recipe's"),
        ("[[[", "cannot be read"),
    ],
)
def test_a_wrong_file_of_candidates_is_named_with_the_place(
    gguf: Backend, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "candidates.toml"
    path.write_text(text)
    with pytest.raises(PhimillError, match=message) as raised:
        candidates.read(path, gguf.recipes)
    assert str(path) in raised.value.message


def test_all_of_a_precision_are_tried_unless_some_are_named(gguf: Backend, release: Release) -> None:
    names = {r.id for r in candidates.select(gguf, Precision.INT4, release)}
    assert {"gguf/int4", "gguf/int4-cookbook", "gguf/iq4_xs", "gguf/q4_k_s"} <= names
    assert "gguf/int8" not in names
    named = candidates.select(gguf, Precision.INT4, release, ["gguf/q4_k_s"])
    assert [r.id for r in named] == ["gguf/int4-cookbook", "gguf/q4_k_s"], "and what sets the size"


def test_what_suits_none_of_the_same_devices_is_tried_only_when_it_is_named(gguf: Backend, release: Release) -> None:
    elsewhere = gguf.recipes[0].model_copy(update={"id": "gguf/cuda", "devices": ("browser",)})
    more = gguf.model_copy(update={"recipes": (*gguf.recipes, elsewhere)})
    assert elsewhere not in candidates.select(more, Precision.INT4, release)
    assert elsewhere in candidates.select(more, Precision.INT4, release, ["gguf/cuda"])


def test_a_recipe_for_another_kind_of_source_is_not_tried(gguf: Backend, release: Release) -> None:
    assert [r.id for r in candidates.select(gguf, Precision.FP16, release)] == ["gguf/fp16"]


@pytest.mark.parametrize("name", ["gguf/int8", "gguf/nothing"])
def test_a_candidate_that_is_none_is_a_usage_error_that_lists_them(gguf: Backend, release: Release, name: str) -> None:
    with pytest.raises(UsageError, match=r"gguf/q4_k_s\+emb-q8_0"):
        candidates.select(gguf, Precision.INT4, release, [name])


def test_the_size_is_the_cookbook_s_or_else_a_default_recipe_s(gguf: Backend, release: Release) -> None:
    assert candidates.yardstick(gguf, Precision.INT4, release).id == "gguf/int4-cookbook"
    assert candidates.yardstick(gguf, Precision.INT8, release).id == "gguf/int8"
    few = gguf.model_copy(update={"recipes": gguf.recipes[:2]})
    with pytest.raises(UsageError, match="no FP32 recipe"):
        candidates.yardstick(few, Precision.FP32, release)


class Stages:
    """Stands in for a build's stages: says at once what it was told to have measured, and counts."""

    def __init__(self, figures: Callable[[Recipe], Fidelity]) -> None:
        self.figures = figures
        self.calls: list[str] = []

    def convert(self, recipe: Recipe, telling: object) -> Artifact:
        self.calls.append(f"convert {recipe.id}")
        file = ArtifactFile(path="m.gguf", size=1000, sha256=DIGEST)
        return Artifact(recipe=recipe.id, files=(file,), bits_per_weight=5.0)

    def prove(self, recipe: Recipe, telling: object) -> Fidelity:
        self.calls.append(f"prove {recipe.id}")
        return self.figures(recipe)

    def drop(self, recipe: Recipe) -> None:
        self.calls.append(f"drop {recipe.id}")


class Deaf:
    def write(self, *_: object) -> None: ...
    def set_progress(self, *_: object) -> None: ...


@pytest.fixture
def tuning(tmp_path: Path, release: Release, gguf: Backend) -> Callable[[Stages], Any]:
    settings = Settings(home=tmp_path)

    def make(stages: Any) -> tune.Tuning:
        return tune.Tuning(settings, release, gguf, stages, DIGEST, "code-1", Deaf())

    return make


def yes(recipe: Recipe) -> Verdict:
    return Verdict(recipe=recipe.id, status=Status.SUPPORTED)


def test_what_was_measured_is_kept_and_its_files_are_not(tuning: Callable[[Stages], Any]) -> None:
    stages = Stages(lambda recipe: fidelity(1e-4, baseline=1e-4))
    row = tuning(stages).tried(INT4, yes(INT4))
    assert (row.status, row.kl, row.bytes) == ("measured", 1e-4, 1000)
    assert stages.calls == [
        f"{what} {name}" for name in ("gguf/fp16", INT4.id) for what in ("convert", "prove", "drop")
    ]
    again = Stages(lambda recipe: fidelity(1.0))
    assert tuning(again).tried(INT4, yes(INT4)) == row
    assert again.calls == []


def test_with_other_tools_everything_is_measured_again(tuning: Callable[[Stages], Any]) -> None:
    tuning(Stages(lambda recipe: fidelity(1e-4))).tried(INT4, yes(INT4))
    again = Stages(lambda recipe: fidelity(1e-4))
    other = tuning(again)
    other.code = "code-2"
    other.tried(INT4, yes(INT4))
    assert f"convert {INT4.id}" in again.calls


def test_a_candidate_that_cannot_be_made_says_why_and_is_tried_again_the_next_time(
    tuning: Callable[[Stages], Any],
) -> None:
    def figures(recipe: Recipe) -> Fidelity:
        if recipe == INT4:
            raise ConverterFailed("llama.cpp said no.")
        return fidelity(1e-4)

    for _ in range(2):
        stages = Stages(figures)
        row = tuning(stages).tried(INT4, yes(INT4))
        assert (row.status, row.reason, row.bytes) == ("failed", "llama.cpp said no.", None)
        assert stages.calls[-3:] == [f"convert {INT4.id}", f"prove {INT4.id}", f"drop {INT4.id}"]


def test_what_the_verdict_refuses_is_not_made(tuning: Callable[[Stages], Any]) -> None:
    stages = Stages(lambda recipe: fidelity(1e-4))
    refused = Verdict(recipe=INT4.id, status=Status.UNSUPPORTED, reasons=("It has eyes.",))
    small = Verdict(recipe=INT4.id, status=Status.SUPPORTED, lacks=("It needs 9 GiB.",))
    for verdict, reason in ((refused, "It has eyes."), (small, "It needs 9 GiB.")):
        row = tuning(stages).tried(INT4, verdict)
        assert (row.status, row.reason) == ("refused", reason)
    assert stages.calls == []


def test_a_candidate_above_the_gate_is_listed_with_its_figures(tuning: Callable[[Stages], Any]) -> None:
    row = tuning(Stages(lambda r: fidelity(1e-4 if r.id == r.baseline else 0.5))).tried(INT4, yes(INT4))
    assert (row.status, row.kl) == ("gate_failed", 0.5)
    assert "0.15" in (row.reason or "")


def test_where_the_runtime_is_wrong_nothing_is_measured_against_it(tuning: Callable[[Stages], Any]) -> None:
    stages = Stages(lambda recipe: fidelity(0.1))
    made = tuning(stages)
    rows = [made.tried(recipe, yes(recipe)) for recipe in recipes.by_id(["gguf/int4", "gguf/int4-cookbook"])]
    assert {row.status for row in rows} == {"failed"}
    assert all("gguf/fp16: Runtime error" in (row.reason or "") for row in rows)
    assert stages.calls == ["convert gguf/fp16", "prove gguf/fp16", "drop gguf/fp16"]


def test_where_the_runtime_is_known_to_differ_the_distance_to_its_own_export_counts(
    tuning: Callable[[Stages], Any], gguf: Backend
) -> None:
    known = tuple(
        r.model_copy(update={"runtime_error": {"context": "It reads RoPE otherwise."}}) for r in gguf.recipes
    )
    made = tuning(Stages(lambda recipe: fidelity(0.3, baseline=None if recipe.id == recipe.baseline else 0.01)))
    made.backend = gguf.model_copy(update={"recipes": known})
    made.faults[INT4.baseline] = None
    row = made.tried(known[0], yes(known[0]))
    assert (row.status, row.kl, row.against) == ("measured", 0.01, "baseline")


def test_evidence_picture_and_recipe_lie_side_by_side(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    found = evidence(COOKBOOK, candidate("int4", 1010, 0.01))
    written = tune.save(found, settings)
    assert written["evidence"] == tmp_path / "tuning" / "microsoft--phi" / ("c" * 40) / "gguf-INT4.json"
    assert Evidence.model_validate_json(written["evidence"].read_bytes()) == found
    assert tomllib.loads(written["recipe"].read_text())["recipe"][0]["id"] == "gguf/int4"
    assert written["picture"].read_bytes().startswith(b"\x89PNG")


def test_without_a_choice_an_earlier_recipe_is_taken_away(tmp_path: Path) -> None:
    settings, out = Settings(home=tmp_path), tmp_path / "mine" / "evidence.json"
    first = tune.save(evidence(COOKBOOK, candidate("int4", 1010, 0.01)), settings, out)
    second = tune.save(evidence(COOKBOOK, recipe=None), settings, out)
    assert set(second) == {"evidence", "picture"}
    assert not first["recipe"].exists()
    assert sorted(path.name for path in out.parent.iterdir()) == ["evidence.json", "evidence.png"]


class Mill:
    """As much of a mill as the command needs when the tuning itself is told what to find."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)

    def close(self) -> None: ...


@pytest.fixture
def tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Evidence], list[Any]]:
    """Makes `phimill tune` find this evidence; what it was asked is in the list."""
    get_settings.cache_clear()
    monkeypatch.setattr("bot.mill.Mill", lambda settings: Mill(tmp_path))

    def tell(found: Evidence) -> list[Any]:
        asked: list[Any] = []

        def tuned(_mill: object, _ear: object, *wanted: Any) -> Evidence:
            asked.extend(wanted)
            return found

        monkeypatch.setattr(tune, "tune", tuned)
        return asked

    return tell


Told = Callable[[Evidence], list[Any]]


def test_the_table_the_choice_and_the_recipe_are_printed(tells: Told, capsys: pytest.CaptureFixture[str]) -> None:
    broken = candidate("odd", None, None, status="failed", reason="llama.cpp said no.")
    large = candidate("large", 9_000_000_000, 0.001)
    asked = tells(evidence(COOKBOOK, candidate("int4", 1010, 0.01), large, broken))
    assert run(["tune", "microsoft/phi", "--backend", "gguf"]) == 0
    out = capsys.readouterr().out
    assert asked == ["microsoft/phi", "gguf", Precision.INT4, (), 1.05]
    (chosen,) = (line for line in out.splitlines() if line.startswith("gguf/int4 "))
    assert chosen.split()[-2:] == ["*", "chosen"]
    assert "too large" in next(line for line in out.splitlines() if "9.000 GB" in line)
    assert "gguf/odd: llama.cpp said no." in out
    assert '[[recipe]]\nid = "gguf/int4"' in "\n".join(line.rstrip() for line in out.splitlines())
    assert "gguf-INT4.toml" in out


def test_the_evidence_is_what_json_prints(tells: Told, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = evidence(COOKBOOK, candidate("int4", 1010, 0.01))
    asked = tells(found)
    words = ["--precision", "int4", "--candidate", "gguf/int4", "--max-bytes-ratio", "1.2"]
    out = tmp_path / "e.json"
    assert run(["tune", "microsoft/phi", "--backend", "gguf", *words, "--out", str(out), "--format", "json"]) == 0
    assert asked == ["microsoft/phi", "gguf", Precision.INT4, ["gguf/int4"], 1.2]
    assert Evidence.model_validate_json(capsys.readouterr().out) == found
    assert Evidence.model_validate_json(out.read_bytes()) == found


def test_without_a_choice_it_exits_with_4_and_still_writes_the_evidence(
    tells: Told, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tells(evidence(candidate("cookbook", 1000, 9.0, status="gate_failed", reason="Too far."), recipe=None))
    assert run(["tune", "microsoft/phi", "--backend", "gguf"]) == 4
    said = capsys.readouterr()
    assert "failed the gate" in said.out
    assert "None of the candidates can be chosen" in said.err
    assert list(tmp_path.rglob("gguf-INT4.json"))


@pytest.mark.parametrize(
    "words",
    [
        ["--backend", "gguf", "--out", "x.png"],
        ["--backend", "gguf", "--out", "x.toml"],
        ["--backend", "gguf", "--precision", "INT3"],
        ["--backend", "gguf", "--max-bytes-ratio", "0"],
        [],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(tells: Told, words: list[str]) -> None:
    asked = tells(evidence(COOKBOOK, recipe=None))
    assert run(["tune", "microsoft/phi", *words]) == 2
    assert asked == []
