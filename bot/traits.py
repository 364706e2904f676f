"""From an untrusted `config.json` to `Traits`, in the forms that transformers 4 and 5 have written it.

transformers 4: `rope_scaling: {"type": "longrope" | "su", ...}`, `rope_theta` beside it, `torch_dtype`.
transformers 5: `rope_parameters: {"rope_type": "longrope", "rope_theta": ..., ...}`, `dtype`.
Older and multimodal ones keep the decoder's numbers in `text_config`, and the first Phi's said `n_embd`,
`n_layer`.

Every number is checked for its type and for sense before anything is computed from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bot.architectures import ARCHITECTURES, Architecture
from bot.errors import SourceCorrupt
from bot.models import SourceFile, Traits

MAX_CONFIG = 4 * 1024**2  # bytes; a config.json with LongRoPE's factors is 4 kB
TokenizerKind = Literal["spm", "bpe", "tiktoken", "none"]

# Far above any Phi and far below what would make an estimate overflow or a loop long.
LIMITS = {
    "vocab": 2**22,
    "hidden": 2**18,
    "layers": 2**12,
    "heads": 2**12,
    "context": 2**28,
    "experts": 2**12,
}

_HIDDEN = ("hidden_size", "n_embd")
_LAYERS = ("num_hidden_layers", "n_layer")
_HEADS = ("num_attention_heads", "n_head")
_KV_HEADS = ("num_key_value_heads", "n_head_kv")
_CONTEXT = ("max_position_embeddings", "n_positions")
_ORIGINAL = ("original_max_position_embeddings",)
_EXPERTS = ("num_local_experts", "num_experts")

_SPM_CLASSES = frozenset({"LlamaTokenizer", "LlamaTokenizerFast"})
_BPE_CLASSES = frozenset(
    {"GPT2Tokenizer", "GPT2TokenizerFast", "CodeGenTokenizer", "CodeGenTokenizerFast", "Qwen2Tokenizer"}
)


def load_json(name: str, text: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        SourceCorrupt: not JSON, or not an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceCorrupt(f"{name} is not JSON.") from error
    if not isinstance(value, dict):
        raise SourceCorrupt(f"{name} is not a JSON object.")
    return value


def architecture(config: Mapping[str, Any]) -> str:
    """The class that config.json names first, or an empty text."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    return first if isinstance(first, str) and first.isidentifier() and first.isascii() else ""


def text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The decoder's part of a config: the nested one over the outer one, where there is one."""
    for key in ("text_config", "language_config", "llm_config"):
        nested = config.get(key)
        if isinstance(nested, dict):
            return {**config, **nested}
    return dict(config)


def rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The RoPE parameters in one form: `rope_type`, the factors, whichever style they were written in."""
    text = text_part(config)
    found = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if isinstance(found, dict) and isinstance(found.get("full_attention"), dict):
        found = found["full_attention"]
    if not isinstance(found, dict):
        raise SourceCorrupt("config.json: its RoPE parameters are not a table.")
    kind = found.get("rope_type") or found.get("type") or "default"
    if not isinstance(kind, str):
        raise SourceCorrupt("config.json: its RoPE type is not a text.")
    for name in ("long_factor", "short_factor"):
        factors = found.get(name)
        if factors is not None and not _are_factors(factors):
            raise SourceCorrupt(f"config.json: {name} is not a list of numbers.")
    # "su" is what Phi-3 called LongRoPE before June 2024.
    return {**found, "rope_type": "longrope" if kind == "su" else kind}


def traits(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], files: Sequence[SourceFile]) -> Traits:
    """What a converter needs to know of a model.

    Raises:
        SourceCorrupt: a number is missing, of the wrong type, absurd, or at odds with another.
    """
    text, turned = text_part(config), rope(config)
    family = ARCHITECTURES.get(architecture(config), Architecture())
    hidden = _count(text, _HIDDEN, "hidden")
    heads = _count(text, _HEADS, "heads")
    return Traits(
        longrope=turned["rope_type"] == "longrope",
        original_context=_optional({**turned, **text}, _ORIGINAL, "context"),
        context=_count(text, _CONTEXT, "context"),
        tied_embeddings=_tied(text),
        partial_rotary=_rotary(text, turned, family.rotary),
        experts=_optional(text, _EXPERTS, "experts") or 0,
        vision=family.vision or _has(config, "vision_config", "img_processor", "mm_vision_tower"),
        audio=family.audio or _has(config, "audio_config", "audio_processor"),
        remote_code=bool(config.get("auto_map")) and not family.native,
        tokenizer=tokenizer_kind(tokenizer_config, files),
        vocab=_count(text, ("vocab_size",), "vocab"),
        hidden=hidden,
        layers=_count(text, _LAYERS, "layers"),
        heads=heads,
        kv_heads=_optional(text, _KV_HEADS, "heads") or heads,
        head_dim=_optional(text, ("head_dim",), "hidden") or hidden // heads,
    )


def tokenizer_kind(tokenizer_config: Mapping[str, Any], files: Sequence[SourceFile]) -> TokenizerKind:
    """Which family of tokenizer this is, by its class first and by its files where the class says nothing."""
    names = {file.path for file in files}
    named = tokenizer_config.get("tokenizer_class")
    cls = named if isinstance(named, str) else ""
    if cls in _BPE_CLASSES:
        return "bpe"
    if cls in _SPM_CLASSES or "tokenizer.model" in names:
        return "spm"
    if any(name.endswith(".tiktoken") for name in names):
        return "tiktoken"
    return "bpe" if "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names else "none"


def config_dtype(config: Mapping[str, Any]) -> str:
    """The element type that config.json names, as `bfloat16`; empty when it names none."""
    text = text_part(config)
    named = text.get("dtype") or text.get("torch_dtype") or ""
    return named.removeprefix("torch.") if isinstance(named, str) and named.isascii() else ""


def _count(table: Mapping[str, Any], names: Sequence[str], limit: str) -> int:
    value = _optional(table, names, limit)
    if value is None:
        raise SourceCorrupt(f"config.json says nothing about {names[0]}.")
    return value


def _optional(table: Mapping[str, Any], names: Sequence[str], limit: str) -> int | None:
    """The first of `names` that is set, as a positive count."""
    for name in names:
        value = table.get(name)
        if value is None:
            continue
        # bool is an int to Python, and `true` layers is not a number of layers.
        if type(value) is not int or not 0 < value <= LIMITS[limit]:
            raise SourceCorrupt(f"config.json: {str(value)[:40]!r} is no sensible {name}.")
        return value
    return None


def _tied(text: Mapping[str, Any]) -> bool:
    tied = text.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise SourceCorrupt("config.json: tie_word_embeddings is neither true nor false.")
    return tied


def _rotary(text: Mapping[str, Any], turned: Mapping[str, Any], default: float) -> float:
    value = text.get("partial_rotary_factor") or turned.get("partial_rotary_factor") or default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise SourceCorrupt(f"config.json: {str(value)[:40]!r} is no sensible partial_rotary_factor.")
    return float(value)


def _are_factors(factors: object) -> bool:
    return isinstance(factors, list) and all(
        isinstance(f, int | float) and not isinstance(f, bool) and 0 < f < 1e6 for f in factors
    )


def _has(config: Mapping[str, Any], *names: str) -> bool:
    return any(config.get(name) for name in names)
