"""The MLX recipes: how near each is to its source, which edition is right where, and what people load."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_mill import MODEL, Answer, Mill

from bot import recipes
from bot.measures import Fidelity

pytestmark = pytest.mark.backend

MADE: dict[str, Answer] = {}

LOAD = """
import json, sys
from mlx_lm import generate, load
model, tokenizer = load(sys.argv[1])
prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], add_generation_prompt=True)
print(json.dumps([sorted(tokenizer.eos_token_ids), generate(model, tokenizer, prompt=prompt, max_tokens=4)]))
"""
CONVERT = """
import sys
from mlx_lm.convert import main
main()
"""
SHARDED = """
import sys
from pathlib import Path
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from converters.base import Events
from converters.mlx import save
save.make_shards = lambda arrays, _gib: [dict(list(arrays.items())[:40]), dict(list(arrays.items())[40:])]
source, out = map(Path, sys.argv[1:])
names = save.save_weights(load_model(source, lazy=True)[0], out, Events(sys.stderr))
assert names == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], names
(out / "config.json").write_text((source / "config.json").read_text())
pairs = zip(*(tree_flatten(load_model(folder)[0].parameters()) for folder in (source, out)), strict=True)
assert all(a == b and mx.array_equal(x, y) for (a, x), (b, y) in pairs)
"""
PADDED = """
import sys
from pathlib import Path
from converters.mlx.runtime import Runtime
with Runtime(Path(sys.argv[1])) as runtime:
    print(runtime.detokenize([40, 90_000, 41]) == runtime.detokenize([40, 41]) != "")
"""
GPTQ = """
import mlx.core as mx, numpy as np
from converters.mlx import gptq
rng = np.random.default_rng(0)
inputs = (rng.standard_normal((500, 128)) @ rng.standard_normal((128, 128))).astype("f4")
weight = rng.standard_normal((32, 128)).astype("f4")
error = lambda q: float(((inputs @ (np.array(mx.dequantize(*q, 64, 4)).astype("f4") - weight).T) ** 2).mean())
made = gptq.quantize(weight.copy(), inputs, 64, 4)
print(error([mx.array(made[k]) for k in ("weight", "scales", "biases")]), error(mx.quantize(mx.array(weight), 64, 4)))
"""
# Small models of the family's other shapes, with the rope that transformers 5 writes.
SHAPES = """
import shutil, sys, torch
from pathlib import Path
from transformers import Phi3Config, Phi3ForCausalLM, PhiConfig, PhiForCausalLM, PhimoeConfig, PhimoeForCausalLM
source, out = map(Path, sys.argv[1:])
rope = lambda n: {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 512,
                  "short_factor": [1 + i / 50 for i in range(n)], "long_factor": [1.0 + i for i in range(n)]}
