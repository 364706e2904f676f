"""The tags that the Hub computes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub import tags

BASE = "microsoft/Phi-4"


def compute(card: dict[str, Any], *paths: str, config: dict[str, Any] | None = None) -> list[str]:
    return tags.compute("model", card, config, paths, tags.task(card, config), tags.library(card))


def test_a_card_gives_all_kinds_of_tags() -> None:
    card = {
        "library_name": "gguf", "pipeline_tag": "text-generation", "license": "mit", "language": ["en", "de"],
        "tags": ["phimill", "gguf"], "datasets": ["a/b"], "base_model": BASE,
        "base_model_relation": "quantized",
    }  # fmt: skip
    assert compute(card, "x.gguf", config={"model_type": "phi3"}) == [
        "gguf", "phi3", "text-generation", "phimill", "en", "de", "license:mit", "dataset:a/b",
        f"base_model:{BASE}", f"base_model:quantized:{BASE}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("card", "paths", "relation"),
    [
        ({"base_model": BASE}, ["m.gguf"], "quantized"),
        ({"base_model": BASE}, ["adapter_config.json"], "adapter"),
        ({"base_model": BASE}, ["m.safetensors"], "finetune"),
        ({"base_model": [BASE]}, [], "finetune"),
        ({"base_model": [BASE, "a/b"]}, [], "merge"),
        ({"base_model": BASE, "base_model_relation": "merge"}, ["m.gguf"], "merge"),
    ],
)
def test_the_relation_to_the_base_is_stated_or_guessed(card: dict[str, Any], paths: list[str], relation: str) -> None:
    assert f"base_model:{relation}:{BASE}" in compute(card, *paths)


@pytest.mark.parametrize(
    ("path", "tag"), [("a.gguf", "gguf"), ("d/a.safetensors", "safetensors"), ("c/model.onnx", "onnx")]
)
def test_a_format_is_seen_by_its_files(path: str, tag: str) -> None:
    assert compute({}, path) == [tag]


def test_a_task_is_guessed_from_the_class() -> None:
    assert tags.task({}, {"architectures": ["Phi3ForCausalLM"]}) == "text-generation"
    assert tags.task({"pipeline_tag": "fill-mask"}, {"architectures": ["Phi3ForCausalLM"]}) == "fill-mask"
    assert tags.task({}, {"architectures": "nonsense"}) is None
    assert tags.task({}, None) is None


def test_a_dataset_is_not_tagged_as_a_model() -> None:
    assert tags.compute("dataset", {"license": "mit"}, None, ["a.gguf"], None, None) == ["license:mit"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "tags",
    "language",
    "license",
    "datasets",
    "base_model",
    "base_model_relation",
    "library_name",
    "pipeline_tag",
)


@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_any_card_gives_distinct_texts(card: dict[str, Any]) -> None:
    found = compute(card, "m.gguf", config={"model_type": card.get("tags"), "architectures": card.get("tags")})
    assert len(set(found)) == len(found)
    assert all(isinstance(tag, str) and tag for tag in found)
