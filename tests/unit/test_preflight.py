"""The verdict on every kind of Phi, from metadata alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import phi_repos
import pytest
from phi_repos import FolderHub, put

from bot import catalog, costs, preflight, pretokenizer, recipes
from bot.models import Needs, RepoRef, Status, Verdict
from bot.pretokenizer import Probed
from bot.settings import GIB, Settings

REF = RepoRef(repo="microsoft/phi")
KNOWN = "b" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", disk_floor=0)


@pytest.fixture
def _known_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that knows the pre-tokenizer, and a probe that is not run (the integration tests run it)."""
    gguf = recipes.backends()["gguf"]
    assert gguf.pretokenizers is not None
    known = gguf.pretokenizers.model_copy(update={"hashes": {KNOWN: "phi"}})
    made = gguf.model_copy(update={"pretokenizers": known})
    monkeypatch.setattr(recipes, "backends", lambda: {"gguf": made})
    monkeypatch.setattr(preflight, "probe", lambda *_: Probed(sha256=KNOWN, highest=319))


def judge(folder: Path, settings: Settings, *ids: str) -> list[Verdict]:
    hub = FolderHub(folder)
    release = catalog.release(hub, REF)
    return list(preflight.verdicts(release, recipes.by_id(ids or ["gguf/int8"]), hub, settings))


@pytest.mark.usefixtures("_known_tokenizer")
@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("phi3_mini_4k", Status.SUPPORTED, ""),
        ("sharded", Status.SUPPORTED, ""),
        ("phi4", Status.SUPPORTED, ""),
        ("phi2", Status.SUPPORTED, ""),
        ("fp16_source", Status.SUPPORTED, ""),
        ("phi35_mini", Status.CAVEAT, "LongRoPE"),
        ("phi35_mini_saved_by_transformers_5", Status.CAVEAT, "LongRoPE"),
        ("phi4_mini", Status.CAVEAT, "LongRoPE"),
        ("tokenizer_saved_by_transformers_5", Status.UNSUPPORTED, "tokenizer.model"),
        ("phi35_moe", Status.KNOWN_BROKEN, "sparsemixer"),
        ("tiny_moe", Status.UNSUPPORTED, "heads"),
        ("phi3_small", Status.UNSUPPORTED, "block-sparse"),
        ("phi3_vision", Status.UNSUPPORTED, "code from its own repo"),
        ("phi4_multimodal", Status.UNSUPPORTED, "LoRA"),
        ("phi4_flash", Status.UNSUPPORTED, "SambaY"),
        ("phi4_vision", Status.UNSUPPORTED, "remote code"),
        ("pickles_only", Status.UNSUPPORTED, "pickles"),
        ("no_tokenizer", Status.UNSUPPORTED, "no tokenizer"),
        ("quantized_already", Status.UNSUPPORTED, "quantized already"),
        ("wrong_vocabulary", Status.UNSUPPORTED, "[320, 64]; config.json says [384, 64]"),
        ("missing_layer", Status.UNSUPPORTED, "says 3 layers; the weights hold 2"),
        ("gguf_only", Status.UNSUPPORTED, "no safetensors"),
    ],
)
def test_each_kind_of_repo_gets_its_verdict(
    name: str, status: Status, reason: str, tmp_path: Path, settings: Settings
) -> None:
    (verdict,) = judge(phi_repos.write(name, tmp_path / "repo"), settings)
    assert verdict.status is status, verdict.reasons
    assert reason in " ".join(verdict.reasons)
    assert verdict.convertible is (status in (Status.SUPPORTED, Status.CAVEAT))


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"original_max_position_embeddings": None}, "original_max_position_embeddings"),
    ({"rms_norm_eps": None}, "rms_norm_eps"),
    ({"rope_scaling": {**phi_repos.longrope(), "long_factor": [1.0]}}, "not 8 long"),
    ({"rope_scaling": {"type": "longrope", "long_factor": [1.0] * 8}}, "not 8 long"),
    ({"num_key_value_heads": 4}, "do not have the heads"),
]


@pytest.mark.parametrize(("changes", "reason"), CHANGES)
def test_a_config_that_llama_cpp_would_stumble_over_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path, settings: Settings
) -> None:
    phi_repos.phi3(tmp_path, **changes)
    (verdict,) = judge(tmp_path, settings)
    assert verdict.status is Status.UNSUPPORTED
    assert reason in " ".join(verdict.reasons)


def test_a_tokenizer_config_without_a_class_is_refused(tmp_path: Path, settings: Settings) -> None:
    phi_repos.write("phi3_mini_4k", tmp_path)
    put(tmp_path, "tokenizer_config.json", {})
    (verdict,) = judge(tmp_path, settings)
    assert "names no tokenizer_class" in " ".join(verdict.reasons)


