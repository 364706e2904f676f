"""The matrix products of an MLX model by another route, for machines without a GPU.

MLX's wheel for CPUs multiplies matrices with an unoptimised BLAS on one thread (1.3 GFLOP/s where OpenBLAS, which
numpy brings along, does 44), and quantized ones at float16 thirty times slower still. So a model that is measured gets
its products replaced: MLX dequantizes the weight at float32, a block of rows at a time, numpy multiplies, and the
result is rounded to the model's own type, as MLX's GPU kernels do. All else (RoPE, attention, norms, activations,
cache) stays MLX's. Weights are read when they are used and dropped afterwards: the largest matrix bounds the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

_BLOCK = 1 << 23  # weights widened at once: 32 MiB at float32
_FEW = 8  # so few rows are not worth a dequantized matrix; MLX's own quantized product is faster


@dataclass(frozen=True)
class Matrix:
    """A weight in its files, [out, in], or [experts, out, in]; `bits` is 0 where it is not quantized."""

    files: dict[str, Path]
    name: str
    group_size: int = 0
    bits: int = 0

    def read(self) -> list[Any]:
        """The weight, and its scales and biases, afresh: an array that somebody holds would stay in memory."""
        names = [f"{self.name}.{kind}" for kind in (("weight", "scales", "biases") if self.bits else ("weight",))]
        loaded = {file: mx.load(str(file)) for file in {self.files[name] for name in names}}
        return [loaded[self.files[name]][name] for name in names]

    def rows(self, ids: Any) -> Any:
        """Give some rows in the model's own type, as MLX's embedding does."""
        weight, *affine = (part[ids] for part in self.read())
        return mx.dequantize(weight, *affine, self.group_size, self.bits) if self.bits else weight

    def times(self, x: Any, expert: int | None = None) -> Any:
        """`x` times the transposed matrix, both float32: [n, in] to [n, out]."""
        weight, *affine = self.read() if expert is None else [part[expert] for part in self.read()]
        affine = [part.astype(mx.float32) for part in affine]
        if self.bits and len(x) <= _FEW:
            return np.array(mx.quantized_matmul(mx.array(x), weight, *affine, True, self.group_size, self.bits))
        out = np.empty((len(x), weight.shape[0]), np.float32)
        step = max(_BLOCK // x.shape[-1], 1)
        for start in range(0, len(weight), step):
            part, *rest = (values[start : start + step] for values in (weight, *affine))
            wide = mx.dequantize(part, *rest, self.group_size, self.bits) if self.bits else part.astype(mx.float32)
            np.matmul(x, np.array(wide, copy=False).T, out=out[:, start : start + step])
        return out


class StandIn(nn.Module):  # type: ignore[misc]
    """In place of a layer with a weight; its parameters are hidden from MLX, which would read them."""

    def __init__(self, matrix: Matrix, bias: Any) -> None:
        super().__init__()
        self._matrix = matrix
        self._bias = bias

    def product(self, x: Any) -> Any:
        flat = np.array(x.astype(mx.float32)).reshape(-1, x.shape[-1])
        return mx.array(self._matrix.times(flat)).reshape(*x.shape[:-1], -1).astype(x.dtype)


class Product(StandIn):
    """Stands in for `Linear` and `QuantizedLinear`."""

    def __call__(self, x: Any) -> Any:
        y = self.product(x)
        return y if self._bias is None else y + self._bias


class Table(StandIn):
    """Stands in for `Embedding` and `QuantizedEmbedding`, which is a tied model's last product as well."""

    def __call__(self, ids: Any) -> Any:
        return self._matrix.rows(ids)

    def as_linear(self, x: Any) -> Any:
        return self.product(x)


class Experts(StandIn):
    """Stands in for `SwitchLinear` and `QuantizedSwitchLinear`: each row is multiplied by its own expert."""

    def __call__(self, x: Any, indices: Any, sorted_indices: bool = False) -> Any:
        chosen = np.array(indices).reshape(-1)
        spread = mx.broadcast_to(x.astype(mx.float32), (*indices.shape, 1, x.shape[-1]))
        flat = np.array(spread).reshape(-1, x.shape[-1])
        parts = {int(e): self._matrix.times(flat[chosen == e], int(e)) for e in np.unique(chosen)}
        out = np.empty((len(flat), next(iter(parts.values())).shape[-1]), np.float32)
        for expert, part in parts.items():
            out[chosen == expert] = part
        y = mx.array(out).reshape(*indices.shape, 1, -1).astype(x.dtype)
        return y if self._bias is None else y + mx.expand_dims(self._bias[indices], -2)


_STAND_INS = {
    nn.Linear: Product,
    nn.QuantizedLinear: Product,
    nn.Embedding: Table,
    nn.QuantizedEmbedding: Table,
    SwitchLinear: Experts,
    QuantizedSwitchLinear: Experts,
}


def replace_products(model: Any, weights: list[Path]) -> None:
    """Let numpy multiply in a model that was loaded lazily from these files."""
    files = {name: file for file in weights for name in mx.load(str(file))}
    replaced = []
    for name, module in model.named_modules():
        if stand_in := _STAND_INS.get(type(module)):
            matrix = Matrix(files, name, getattr(module, "group_size", 0), getattr(module, "bits", 0))
            replaced.append((name, stand_in(matrix, module.get("bias"))))
    model.update_modules(tree_unflatten(replaced))
