from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_mill import MODEL, ROOT, Answer, Mill

from bot.measures import Fidelity

pytestmark = pytest.mark.backend

TABLE = tomllib.loads((ROOT / "converters" / "onnx" / "recipes.toml").read_text(encoding="utf-8"))
RECIPES = {table["id"]: {key: table[key] for key in ("id", "file", "options")} for table in TABLE["recipe"]}
ANSWERS: dict[str, Answer] = {}

# The commands that `by_hand` names, in their own process.
UPSTREAM = """
import runpy, sys
sys.argv[0] = "builder"
runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
"""
SAME = """
import sys, onnx_ir as ir
mine, theirs = (ir.load(f"{folder}/model.onnx").graph for folder in sys.argv[1:])
def look(graph):
    ends = lambda values: [value and value.name for value in values]
    nodes = {n.name: (n.domain, n.op_type, ends(n.inputs), ends(n.outputs)) for n in graph}
    attributes = {n.name: {k: a.value for k, a in n.attributes.items() if n.op_type == "MatMulNBits"} for n in graph}
    return nodes, attributes, {k: (v.dtype, v.shape, v.const_value.tobytes()) for k, v in graph.initializers.items()}
assert look(mine) == look(theirs)
"""
TIED = """
import shutil, sys, torch
from pathlib import Path
from transformers import Phi3Config, Phi3ForCausalLM
model, folder = map(Path, sys.argv[1:])
torch.manual_seed(1)
rope = {"type": "longrope", "short_factor": [1.0] * 24, "long_factor": [1.0 + i for i in range(24)]}
config = Phi3Config(
    vocab_size=2048, hidden_size=256, intermediate_size=768, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, original_max_position_embeddings=512, rope_scaling=rope,
    partial_rotary_factor=0.75, tie_word_embeddings=True, initializer_range=0.06, sliding_window=None,
    bos_token_id=1, eos_token_id=2041, pad_token_id=2041,
)
Phi3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    shutil.copy(model / name, folder / name)
(folder / "LICENSE").write_text("MIT")
"""
TIED_ERROR = """
import sys, numpy as np, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
from converters.onnx.runtime import Runtime
ids = list(range(5, 205))
with Runtime(Path(sys.argv[2]), 256, 2) as runtime:
    q = torch.log_softmax(torch.tensor(runtime.logits(ids)).double(), -1)
with torch.no_grad():
    source = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    p = torch.log_softmax(source(torch.tensor([ids])).logits[0].double(), -1)
print(float((p.exp() * (p - q)).sum(-1).mean()))
"""
EMBEDDING = """
import sys, onnx_ir as ir
graph = ir.load(f"{sys.argv[1]}/model.onnx").graph
(node,) = (n for n in graph if n.op_type == "GatherBlockQuantized")
print(node.attributes["bits"].value, "model.embed_tokens.weight" in graph.initializers)
"""


def make(mill: Mill, recipe: str) -> Path:
    """Make a recipe once per session; give its folder."""
    if recipe not in ANSWERS:
        answer = mill.ask("onnx", mill.request_of(mill.work / "onnx", RECIPES[recipe]))
        assert answer.code == 0, answer.last
        ANSWERS[recipe] = answer
    return (mill.work / "onnx" / "out" / ANSWERS[recipe].last["files"][0]).parent


def sums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_describe_tells_versions_and_architectures(mill: Mill) -> None:
    answer = mill.ask("onnx", {"verb": "describe"})
    assert answer.code == 0
    assert answer.last["versions"]["onnxruntime-genai"] == "0.18.0"
    assert answer.last["architectures"] == ["Phi3ForCausalLM", "PhiForCausalLM"]


def test_a_folder_is_complete_and_holds_the_sources_own_files(mill: Mill) -> None:
    folder = make(mill, "onnx/int4")
    answer = ANSWERS["onnx/int4"]
    assert {e["event"] for e in answer.events} <= {"progress", "log", "artifact"}
    # The weights are checked by whichever recipe comes first.
    assert {"export"} <= {e["stage"] for e in answer.events if e["event"] == "progress"} <= {"check weights", "export"}
    assert not [e for e in answer.events if e.get("level") == "warning"]
    prefix = RECIPES["onnx/int4"]["file"].removesuffix("model.onnx")
    assert answer.last["files"][0] == f"{prefix}model.onnx"
    assert {name.removeprefix(prefix) for name in answer.last["files"]} == {file.name for file in folder.iterdir()}
    originals = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"}
    for name in (*originals, "chat_template.jinja"):
        assert (folder / name).read_bytes() == (MODEL / name).read_bytes()
    assert {f.name for f in folder.iterdir()} - originals == {
        "chat_template.jinja", "genai_config.json", "model.onnx", "model.onnx.data",
    }  # fmt: skip
    facts = answer.last["facts"]
    assert sum(facts["weights_by_bits"].values()) == facts["parameters"]
    weights = sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert answer.last["bits_per_weight"] == pytest.approx(8 * weights / facts["parameters"])


