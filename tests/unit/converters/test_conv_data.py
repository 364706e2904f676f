from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from pathlib import Path

import pytest

from bot.architectures import ARCHITECTURES
from bot.models import Status
from bot.recipes import backends

CONVERTERS = Path(__file__).resolve().parents[3] / "converters"
GGUF = CONVERTERS / "gguf"
TABLE = tomllib.loads((GGUF / "recipes.toml").read_text(encoding="utf-8"))
RECIPES = backends()["gguf"].recipes


def test_recipe_ids_and_files_are_unique() -> None:
    assert len({r.id for r in RECIPES}) == len({r.file for r in RECIPES}) == len(RECIPES)
    assert all(r.id.startswith("gguf/") for r in RECIPES)


def test_the_default_set_covers_every_precision() -> None:
    made = {r.precision.value for r in RECIPES if r.default}
    assert made >= {"INT4", "INT8", "FP16", "FP32"}
    assert all(r.preset == "ladder" for r in RECIPES if not r.default)


def test_each_snippets_pattern_matches_one_file() -> None:
    names = [r.file.replace("{m}", "Phi-3.5-mini-instruct") for r in RECIPES]
    # The card fills {quant} with the type in the name of the recommended file.
    code = "\n".join(pull["code"].replace("{quant}", "Q4_K_M") for pull in TABLE["backend"]["pull"])
    for pattern in re.findall(r'filename="([^"]+)"', code):
        assert len(fnmatch.filter(names, pattern)) == 1


def test_a_recipe_by_hand_writes_the_recipes_file() -> None:
    for recipe in RECIPES:
        assert recipe.file in recipe.by_hand[-1]
        assert ("llama-imatrix" in " ".join(recipe.by_hand)) == bool(recipe.options.get("imatrix"))
        kind = recipe.options.get("type") or recipe.options["outtype"]
        assert kind in recipe.by_hand[-1]


def test_every_quantization_has_its_cost() -> None:
    assert all(r.cpu_seconds > 0 for r in RECIPES if "type" in r.options)


def test_every_phi_architecture_has_an_answer_with_a_reason_and_a_link() -> None:
    table = tomllib.loads((GGUF / "architectures.toml").read_text(encoding="utf-8"))
    assert table.keys() == ARCHITECTURES.keys()
    for entry in table.values():
        status = Status(entry["status"])
        assert entry["reason"].endswith(".")
        assert all(link.startswith("https://github.com/") for link in entry["links"])
        assert entry["links"] or status is Status.SUPPORTED


def test_the_known_pre_tokenizers_are_hashes_with_names() -> None:
    table = json.loads((GGUF / "pretokenizers.json").read_text(encoding="utf-8"))
    assert table["probe_text"].startswith("\n \n\n")
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in table["hashes"])
    assert {"gpt-4o", "dbrx", "phi-2"} <= set(table["hashes"].values())


@pytest.mark.parametrize("backend", ["gguf", "reference"])
def test_a_lock_pins_and_hashes_everything_but_torch(backend: str) -> None:
    lock = (CONVERTERS / backend / "requirements.txt").read_text(encoding="utf-8")
    packages = re.findall(r"^([a-z0-9-]+)==\S+( \\)?$", lock, re.MULTILINE)
    assert [name for name, hashed in packages if not hashed] == ["torch"]
    assert "://" not in lock
    assert not re.search("^(nvidia|cuda|triton)", lock, re.MULTILINE)


@pytest.mark.parametrize("backend", ["gguf", "reference"])
def test_a_lock_holds_what_was_asked_for(backend: str) -> None:
    lock = (CONVERTERS / backend / "requirements.txt").read_text(encoding="utf-8")
    for line in (CONVERTERS / backend / "requirements.in").read_text(encoding="utf-8").splitlines():
        assert re.search(rf"^{re.escape(line)}(==| |$)", lock, re.MULTILINE), line
