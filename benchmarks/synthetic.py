"""A Phi of any size with random weights, made on the spot: Phi-3.5-mini's shape, scaled down in every direction alike.

Random weights convert as real ones do, and at the same cost; what they say means nothing. The tokenizer is the tiny
Phi's own. Where the vocabulary is larger than it, as the real one is larger than its tokenizer, the rest is padding.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bot.demo import MODEL

HEAD = 96  # Phi-3.5-mini's head dimension
DEVIATION = 0.02  # as Phi is initialised
PIECE = 1 << 22


@dataclass(frozen=True)
class Shape:
    """What makes one Phi larger than another. Phi-3.5-mini: 32 layers, 3072, 8192, 32064."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


Tensors = dict[str, tuple[int, ...]]


def make(shape: Shape, folder: Path) -> Path:
    """A checkpoint of this shape in `folder`; what is there already is kept."""
    weights = folder / "model.safetensors"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in MODEL.iterdir():
            if file.name not in ("model.safetensors", "config.json", "README.md"):
                shutil.copyfile(file, folder / file.name)
        config = json.loads((MODEL / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | _config(shape), indent=2))
        (folder / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\n---\n# Random weights, for measuring\n")
        part = folder / "weights.part"
        with part.open("wb") as out:
            _write(_tensors(shape), out)
        part.rename(weights)
    return folder


def _config(shape: Shape) -> dict[str, Any]:
    steps = [i / (HEAD // 2 - 1) for i in range(HEAD // 2)]
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.hidden // HEAD,
        "num_key_value_heads": shape.hidden // HEAD,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "sliding_window": 262144,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1 + 2 * step for step in steps],
            "long_factor": [1 + 63 * step for step in steps],
        },
        "_name_or_path": "Phi-3.5-mini-instruct",
    }


def _tensors(shape: Shape) -> Tensors:
    hidden, inner = shape.hidden, shape.intermediate
    found: Tensors = {"model.embed_tokens.weight": (shape.vocabulary, hidden)}
    for layer in range(shape.layers):
        name = f"model.layers.{layer}"
        found[f"{name}.self_attn.qkv_proj.weight"] = (3 * hidden, hidden)
        found[f"{name}.self_attn.o_proj.weight"] = (hidden, hidden)
        found[f"{name}.mlp.gate_up_proj.weight"] = (2 * inner, hidden)
        found[f"{name}.mlp.down_proj.weight"] = (hidden, inner)
        found[f"{name}.input_layernorm.weight"] = found[f"{name}.post_attention_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    found["lm_head.weight"] = (shape.vocabulary, hidden)
    return found


def _write(tensors: Tensors, out: BinaryIO) -> None:
    """The safetensors format: the header's length, the header as JSON, the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dims in tensors.items():
        start, end = end, end + 2 * prod(dims)
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    noise = np.random.default_rng(0)
    for name, dims in tensors.items():
        for piece in _values(prod(dims), noise, norm=name.endswith("norm.weight")):
            out.write(_bfloat16(piece))


def _values(count: int, noise: np.random.Generator, *, norm: bool) -> Iterator[Any]:
    for start in range(0, count, PIECE):
        size = min(PIECE, count - start)
        yield np.ones(size, np.float32) if norm else DEVIATION * noise.standard_normal(size, np.float32)


def _bfloat16(values: Any) -> bytes:
    """The upper halves of float32, rounded."""
    bits = values.astype("<f4").view("<u4")
    return bytes(((bits + 0x8000) >> 16).astype("<u2").tobytes())
