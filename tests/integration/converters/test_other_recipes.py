"""OpenVINO and MLX as the mill runs them: the same bytes every time, complete artifacts, errors for people."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conv_mill import MODEL, Mill

from bot import recipes

pytestmark = pytest.mark.backend

FAST = ("openvino/int8", "mlx/int8", "mlx/int4-short-context")
# One quantized model by two routes: mlx-lm's own products, and the ones it is measured with.
BOTH_ROUTES = """
import sys
from pathlib import Path
import mlx.core as mx, mlx_lm, numpy as np
from converters.mlx.runtime import Runtime
ids = [1, 17, 230, 41, 999, 5]
file = Path(sys.argv[1])
model, _ = mlx_lm.load(str(file.parent))
own = np.array(model(mx.array([ids]))[0].astype(mx.float32)).astype(np.float64)
with Runtime(file) as runtime:
    other = np.array(runtime.logits(ids)).astype(np.float64)
soft = lambda x: x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
a, b = soft(own), soft(other)
print(float((np.exp(a) * (a - b)).sum(-1).mean()))
"""
BROKEN_ROPE = {"type": "yarn", "factor": 4.0}


def request(mill: Mill, name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    [recipe] = recipes.by_id([name])
    asked = {"id": recipe.id, "file": recipe.file, "options": recipe.options}
    return mill.request_of(folder, asked, **changes)


def made(mill: Mill, name: str, folder: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """Make a recipe; its folder and what was said of it."""
    answer = mill.ask(name.split("/")[0], request(mill, name, folder, **changes))
    assert answer.code == 0, answer.last
    return folder / "out", answer.last


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", FAST)
def test_the_same_request_gives_the_same_bytes(mill: Mill, tmp_path: Path, name: str) -> None:
    # Sums that calibrate depend in their last bits on how they are split among threads; nothing else does.
    threads = 2 if recipes.by_id([name])[0].options.get("calibrated") else 1
    first, said = made(mill, name, tmp_path / "first", threads=threads)
    again, _ = made(mill, name, tmp_path / "again", threads=2)
    assert hashes(first) == hashes(again)
    assert set(hashes(first)) == {*said["files"], *said["extras"]}


@pytest.mark.parametrize("name", FAST)
def test_the_tokenizer_is_the_source_s_own_to_the_byte(mill: Mill, tmp_path: Path, name: str) -> None:
    folder, _ = made(mill, name, tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / file).read_bytes() == (MODEL / file).read_bytes()
    assert not (folder / "README.md").exists(), "the mill writes the card"


def test_the_export_is_made_once_for_all_openvino_recipes(mill: Mill, tmp_path: Path) -> None:
    made(mill, "openvino/fp16", tmp_path)
    shared = hashes(tmp_path / "shared")
    shutil.rmtree(tmp_path / "out")
    made(mill, "openvino/int4-cookbook", tmp_path)
    assert hashes(tmp_path / "shared") == shared


def test_quantized_mlx_products_give_the_same_by_the_route_that_is_measured(mill: Mill, tmp_path: Path) -> None:
    folder, _ = made(mill, "mlx/int4-short-context", tmp_path)
    # MLX's own product for CPUs sums at float16; the variant itself is 8e-4 from the source.
    assert abs(float(mill.run("mlx", BOTH_ROUTES, folder / "model.safetensors"))) < 5e-5


def test_a_config_of_transformers_5_gives_the_same_model(mill: Mill, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(MODEL, newer)
    config = json.loads((MODEL / "config.json").read_text("utf-8"))
    rope = config.pop("rope_scaling")
    config["rope_parameters"] = {
        **rope, "rope_type": rope.pop("type"), "rope_theta": config.pop("rope_theta"),
        "original_max_position_embeddings": config["original_max_position_embeddings"],
    }  # fmt: skip
    config["rope_parameters"].pop("type", None)
    config["dtype"] = config.pop("torch_dtype")
    (newer / "config.json").write_text(json.dumps(config), "utf-8")
    old, _ = made(mill, "mlx/int8", tmp_path / "old")
    new, _ = made(mill, "mlx/int8", tmp_path / "new", source=str(newer))
    assert (old / "model.safetensors").read_bytes() == (new / "model.safetensors").read_bytes()
    scaling = [json.loads((folder / "config.json").read_text("utf-8"))["rope_scaling"] for folder in (old, new)]
    assert scaling[0]["long_factor"] == scaling[1]["long_factor"]
    assert scaling[0]["type"] == scaling[1]["type"] == "longrope"


def test_rope_that_mlx_does_not_have_is_refused_in_a_sentence(mill: Mill, tmp_path: Path) -> None:
    source = tmp_path / "yarn"
    shutil.copytree(MODEL, source)
    config = json.loads((MODEL / "config.json").read_text("utf-8")) | {"rope_scaling": BROKEN_ROPE}
    (source / "config.json").write_text(json.dumps(config), "utf-8")
    answer = mill.ask("mlx", request(mill, "mlx/int8", tmp_path, source=str(source)))
    assert answer.code == 1
    assert "RoPE" in answer.last["message"]


def test_openvino_files_go_to_the_top_of_a_repo_only(mill: Mill, tmp_path: Path) -> None:
    asked = request(mill, "openvino/int8", tmp_path)
    asked["recipe"]["file"] = "elsewhere/openvino_model.xml"
    answer = mill.ask("openvino", asked)
    assert (answer.code, answer.last["event"]) == (1, "error")
    assert "openvino_model.xml" in answer.last["message"]


@pytest.mark.parametrize("backend", ["openvino", "mlx", "onnx"])
def test_each_backend_tells_versions_and_architectures(mill: Mill, backend: str) -> None:
    answer = mill.ask(backend, {"verb": "describe"})
    assert answer.code == 0
    assert "Phi3ForCausalLM" in answer.last["architectures"]
    assert answer.last["versions"]
