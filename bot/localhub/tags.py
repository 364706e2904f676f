"""The tags the Hub computes: what `list_models(filter=...)` finds a repository by."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bot.localhub.cards import as_list

# Formats that the Hub shows as a tag when a file has the ending.
_FORMATS = {".gguf": "gguf", ".safetensors": "safetensors", ".onnx": "onnx"}
_TASK_BY_HEAD = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForConditionalGeneration": "text2text-generation",
}


def compute(
    repo_type: str,
    card: dict[str, Any],
    config: dict[str, Any] | None,
    paths: Collection[str],
    pipeline_tag: str | None,
    library_name: str | None,
) -> list[str]:
    """Return a repository's tags in a stable order, without repeats."""
    found = [library_name, *_formats(paths)] if repo_type == "model" else []
    if repo_type == "model":
        found += [(config or {}).get("model_type"), pipeline_tag]
    found += [tag for tag in as_list(card.get("tags")) if isinstance(tag, str)]
    found += [tag for tag in as_list(card.get("language")) if isinstance(tag, str)]
    found += _prefixed("license", card.get("license"))
    found += _prefixed("dataset", card.get("datasets"))
    bases = _prefixed("base_model", card.get("base_model"))
    relation = _relation(card, paths)
    found += bases + [f"base_model:{relation}:{base.removeprefix('base_model:')}" for base in bases]
    return list(dict.fromkeys(tag for tag in found if isinstance(tag, str) and tag))


def task(card: dict[str, Any], config: dict[str, Any] | None) -> str | None:
    """Return the pipeline tag: the card's, else what the model's class tells."""
    if isinstance(card.get("pipeline_tag"), str):
        return str(card["pipeline_tag"])
    for architecture in as_list((config or {}).get("architectures")):
        for head, name in _TASK_BY_HEAD.items():
            if isinstance(architecture, str) and architecture.endswith(head):
                return name
    return None


def library(card: dict[str, Any]) -> str | None:
    """Return the library of the card. The Hub no longer guesses one."""
    name = card.get("library_name")
    return name if isinstance(name, str) else None


def _formats(paths: Collection[str]) -> list[str]:
    return [tag for ending, tag in _FORMATS.items() if any(path.endswith(ending) for path in paths)]


def _prefixed(prefix: str, values: Any) -> list[str]:
    return [f"{prefix}:{value}" for value in as_list(values) if isinstance(value, str)]


def _relation(card: dict[str, Any], paths: Collection[str]) -> str:
    """Return how the model came from its base: the card's word, else the Hub's guess from the files."""
    stated = card.get("base_model_relation")
    if isinstance(stated, str):
        return stated
    if "adapter_config.json" in paths:
        return "adapter"
    if any(path.endswith(".gguf") for path in paths):
        return "quantized"
    return "merge" if len(as_list(card.get("base_model"))) > 1 else "finetune"