@pytest.mark.usefixtures("_known_tokenizer")
@pytest.mark.parametrize(
    ("probed", "reason"),
    [
        (Probed(sha256="c" * 64, highest=10), "does not know its pre-tokenizer"),
        (Probed(sha256=KNOWN, highest=320), "token 320"),
    ],
)
def test_a_tokenizer_that_would_mistokenize_is_refused(
    probed: Probed, reason: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "probe", lambda *_: probed)
    (verdict,) = judge(phi_repos.write("phi4", tmp_path), settings)
    assert verdict.status is Status.UNSUPPORTED
    assert reason in " ".join(verdict.reasons)


def test_bf16_is_for_bf16_sources(tmp_path: Path, settings: Settings) -> None:
    verdicts = judge(phi_repos.write("fp16_source", tmp_path), settings, "gguf/bf16", "gguf/fp16")
    assert [v.status for v in verdicts] == [Status.UNSUPPORTED, Status.SUPPORTED]
    assert "this one is float16" in verdicts[0].reasons[0]


def test_rows_that_do_not_fill_a_block_are_a_caveat_of_k_quants_only(tmp_path: Path, settings: Settings) -> None:
    verdicts = judge(phi_repos.write("phi3_mini_4k", tmp_path), settings, "gguf/int4", "gguf/iq4_xs", "gguf/int8")
    assert [v.status for v in verdicts] == [Status.CAVEAT, Status.CAVEAT, Status.SUPPORTED]
    assert "64, 128" in verdicts[0].reasons[0]


def test_the_real_trained_model_can_be_made_with_every_recipe(tiny_phi: Path, settings: Settings) -> None:
    known = recipes.all_recipes()
    suited = [r.id for r in known if r.only_when.get("longrope", True)]
    assert all(v.convertible for v in judge(tiny_phi, settings, *suited))
    gguf = judge(tiny_phi, settings, *(r.id for r in known if r.backend == "gguf"))
    assert all("LongRoPE" in " ".join(v.reasons) and v.links for v in gguf)


def test_who_cannot_have_it_is_not_told_what_to_mind_when_using_it(tmp_path: Path, settings: Settings) -> None:
    verdicts = judge(phi_repos.write("missing_layer", tmp_path), settings, "gguf/int4")
    assert verdicts[0].reasons == ("config.json says 3 layers; the weights hold 2.",)


def test_one_look_at_the_metadata_serves_all_recipes(tmp_path: Path, settings: Settings) -> None:
    hub = FolderHub(phi_repos.write("sharded", tmp_path))
    release = catalog.release(hub, REF)
    hub.calls.clear()
    preflight.verdicts(release, recipes.all_recipes(), hub, settings)
    assert len(hub.calls) == len(set(hub.calls)) == 5  # two configs, two headers, the index


def test_a_source_that_broke_after_it_was_catalogued_is_a_verdict(tmp_path: Path, settings: Settings) -> None:
    hub = FolderHub(phi_repos.write("phi3_mini_4k", tmp_path))
    release = catalog.release(hub, REF)
    put(tmp_path, "model.safetensors", bytes(release.weight_bytes))
    (verdict,) = preflight.verdicts(release, recipes.by_id(["gguf/int8"]), hub, settings)
    assert verdict.status is Status.UNSUPPORTED
    assert "model.safetensors is not sound" in verdict.reasons[0]


def test_a_backend_that_has_never_heard_of_the_class_says_so(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipes.backends()["gguf"].model_copy(update={"architectures": {}})
    monkeypatch.setattr(recipes, "backends", lambda: {"gguf": made})
    hub = FolderHub(phi_repos.write("phi3_mini_4k", tmp_path))
    wanted = made.recipes[:1]
    (verdict,) = preflight.verdicts(catalog.release(hub, REF), wanted, hub, settings)
    assert verdict.reasons == ("llama.cpp (GGUF) does not know Phi3ForCausalLM.",)


@pytest.mark.usefixtures("_known_tokenizer")
@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"only_when": {"longrope": True}}, Status.UNSUPPORTED, "It is for models with LongRoPE."),
        ({"only_when": {"experts": False}}, Status.SUPPORTED, ""),
        ({"only_when": {"tied_embeddings": False}}, Status.SUPPORTED, ""),
        ({"only_when": {"vision": True}}, Status.UNSUPPORTED, "It is for models with vision."),
        ({"runtime_error": {"longrope": "It turns too far."}}, Status.SUPPORTED, ""),
        ({"only_dtype": "float32"}, Status.UNSUPPORTED, "It is for float32 sources; this one is bfloat16."),
    ],
)
def test_a_recipe_asks_for_what_it_is_meant_for(
    tmp_path: Path, settings: Settings, changes: dict[str, Any], status: Status, reason: str
) -> None:
    hub = FolderHub(phi_repos.write("phi3_mini_4k", tmp_path / "repo"))
    recipe = recipes.by_id(["gguf/int8"])[0].model_copy(update=changes)
    (verdict,) = preflight.verdicts(catalog.release(hub, REF), [recipe], hub, settings)
    assert (verdict.status, " ".join(verdict.reasons)) == (status, reason)