common = dict(vocab_size=2048, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1, eos_token_id=2041)
long = dict(common, max_position_embeddings=4096, num_key_value_heads=2, pad_token_id=2041)
models = {
    "phi4-mini": Phi3ForCausalLM(Phi3Config(**long, hidden_size=128, intermediate_size=128, tie_word_embeddings=True,
        original_max_position_embeddings=512, partial_rotary_factor=0.75,
        rope_parameters={**rope(12), "partial_rotary_factor": 0.75})),
    "phimoe": PhimoeForCausalLM(PhimoeConfig(**long, hidden_size=128, intermediate_size=64, num_local_experts=4,
        attention_bias=True, lm_head_bias=True,
        rope_parameters={**rope(16), "short_mscale": 1.1, "long_mscale": 1.2})),
    "phi": PhiForCausalLM(PhiConfig(**common, hidden_size=128, intermediate_size=256)),
}
torch.manual_seed(0)
for name, model in models.items():
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.05)
    model.to(torch.bfloat16).save_pretrained(out / name)
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / file, out / name / file)
"""


def ask(mill: Mill, name: str, folder: Path, **changes: Any) -> Answer:
    [recipe] = recipes.by_id([name])
    asked = {"id": recipe.id, "file": recipe.file, "options": recipe.options}
    return mill.ask("mlx", mill.request_of(folder, asked, **changes))


def make(mill: Mill, name: str) -> Path:
    """Make a recipe once per session; give its first file."""
    folder = mill.work / name
    if name not in MADE:
        folder.mkdir(parents=True)
        MADE[name] = ask(mill, name, folder, shared=str(mill.work / "mlx" / "shared"))
        assert MADE[name].code == 0, MADE[name].last
    return folder / "out" / str(MADE[name].last["files"][0])


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("mlx/fp32-short-context", 1e-7),
        ("mlx/fp16-short-context", 2e-6),
        ("mlx/int8-short-context", 1e-4),
        ("mlx/int4-short-context", 1e-3),
    ],
)
def test_the_short_context_edition_stays_this_close_to_its_source(
    mill: Mill, reference: Path, name: str, limit: float
) -> None:
    values = Fidelity(**mill.measure(make(mill, name), reference, "mlx"))
    assert 0 <= values.kl_mean <= limit
    assert values.kl_mean <= values.kl_p99 <= limit * 20
    assert values.top1 > 0.96
    assert values.finite
    assert values.tokenizer_agrees
    assert values.same_end_tokens
    assert len(values.samples) == 4


def test_the_recommended_int4_is_many_times_nearer_than_the_cookbooks_at_its_size(mill: Mill, reference: Path) -> None:
    best, plain = make(mill, "mlx/int4-short-context"), make(mill, "mlx/int4-cookbook")
    assert best.stat().st_size <= 1.05 * plain.stat().st_size
    full = mill.work / "standard-baseline"
    mill.measure(make(mill, "mlx/fp16"), reference, "mlx", save_baseline=full)
    values = mill.measure(plain, reference, "mlx", baseline=full)
    kl = mill.measure(best, reference, "mlx")["kl_mean"]
    # The runtime's error is in the first, the quantization's alone in the second.
    assert kl <= values["kl_mean"] / 100
    assert kl <= values["baseline_kl_mean"] / 4


def test_the_published_config_keeps_to_the_original_context_and_knows_every_end_token(mill: Mill) -> None:
    config = json.loads(make(mill, "mlx/fp16-short-context").with_name("config.json").read_text())
    rope = config["rope_scaling"]
    assert rope["long_factor"] == rope["short_factor"]
    assert config["max_position_embeddings"] == config["original_max_position_embeddings"] == 512
    assert config["eos_token_id"] == [2041, 2046]
    standard = json.loads(make(mill, "mlx/fp16").with_name("config.json").read_text())
    assert standard["max_position_embeddings"] == 4096
    assert standard["rope_scaling"]["long_factor"][-1] == 34.75


def test_mlx_lm_loads_it_alone_and_stops_where_the_source_does(mill: Mill) -> None:
    ends, answer = json.loads(mill.run("mlx", LOAD, make(mill, "mlx/int4-short-context").parent))
    assert ends == [2041, 2046]
    assert answer


def test_the_cookbook_recipe_is_what_its_command_makes(mill: Mill, tmp_path: Path) -> None:
    mill.run("mlx", CONVERT, "--hf-path", MODEL, "--mlx-path", tmp_path / "upstream", "-q")
    theirs = tmp_path / "upstream" / "model.safetensors"
    assert make(mill, "mlx/int4-cookbook").read_bytes() == theirs.read_bytes()


def test_an_id_beyond_the_tokenizers_vocabulary_stands_for_no_text(mill: Mill) -> None:
    assert mill.run("mlx", PADDED, MODEL / "model.safetensors").strip() == "True"


def test_gptq_leaves_a_fraction_of_the_error_of_rounding(mill: Mill) -> None:
    ours, rounding = map(float, mill.run("mlx", GPTQ).split())
    assert ours < 0.5 * rounding


def test_a_model_in_shards_is_the_same_model(mill: Mill, tmp_path: Path) -> None:
    mill.run("mlx", SHARDED, make(mill, "mlx/fp16").parent, tmp_path)


@pytest.mark.parametrize(("shape", "name"), [("phi4-mini", "mlx/fp32-short-context"), ("phi", "mlx/fp32"),
                                             ("phimoe", "mlx/fp32-short-context")])  # fmt: skip
def test_every_shape_of_the_family_runs_as_its_source_does(
    mill: Mill, tmp_path_factory: pytest.TempPathFactory, shape: str, name: str
) -> None:
    shapes = mill.work / "shapes"
    if not shapes.exists():
        mill.run("reference", SHAPES, MODEL, shapes)
    folder = tmp_path_factory.mktemp(shape)
    source = str(shapes / shape)
    assert mill.reference(folder / "reference", source=source, windows=2, window_tokens=64).code == 0
    answer = ask(mill, name, folder, source=source)
    assert answer.code == 0, answer.last
    values = mill.measure(folder / "out" / answer.last["files"][0], folder / "reference", "mlx")
    assert values["kl_mean"] < 1e-8


def test_a_value_too_large_for_float16_is_refused_before_anything_is_made(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path]
) -> None:
    raw = (MODEL / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    name = "model.layers.0.mlp.down_proj.weight"
    start = 8 + length + int(json.loads(raw[8 : 8 + length])[name]["data_offsets"][0])
    source = str(damaged(start, np.array([1e5], "<f4").tobytes()[2:]))
    refused = ask(mill, "mlx/int4-short-context", tmp_path, source=source)
    assert refused.code == 1
    assert name in refused.last["message"]
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.chaos
@pytest.mark.parametrize("stage", ["calibrate", "convert"])
def test_a_conversion_killed_anywhere_ends_the_same_when_run_again(mill: Mill, tmp_path: Path, stage: str) -> None:
    whole = make(mill, "mlx/int4-short-context")
    [recipe] = recipes.by_id(["mlx/int4-short-context"])
    request = mill.request_of(tmp_path, {"id": recipe.id, "file": recipe.file, "options": recipe.options})
    with mill.start("mlx", stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        next(line for line in child.stdout if json.loads(line).get("stage") == stage)
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    again = mill.ask("mlx", request)
    assert again.code == 0, again.last
    assert (tmp_path / "out" / whole.name).read_bytes() == whole.read_bytes()
    assert not list(tmp_path.rglob("*partial*"))


def test_a_model_without_longrope_has_no_short_context_edition(mill: Mill, tmp_path: Path) -> None:
    source = tmp_path / "plain"
    source.mkdir()
    for file in MODEL.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    config = json.loads((MODEL / "config.json").read_text()) | {"rope_scaling": None}
    (source / "config.json").write_text(json.dumps(config))
    answer = ask(mill, "mlx/fp16-short-context", tmp_path, source=str(source))
    assert answer.code == 1
    assert "LongRoPE" in answer.last["message"]
