from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.architectures import ARCHITECTURES
from bot.models import Status
from bot.recipes import load
from converters.openvino import backend, plan

BACKEND = load(Path(backend.__file__).parent)
RECIPES = {recipe.id: recipe for recipe in BACKEND.recipes}
PROJECTIONS = RECIPES["openvino/int4"].options["int8_projections"]


def weight(block: int, part: str) -> str:
    return f"self.model.layers.{block}.{part}._openvino_orig_weight"


def product(block: int, part: str) -> str:
    return f"__module.model.layers.{block}.{part}/ov_ext::linear/MatMul"


def test_every_default_variant_is_a_repo_of_its_own_with_the_model_at_its_top() -> None:
    assert all(recipe.default for recipe in RECIPES.values())
    assert {recipe.file for recipe in RECIPES.values()} == {"openvino_model.xml"}
    assert {recipe.target("ns", "Phi-4") for recipe in RECIPES.values()} == {
        f"ns/Phi-4-{kind}-ov" for kind in ("int4", "int4-cookbook", "int8", "fp16", "fp32")
    }


def test_everything_is_measured_against_the_unquantized_export() -> None:
    assert {recipe.baseline for recipe in RECIPES.values()} == {"openvino/fp16"}
    assert RECIPES["openvino/fp16"].options == {"float": "f16"}


def test_the_cookbook_recipe_has_the_cookbooks_options() -> None:
    cookbook = RECIPES["openvino/int4-cookbook"]
    assert cookbook.options == {"mode": "int4_sym", "group_size": 128, "ratio": 0.6}
    assert "--weight-format int4 --group-size 128 --ratio 0.6 --sym" in cookbook.by_hand[0]


def test_the_recommended_recipe_by_hand_keeps_the_same_weights_at_8_bits() -> None:
    script = RECIPES["openvino/int4"].by_hand[1]
    line = next(line for line in script.splitlines() if line.startswith("others = "))
    there = {"outer": "0|1|30|31"}
    exec(line, there)
    assert there["others"] == plan.all_but_int8(32, PROJECTIONS, 16)


def test_a_snippet_pins_the_version() -> None:
    for snippet in BACKEND.snippets:
        assert {"{repo}", "{tag}"} <= set(re.findall(r"\{\w+\}", snippet.code))
        assert snippet.install.startswith("pip install ")


def test_every_phi_architecture_has_an_answer_with_a_reason_and_a_link() -> None:
    assert BACKEND.architectures.keys() == ARCHITECTURES.keys()
    for entry in BACKEND.architectures.values():
        assert entry.reason.endswith(".")
        assert all(link.startswith("https://github.com/") for link in entry.links)
        assert entry.links or entry.status is Status.SUPPORTED


def test_what_is_converted_is_what_is_supported() -> None:
    assert backend.architectures() == sorted(
        name for name, entry in BACKEND.architectures.items() if entry.status in (Status.SUPPORTED, Status.CAVEAT)
    )


@pytest.mark.parametrize("name", [weight, product])
def test_projections_and_outermost_blocks_keep_8_bits(name: object) -> None:
    assert callable(name)
    others = re.compile(plan.all_but_int8(32, PROJECTIONS, 16))
    kept = [(block, part) for block in (0, 1, 30, 31) for part in ("mlp.down_proj", "self_attn.o_proj")]
    kept += [(block, f"self_attn.{part}") for block in (0, 2, 10, 29) for part in PROJECTIONS]
    assert not [key for key in kept if others.match(name(*key))]
    left = [(block, part) for block in (2, 10, 13, 29) for part in ("mlp.down_proj", "self_attn.o_proj")]
    assert all(others.match(name(*key)) for key in left)
    assert others.match("self.lm_head._openvino_orig_weight")
    assert others.match("__module.model.embed_tokens/ov_ext::embedding/Gather")


@pytest.mark.parametrize(("blocks", "edge"), [(1, {0}), (2, {0, 1}), (6, {0, 5}), (40, {0, 1, 2, 37, 38, 39})])
def test_a_sixteenth_of_the_blocks_is_rounded_up(blocks: int, edge: set[int]) -> None:
    others = re.compile(plan.all_but_int8(blocks, ["qkv_proj"], 16))
    assert {block for block in range(blocks) if not others.match(weight(block, "mlp.down_proj"))} == edge


def test_blocks_are_counted_by_their_names() -> None:
    assert plan.count_blocks([weight(0, "a"), "lm_head", product(11, "b"), weight(2, "c")]) == 12
    assert plan.count_blocks(["lm_head"]) == 0


def test_the_calibration_text_is_cut_into_equal_pieces() -> None:
    assert [len(piece) for piece in plan.pieces("x" * 3500)] == [1000, 1000, 1000]
    assert plan.pieces("x" * 999) == []
