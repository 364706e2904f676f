from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bot.architectures import ARCHITECTURES
from bot.models import Status
from bot.recipes import load
from converters.base import ConverterError, ConvertRequest, RecipeRequest
from converters.onnx.convert import RUNS, check_pair, folder_name
from converters.onnx.originals import copy_originals

ONNX = Path(__file__).resolve().parents[3] / "converters" / "onnx"
BACKEND = load(ONNX)
RECIPES = BACKEND.recipes
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def request(file: str, model_name: str = "Phi-4") -> ConvertRequest:
    nowhere = Path("/nowhere")
    return ConvertRequest(nowhere, nowhere, nowhere, RecipeRequest("onnx/x", file), model_name, nowhere)


def source(folder: Path, template: Any = None, file: str | None = None) -> Path:
    folder.mkdir()
    fields = {"eos_token": "<|end|>"} | ({} if template is None else {"chat_template": template})
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    if file is not None:
        (folder / "chat_template.jinja").write_text(file)
    return folder


def test_every_recipe_is_a_pair_that_runs_in_a_folder_of_its_own() -> None:
    for recipe in RECIPES:
        check_pair(recipe.options)
        assert folder_name(request(recipe.file)) == recipe.file.removesuffix("/model.onnx")
        assert recipe.precision.value.lower() == recipe.options["precision"]


def test_every_pair_that_runs_has_a_recipe() -> None:
    made = {(r.options["precision"], r.options["provider"]) for r in RECIPES}
    assert made == {(precision, provider) for provider, runs in RUNS.items() for precision in runs}


def test_the_default_set_covers_every_precision() -> None:
    assert {r.precision.value for r in RECIPES if r.default} == {"INT4", "INT8", "FP16", "FP32"}
    assert {r.baseline for r in RECIPES} == {"onnx/fp32"}


def test_the_cookbook_recipe_takes_the_builder_as_it_is() -> None:
    (cookbook,) = (r for r in RECIPES if r.preset == "cookbook")
    assert cookbook.options == {"precision": "int4", "provider": "cpu"}


def test_a_recipe_by_hand_is_the_builders_command_with_the_recipes_options() -> None:
    for recipe in RECIPES:
        command, *words = recipe.by_hand
        assert f" -p {recipe.options['precision']} -e {recipe.options['provider']}" in command
        assert all(option in command for option in recipe.options.get("extra", []))
        beyond = [name for name in ("int8_ends", "int8_embedding") if recipe.options.get(name)]
        assert bool(words) == bool(beyond)
        assert all(line.startswith("# Not in the builder:") for line in words)


def test_a_snippet_fetches_one_folder_and_pins_it() -> None:
    for snippet in BACKEND.snippets:
        assert {"{repo}", "{folder}", "{tag}"} <= set(re.findall(r"\{\w+\}", snippet.code))


def test_every_phi_architecture_has_an_answer_with_a_reason_and_a_link() -> None:
    table = tomllib.loads((ONNX / "architectures.toml").read_text(encoding="utf-8"))
    assert table.keys() == ARCHITECTURES.keys()
    for entry in table.values():
        assert entry["reason"].endswith(".")
        assert all(link.startswith("https://github.com/") for link in entry["links"])
        assert entry["links"] or Status(entry["status"]) is Status.SUPPORTED


def test_a_mixture_of_experts_is_refused() -> None:
    assert {BACKEND.architectures[name].status for name in ("PhiMoEForCausalLM", "PhimoeForCausalLM")} == {
        Status.KNOWN_BROKEN
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "fp16", "provider": "cpu"}, {"precision": "int8", "provider": "dml"}, {"precision": "int4"}],
)
def test_a_pair_without_kernels_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConverterError, match="not among what ONNX Runtime GenAI can run"):
        check_pair(options)


@pytest.mark.parametrize("file", ["model.onnx", "../x/model.onnx", "/a/model.onnx", "a/other.onnx", "a/.b/model.onnx"])
def test_a_file_that_is_no_folders_model_is_refused(file: str) -> None:
    with pytest.raises(ConverterError, match=r"model\.onnx"):
        folder_name(request(file))


def test_the_originals_are_copied_byte_for_byte(tmp_path: Path) -> None:
    folder = source(tmp_path / "source", PLAIN, PLAIN)
    for name in ("LICENSE", "NOTICE.md", "config.json", "vocab.json", "README.md", "model.safetensors", "x.py"):
        (folder / name).write_bytes(b'{ "a":1}\r\n')
    out = tmp_path / "out"
    out.mkdir()
    copy_originals(folder, out)
    left = {"README.md", "model.safetensors", "x.py"}
    assert {file.name for file in out.iterdir()} == {file.name for file in folder.iterdir()} - left
    assert all(file.read_bytes() == (folder / file.name).read_bytes() for file in out.iterdir())


@pytest.mark.parametrize(
    ("template", "file", "used"),
    [
        (PLAIN, None, PLAIN),
        ("old", PLAIN, PLAIN),
        ([{"name": "tools", "template": "x"}, {"name": "default", "template": PLAIN}], None, PLAIN),
        (None, PLAIN, PLAIN),
        (None, None, None),
    ],
)
def test_the_chat_template_is_the_one_transformers_would_use(
    tmp_path: Path, template: Any, file: str | None, used: str | None
) -> None:
    (tmp_path / "out").mkdir()
    copy_originals(source(tmp_path / "source", template, file), tmp_path / "out")
    inner = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text()).get("chat_template", used)
    written = tmp_path / "out" / "chat_template.jinja"
    # ONNX Runtime GenAI reads the inner one first.
    assert inner == used
    assert (written.read_text() if written.exists() else None) == used
