from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conv_mill import MODEL, ROOT, Answer, Mill

from bot.measures import Fidelity

pytestmark = pytest.mark.backend

TABLE = tomllib.loads((ROOT / "converters" / "openvino" / "recipes.toml").read_text(encoding="utf-8"))
RECIPES = {table["id"]: {key: table[key] for key in ("id", "file", "options")} for table in TABLE["recipe"]}
ANSWERS: dict[str, Answer] = {}
MEASURED: dict[str, Fidelity] = {}
LAST_WEIGHT = (MODEL / "model.safetensors").stat().st_size - 2
MODELS = [f"openvino_{name}.{kind}" for name in ("model", "tokenizer", "detokenizer") for kind in ("xml", "bin")]

GENERATE = """
import sys, openvino_genai
pipe = openvino_genai.LLMPipeline(sys.argv[1], "CPU")
print(pipe.generate("What is the capital of France?", max_new_tokens=12, do_sample=False))
"""
OPTIMUM = """
import sys
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer
model = OVModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
turn = [{"role": "user", "content": "What is the capital of France?"}]
inputs = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
made = model.generate(**inputs, max_new_tokens=12, do_sample=False)
print(tokenizer.decode(made[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
# The export of a model without 16-bit types, as float16: the same numbers as from bfloat16.
FROM_FLOAT32 = """
import sys, numpy as np
from pathlib import Path
from converters.openvino import ir
from converters.openvino.runtime import Runtime
whole, half, out = map(Path, sys.argv[1:])
ir.retype(whole, out, "f16", lambda done, total: None)
assert (out / ir.BIN).stat().st_size == (half / ir.BIN).stat().st_size
for file in half.iterdir():
    if not (out / file.name).exists():
        (out / file.name).write_bytes(file.read_bytes())
ids = list(range(5, 205))
with Runtime(out, 2) as one, Runtime(half, 2) as two:
    assert np.abs(one.logits(ids) - two.logits(ids)).max() < 1e-5
