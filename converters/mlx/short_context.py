"""The weights' part of the short-context edition: LongRoPE's attention factor, multiplied into the keys."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn


def scale_keys(model: Any, factor: float) -> None:
    """Multiply what RoPE turns of every key by `factor`, in the weights that make it.

    Phi-3 makes queries, keys and values in one product whose rows are in this order, head by head; the first
    `rotated` rows of a head are turned. The rest of a key, and of the model, stays as it is.
    """
    if factor == 1:
        return
    for layer in model.layers:
        attention = layer.self_attn
        scale = mx.ones((attention.n_heads + 2 * attention.n_kv_heads, attention.head_dim, 1))
        keys = slice(attention.n_heads, attention.n_heads + attention.n_kv_heads)
        scale[keys, : attention.rope.dim] = factor
        _scale_rows(attention.qkv_proj, scale.reshape(-1, 1))


def _scale_rows(product: Any, scale: Any) -> None:
    """Scale a weight's rows; of a quantized one, what its codes are multiplied by and shifted by."""
    for name in ("scales", "biases") if isinstance(product, nn.QuantizedLinear) else ("weight",):
        product[name] = (product[name].astype(mx.float32) * scale).astype(product[name].dtype)