@pytest.mark.parametrize(
    ("recipe", "limit"),
    [
        ("onnx/fp32", 1e-7),
        ("onnx/cuda-fp16", 2e-6),
        ("onnx/int8", 1e-4),
        ("onnx/int4", 4e-4),
        ("onnx/int4-cookbook", 3.5e-3),
        ("onnx/trt-rtx-int4", 3.5e-3),
    ],
)
def test_a_variant_stays_this_close_to_its_source(mill: Mill, reference: Path, recipe: str, limit: float) -> None:
    values = Fidelity(**mill.measure(make(mill, recipe) / "model.onnx", reference, "onnx"))
    assert 0 <= values.kl_mean <= limit
    assert values.kl_mean <= values.kl_p99 <= limit * 20
    assert values.top1 > 0.93
    assert values.perplexity_ratio == pytest.approx(1, abs=0.01)
    assert (values.windows, values.window_tokens) == (8, 256)
    assert values.finite
    assert values.tokenizer_agrees
    assert values.same_end_tokens
    assert len(values.samples) == 4
    assert all(sample.variant for sample in values.samples)
    if recipe == "onnx/fp32":
        assert all(sample.variant.strip() == sample.source.strip() for sample in values.samples)


def test_the_recommended_int4_halves_the_cookbooks_divergence_at_its_size(mill: Mill, reference: Path) -> None:
    best, plain = make(mill, "onnx/int4"), make(mill, "onnx/int4-cookbook")
    assert size(best) <= 1.05 * size(plain)
    kl = [mill.measure(folder / "model.onnx", reference, "onnx")["kl_mean"] for folder in (best, plain)]
    assert kl[0] <= 0.5 * kl[1]


@pytest.mark.parametrize("recipe", ["onnx/int4-cookbook", "onnx/trt-rtx-int4"])
def test_the_streamed_weights_are_those_of_the_builders_own_command(mill: Mill, tmp_path: Path, recipe: str) -> None:
    table = next(table for table in TABLE["recipe"] if table["id"] == recipe)
    command = table["by_hand"][0].removeprefix("python -m onnxruntime_genai.models.builder ")
    words = [
        {"SOURCE": str(MODEL), "OUT": str(tmp_path), "CACHE": str(tmp_path / "c")}.get(w, w) for w in command.split()
    ]
    mill.run("onnx", UPSTREAM, *words)
    mill.run("onnx", SAME, make(mill, recipe), tmp_path)


@pytest.mark.chaos
def test_a_killed_conversion_ends_the_same_when_run_again_from_elsewhere(mill: Mill, tmp_path: Path) -> None:
    whole = make(mill, "onnx/int4")
    shutil.copytree(MODEL, tmp_path / "another-name")
    request = mill.request_of(tmp_path, RECIPES["onnx/int4"], source=str(tmp_path / "another-name"), threads=1)
    with mill.start("onnx", stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        next(line for line in child.stdout if json.loads(line).get("stage") == "export")
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / RECIPES["onnx/int4"]["file"]).exists()
    again = mill.ask("onnx", request)
    assert again.code == 0, again.last
    assert sums(tmp_path / "out" / Path(again.last["files"][0]).parent) == sums(whole)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_tied_model_shares_one_matrix_at_eight_bits(mill: Mill, tmp_path: Path) -> None:
    mill.run("onnx", TIED, MODEL, tmp_path / "source")
    request = mill.request_of(tmp_path, RECIPES["onnx/int4"], source=str(tmp_path / "source"))
    answer = mill.ask("onnx", request)
    assert answer.code == 0, answer.last
    assert answer.last["extras"] == [str(Path(answer.last["files"][0]).with_name("LICENSE"))]
    folder = tmp_path / "out" / Path(answer.last["files"][0]).parent
    assert (folder / "chat_template.jinja").read_text() == (MODEL / "chat_template.jinja").read_text()
    assert mill.run("onnx", EMBEDDING, folder).split() == ["8", "False"]
    assert float(mill.run("onnx", TIED_ERROR, tmp_path / "source", folder)) < 0.02


def offset(name: str) -> int:
    raw = (MODEL / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return 8 + length + int(json.loads(raw[8 : 8 + length])[name]["data_offsets"][0])


def bf16(value: float) -> bytes:
    return np.array([value], "<f4").tobytes()[2:]


def test_a_value_too_large_for_float16_is_refused_before_anything_is_made(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path]
) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    source = str(damaged(offset(name), bf16(1e5)))
    answer = mill.ask("onnx", mill.request_of(tmp_path, RECIPES["onnx/cuda-int4"], source=source))
    assert answer.code == 1
    assert name in answer.last["message"]
    assert "CPU" in answer.last["hint"]
    assert not (tmp_path / "out").exists()


def test_an_architecture_the_builder_does_not_know_is_named(mill: Mill, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "source")
    config = json.loads((MODEL / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "architectures": ["PhiNextForCausalLM"]}))
    request = mill.request_of(tmp_path, RECIPES["onnx/fp32"], source=str(tmp_path / "source"))
    answer = mill.ask("onnx", request)
    assert answer.code == 1
    assert "model builder refuses" in answer.last["message"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"file": "model.onnx"}, "folder of its own"),
        ({"options": {"precision": "fp16", "provider": "cpu"}}, "fp16 for cpu"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(
    mill: Mill, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    answer = mill.ask("onnx", mill.request_of(tmp_path, {**RECIPES["onnx/fp32"], **changes}))
    assert answer.code == 1
    assert says in answer.last["message"]
