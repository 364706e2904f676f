"""config.json as mlx-lm reads it, in whichever form transformers wrote it, and the short-context edition's.

transformers 5 keeps RoPE in `rope_parameters`; mlx-lm reads `rope_scaling` and `rope_theta`, and runs a model without
them with plain RoPE and never says so. So what is published always has the older form, which both read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from converters.base import ConverterError

Config = dict[str, Any]

# Replaced by the older form, or naming code that is not published.
_DROPPED = {"rope_parameters", "rope_scaling", "dtype", "torch_dtype", "auto_map", "_name_or_path"}
_ROPE = ("short_factor", "long_factor", "short_mscale", "long_mscale", "factor", "attention_factor")
# Where a config does not say it, as transformers has it (mlx-lm assumes 0.4 for `phi`).
_PARTIAL_ROTARY = {"phi": 0.5}


def load(source: Path) -> Config:
    """The source's config in the older form, with every end token that its generation settings name.

    Raises:
        ConverterError: RoPE of a kind that mlx-lm does not have, or LongRoPE without its original context.
    """
    raw = _read(source / "config.json")
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    config = {name: value for name, value in raw.items() if name not in _DROPPED}
    config["torch_dtype"] = raw.get("torch_dtype") or raw.get("dtype")
    for name, default in (
        ("rope_theta", None),
        ("partial_rotary_factor", _PARTIAL_ROTARY.get(raw["model_type"], 1.0)),
    ):
        value = raw.get(name, rope.get(name, default))
        if value is not None:
            config[name] = value
    kind = rope.get("rope_type") or rope.get("type") or "default"
    config["rope_scaling"] = None
    if kind in ("longrope", "su"):
        config["rope_scaling"] = {"type": "longrope", **{k: rope[k] for k in _ROPE if rope.get(k) is not None}}
        original = raw.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
        if not original:
            raise ConverterError("config.json has LongRoPE and does not say for which original context.")
        config["original_max_position_embeddings"] = original
    elif kind != "default":
        raise ConverterError(f"mlx-lm runs no Phi with RoPE of the kind {kind!r}.")
    ends = end_tokens(raw, _read(source / "generation_config.json"))
    if ends:
        config["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    return config


def end_tokens(*tables: Config) -> list[int]:
    """Every end token that a config or a generation config names."""
    found: set[int] = set()
    for table in tables:
        value = table.get("eos_token_id")
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return sorted(found)


def with_short_factors(config: Config) -> Config:
    """The same model, but that mlx-lm, which takes the long factors for every text, finds the short ones there."""
    rope = config["rope_scaling"]
    if rope is None:
        return config
    short = {**rope, "long_factor": rope["short_factor"]}
    if "short_mscale" in rope:
        short["long_mscale"] = rope["short_mscale"]
    return {**config, "rope_scaling": short}


def short_context(config: Config) -> tuple[Config, float]:
    """The same model for texts within its original context, and what its keys have to be multiplied by.

    The context is capped to where the short factors hold. But mlx-lm derives LongRoPE's attention factor from the
    context, so that the cap alone would lose it. The factor multiplies what is rotated of queries and of keys: it
    goes, squared, into the weights that make the keys. PhiMoE names its factors in the config, and needs nothing more.

    Raises:
        ConverterError: the model has no LongRoPE.
    """
    if config["rope_scaling"] is None:
        raise ConverterError("Only a model with LongRoPE has a short-context edition.")
    factor = 1.0 if "short_mscale" in config["rope_scaling"] else attention_factor(config)
    short = with_short_factors(config)
    rope = {k: v for k, v in short["rope_scaling"].items() if k not in ("factor", "attention_factor")}
    return {
        **short,
        "rope_scaling": rope,
        "max_position_embeddings": config["original_max_position_embeddings"],
    }, factor**2


def attention_factor(config: Config) -> float:
    """LongRoPE's scale of queries and keys: sqrt(1 + ln(factor) / ln(original context)), as transformers has it."""
    rope, original = config["rope_scaling"], config["original_max_position_embeddings"]
    factor = rope.get("factor", config["max_position_embeddings"] / original)
    computed = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return float(rope.get("attention_factor", computed))


def _read(file: Path) -> Config:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
