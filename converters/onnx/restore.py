"""What the builder's graph holds of its source's matrices, dequantized by numpy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.outliers import Find, Restored
from converters.weights import TensorRef

# What the builder may cut a matrix of Phi-3 into: its rows, in this order.
_PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
# What it calls otherwise than the source.
_NAMES = {"self_attn": "attn", "dense": "o_proj"}


@dataclass(frozen=True)
class _Product:
    """A matrix of the graph, [outputs, inputs]."""

    kind: str
    shape: tuple[int, int]
    read: Callable[[slice], Any]


def restored(model: Path) -> Find:
    """Open a graph. A matrix is found by the name of the product that it belongs to."""
    held = dict(_products(ir.load(model)))

    def find(tensor: TensorRef) -> list[Restored]:
        *layer, name = (_NAMES.get(word, word) for word in tensor.name.removesuffix(".weight").split("."))
        whole = held.get(".".join([*layer, name]))
        names = [name] if whole else _PARTS.get(name, ())
        parts = [held.get(".".join([*layer, part])) for part in names]
        products = [part for part in parts if part is not None and part.shape[1] == tensor.shape[1]]
        if len(products) < len(parts) or sum(each.shape[0] for each in products) != tensor.shape[0]:
            return []
        starts = np.cumsum([0, *(each.shape[0] for each in products)])
        return [
            Restored(each.kind, int(start), each.shape[0], each.read, "" if whole else part)
            for part, start, each in zip(names, starts, products, strict=False)
        ]

    return find


def _products(model: Any) -> Iterator[tuple[str, _Product]]:
    """The products with a matrix, by the path of their module. Those behind a `DequantizeLinear` are left out."""
    for node in model.graph:
        path = re.fullmatch(r"/(.+)/MatMul(_Q\d)?", node.name or "")
        if path is None:
            continue
        constants = [value.const_value if value is not None else None for value in node.inputs[1:]]
        if node.op_type == "MatMul" and constants[0] is not None:
            yield path[1].replace("/", "."), _plain(constants[0])
        elif node.op_type == "MatMulNBits" and len(constants) == 2:
            yield path[1].replace("/", "."), _rounded(node.attributes, *constants)


def _plain(matrix: Any) -> _Product:
    inputs, outputs = matrix.shape.numpy()
    return _Product(matrix.dtype.name, (outputs, inputs), lambda which: matrix.numpy()[:, which].T.astype(np.float32))


def _rounded(attributes: Any, codes: Any, scales: Any) -> _Product:
    """`MatMulNBits` without zero points: the middle code stands for zero, the lower half of a byte comes first."""
    inputs, outputs, bits, size = (attributes[name].as_int() for name in ("K", "N", "bits", "block_size"))

    def read(which: slice) -> Any:
        packed = codes.numpy()[which]
        numbers = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
        scale = scales.numpy().reshape(outputs, -1)[which].astype(np.float32)
        values = (numbers.astype(np.float32) - 2 ** (bits - 1)) * scale[..., None]
        return values.reshape(len(packed), -1)[:, :inputs]

    return _Product(f"{bits} bits, blocks of {size}", (outputs, inputs), read)