"""
UPSTREAM = """
import sys
from optimum.commands.optimum_cli import main
sys.argv = ["optimum-cli", *sys.argv[1].split(), sys.argv[2]]
main()
"""


def make(mill: Mill, recipe: str) -> Path:
    """Make a recipe once per session; give the folder of its files."""
    folder = mill.work / "openvino"
    out = folder / recipe.replace("/", "-")
    if recipe not in ANSWERS:
        request = mill.request_of(folder, RECIPES[recipe], out=str(out))
        ANSWERS[recipe] = mill.ask("openvino", request)
        assert ANSWERS[recipe].code == 0, ANSWERS[recipe].last
    return out


def measured(mill: Mill, recipe: str, reference: Path) -> Fidelity:
    if recipe not in MEASURED:
        MEASURED[recipe] = Fidelity(
            **mill.measure(make(mill, recipe) / "openvino_model.xml", reference, backend="openvino")
        )
    return MEASURED[recipe]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weight_bytes(folder: Path) -> int:
    return (folder / "openvino_model.bin").stat().st_size


@pytest.mark.parametrize(
    ("recipe", "limit"),
    [
        ("openvino/fp32", 1e-7),
        ("openvino/fp16", 2e-6),
        ("openvino/int8", 1e-4),
        ("openvino/int4", 1e-4),
        ("openvino/int4-cookbook", 7e-4),
    ],
)
def test_a_variant_stays_this_close_to_its_source(mill: Mill, reference: Path, recipe: str, limit: float) -> None:
    values = measured(mill, recipe, reference)
    assert 0 <= values.kl_mean <= limit
    assert values.kl_mean <= values.kl_p99 <= limit * 10
    assert values.top1 > 0.97
    assert values.perplexity_ratio == pytest.approx(1, abs=0.01)
    assert (values.windows, values.window_tokens) == (8, 256)
    assert values.finite
    assert values.tokenizer_agrees
    assert values.same_end_tokens
    assert len(values.samples) == 4
    assert all(sample.variant for sample in values.samples)


def test_the_recommended_int4_halves_the_cookbooks_divergence_at_its_size(mill: Mill, reference: Path) -> None:
    best, plain = "openvino/int4", "openvino/int4-cookbook"
    assert measured(mill, best, reference).kl_mean <= 0.5 * measured(mill, plain, reference).kl_mean
    assert weight_bytes(make(mill, best)) <= 1.05 * weight_bytes(make(mill, plain))


def test_the_unquantized_export_says_what_its_source_says(mill: Mill, reference: Path) -> None:
    for sample in measured(mill, "openvino/fp16", reference).samples:
        assert sample.variant.strip() == sample.source.strip()
        assert sample.common_prefix == 48
        assert sample.variant_stopped == sample.source_stopped


def test_an_artifact_holds_everything_and_the_sources_files_byte_for_byte(mill: Mill) -> None:
    out = make(mill, "openvino/int8")
    artifact = ANSWERS["openvino/int8"].last
    assert artifact["files"][:6] == MODELS
    assert set(artifact["files"]) == {file.name for file in out.iterdir()}
    originals = set(artifact["files"]) - set(MODELS)
    assert originals == {file.name for file in MODEL.iterdir()} - {"README.md", "model.safetensors"}
    assert all((out / name).read_bytes() == (MODEL / name).read_bytes() for name in originals)
    facts = artifact["facts"]
    assert artifact["bits_per_weight"] == pytest.approx(8 * weight_bytes(out) / facts["parameters"])
    assert facts["weights"]["u8"] > 0.99 * facts["parameters"]


def test_the_recommended_int4_says_what_it_was_calibrated_with(mill: Mill) -> None:
    make(mill, "openvino/int4")
    facts = ANSWERS["openvino/int4"].last["facts"]
    text = ROOT / "converters" / "text" / "calibration.txt"
    assert facts["calibration_sha256"] == sha256(text)
    assert facts["samples"] == len(text.read_text()) // 1000
    assert facts["tokens"] > 14_000
    assert facts["threads"] == 2
    assert 0.4 < facts["weights"]["u4"] / facts["parameters"] < 0.5
    assert {e["stage"] for e in ANSWERS["openvino/int4"].events if e["event"] == "progress"} >= {
        "gptq",
        "statistics collection",
    }


def test_the_export_is_made_once_for_all_recipes(mill: Mill) -> None:
    for recipe in RECIPES:
        make(mill, recipe)
    made = [recipe for recipe, answer in ANSWERS.items() if any(e.get("stage") == "export" for e in answer.events)]
    assert len(made) == 1
    assert len([file for file in (mill.work / "openvino" / "shared").iterdir() if file.is_dir()]) == 1


def in_the_style_of_transformers_5(source: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    scaling = config.pop("rope_scaling")
    rope = {"rope_type": scaling.pop("type"), "rope_theta": config.pop("rope_theta"), **scaling}
    rope["original_max_position_embeddings"] = config["original_max_position_embeddings"]
    config |= {"rope_parameters": rope, "dtype": config.pop("torch_dtype"), "transformers_version": "5.23.0"}
    (source / "config.json").write_text(json.dumps(config))


def test_another_place_and_style_of_config_give_the_same_bytes(mill: Mill, tmp_path: Path) -> None:
    source = tmp_path / "elsewhere" / "another-name"
    shutil.copytree(MODEL, source)
    in_the_style_of_transformers_5(source)
    first = make(mill, "openvino/int4")
    again = mill.ask("openvino", mill.request_of(tmp_path, RECIPES["openvino/int4"], source=str(source)))
    assert again.code == 0, again.last
    for name in MODELS:
        assert sha256(tmp_path / "out" / name) == sha256(first / name), name


def test_the_cookbook_variant_is_what_the_upstream_command_makes(mill: Mill, tmp_path: Path) -> None:
    (command,) = next(table["by_hand"] for table in TABLE["recipe"] if table["id"] == "openvino/int4-cookbook")
    words = command.removeprefix("optimum-cli ").removesuffix(" OUT").replace("SOURCE", str(MODEL))
    mill.run("openvino", UPSTREAM, words, tmp_path)
    mine = make(mill, "openvino/int4-cookbook")
    for name in ("openvino_model.bin", "openvino_tokenizer.bin", "openvino_detokenizer.bin"):
        assert sha256(tmp_path / name) == sha256(mine / name), name


def test_every_loader_generates_from_the_artifact(mill: Mill) -> None:
    out = make(mill, "openvino/int4")
    answers = [mill.run("openvino", script, out) for script in (GENERATE, OPTIMUM)]
    assert answers[0].strip() == answers[1].strip() != ""


def test_a_float32_export_becomes_the_same_float16(mill: Mill, tmp_path: Path) -> None:
    whole, half = make(mill, "openvino/fp32"), make(mill, "openvino/fp16")
    mill.run("openvino", FROM_FLOAT32, whole, half, tmp_path)


def test_a_value_too_large_for_float16_is_refused(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path]
) -> None:
    source = str(damaged(LAST_WEIGHT, b"\xc3\x47"))
    refused = mill.ask("openvino", mill.request_of(tmp_path, RECIPES["openvino/fp16"], source=source))
    assert refused.code == 1
    assert "more than float16 can hold" in refused.last["message"]
    assert "FP16" in refused.last["hint"]


def test_weights_with_nan_are_the_sources_fault(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path]
) -> None:
    source = str(damaged(LAST_WEIGHT, b"\xc0\x7f"))
    answer = mill.ask("openvino", mill.request_of(tmp_path, RECIPES["openvino/int8"], source=source))
    assert (answer.code, answer.last["code"]) == (1, "source_corrupt")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("recipe", "config", "says"),
    [
        ({"file": "{m}.xml"}, {}, "openvino_model.xml"),
        ({}, {"architectures": ["PhiNextForCausalLM"]}, "PhiNextForCausalLM"),
        ({}, {"architectures": None}, "without a class"),
    ],
)
def test_what_makes_no_sense_is_refused(
    mill: Mill, tmp_path: Path, recipe: dict[str, Any], config: dict[str, Any], says: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(MODEL, source)
    changed = {**json.loads((MODEL / "config.json").read_text()), **config}
    (source / "config.json").write_text(json.dumps(changed))
    request = mill.request_of(tmp_path, {**RECIPES["openvino/int8"], **recipe}, source=str(source))
    answer = mill.ask("openvino", request)
    assert answer.code == 1
    assert says in answer.last["message"]
