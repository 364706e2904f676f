"""What an MLX folder holds of its source's matrices, dequantized by MLX at float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from converters import weights
from converters.mlx import config as configs
from converters.outliers import Find, Restored
from converters.weights import TensorRef


def restored(folder: Path, source: Path) -> Find:
    """Open a folder. mlx-lm names matrices as their source does, but for the experts of PhiMoE, which it stacks."""
    held = {tensor.name: tensor for tensor in weights.tensors(folder)}
    scale = _scale(configs.load(folder), configs.load(source))

    def find(tensor: TensorRef) -> list[Restored]:
        matrix = held.get(tensor.name)
        if matrix is None or len(matrix.shape) != 2 or matrix.shape[0] != tensor.shape[0]:
            return []
        stem = tensor.name.removesuffix(".weight")
        kind, read = _reader(matrix, held.get(f"{stem}.scales"), held.get(f"{stem}.biases"), tensor.shape[1])
        if scale is not None and tensor.name.endswith("qkv_proj.weight"):
            return [Restored(kind, 0, tensor.shape[0], lambda which: read(which) / scale[which])]
        return [Restored(kind, 0, tensor.shape[0], read)]

    return find


def _reader(
    matrix: TensorRef, scales: TensorRef | None, biases: TensorRef | None, columns: int
) -> tuple[str, Callable[[slice], Any]]:
    if scales is None or biases is None:
        return matrix.dtype, lambda which: weights.rows(matrix, which)
    bits, group_size = matrix.shape[1] * 32 // columns, columns // scales.shape[1]

    def read(which: slice) -> Any:
        codes = mx.array(np.ascontiguousarray(weights.stored(matrix, which)))
        affine = (mx.array(weights.rows(part, which)) for part in (scales, biases))
        return np.array(mx.dequantize(codes, *affine, group_size, bits))

    return f"{bits} bits, groups of {group_size}", read


def _scale(config: dict[str, Any], source: dict[str, Any]) -> Any:
    """What each row of queries, keys and values was multiplied by in a short-context edition (`short_context.py`)."""
    if config["max_position_embeddings"] == source["max_position_embeddings"]:
        return None
    _, factor = configs.short_context(source)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    length = config["hidden_size"] // heads
    scale = np.ones((heads + 2 * kv_heads, length, 1), np.float32)
    scale[heads : heads + kv_heads, : int(length * config["partial_rotary_factor"])] = factor
    return scale.reshape(-1, 1)