@pytest.mark.usefixtures("_known_tokenizer")
def test_an_error_that_the_runtime_is_known_for_is_a_caveat_of_the_models_it_concerns(
    tmp_path: Path, settings: Settings
) -> None:
    hub = FolderHub(phi_repos.write("phi35_mini", tmp_path / "repo"))
    recipe = recipes.by_id(["gguf/int8"])[0].model_copy(update={"runtime_error": {"longrope": "It turns too far."}})
    (verdict,) = preflight.verdicts(catalog.release(hub, REF), [recipe], hub, settings)
    assert verdict.status is Status.CAVEAT
    assert "It turns too far." in verdict.reasons
    assert verdict.convertible


# --- what it takes ----------------------------------------------------------------------------------------


def phi35(tmp_path: Path) -> Any:
    release = catalog.release(FolderHub(phi_repos.write("phi3_mini_4k", tmp_path)), REF)
    file = release.files[0].model_copy(update={"path": "model.safetensors", "size": 7_642_000_000})
    return release.model_copy(update={"parameters": 3_821_000_000, "files": (file,)})


def needs(recipe: str, tmp_path: Path) -> Needs:
    (found,) = recipes.by_id([recipe])
    return costs.estimate(phi35(tmp_path), found, recipes.backends()["gguf"].costs)


def test_a_small_phi_fits_a_small_machine(tmp_path: Path) -> None:
    plain = needs("gguf/int4-cookbook", tmp_path)
    assert 2.3e9 < plain.output < 2.6e9
    assert 25e9 < plain.disk < 26e9  # source, 16-bit base, FP16 export to measure against, output, log-probabilities
    assert plain.memory < 0.8 * 16 * GIB, "the reference in PyTorch is what takes the most"
    assert 5 < plain.minutes < 20


def test_calibration_costs_time_and_memory(tmp_path: Path) -> None:
    plain, calibrated = needs("gguf/int4-cookbook", tmp_path), needs("gguf/int4", tmp_path)
    assert calibrated.minutes > plain.minutes + 15
    assert calibrated.memory >= plain.memory


def test_an_unquantized_export_needs_no_second_base(tmp_path: Path) -> None:
    quantized, export = needs("gguf/int4-cookbook", tmp_path), needs("gguf/fp16", tmp_path)
    assert export.disk - export.output < quantized.disk - quantized.output - 7e9


def test_a_recipe_adds_its_own_costs_to_those_of_its_backend(tmp_path: Path) -> None:
    release = phi35(tmp_path)
    plain, shared = recipes.by_id(["gguf/int4-cookbook"])[0], recipes.backends()["gguf"].costs
    dear = plain.model_copy(update={"cpu_seconds": plain.cpu_seconds + 120, "memory_per_byte": 3.0})
    base = costs.base_bytes(release)
    assert costs.converting(release, dear, shared) == shared.memory_bytes + 3 * base
    assert costs.estimate(release, dear, shared).memory >= 3 * base
    more = costs.estimate(release, dear, shared).minutes - costs.estimate(release, plain, shared).minutes
    assert more == pytest.approx(base / 1e9, abs=0.2), "a minute on each of two cores, per GB"


def test_the_reference_runs_at_its_ease_where_the_budget_allows_and_at_the_least_where_not(tmp_path: Path) -> None:
    release = phi35(tmp_path)
    at_ease = costs.referencing(release, 10**12)
    assert costs.referencing(release, at_ease) == at_ease
    least = costs.referencing(release, at_ease - 1)
    assert least < at_ease
    assert costs.referencing(release, 1) == least, "and then it runs alone"


def test_too_little_room_is_said_apart_from_what_is_unsupported(tmp_path: Path) -> None:
    small = Settings(home=tmp_path / "home", disk_floor=2**60, memory_budget=1000)
    (verdict,) = judge(phi_repos.write("phi3_mini_4k", tmp_path / "repo"), small)
    assert verdict.status is Status.SUPPORTED
    assert len(verdict.lacks) == 2
    assert "memory" in verdict.lacks[0]
    assert "disk" in verdict.lacks[1]


def test_the_probe_program_takes_nothing_of_the_mill_into_the_sandbox() -> None:
    assert "from bot" not in pretokenizer.PROBE.read_text()
