"""Rounds weights to 4 or 8 bits in blocks, with ONNX Runtime's own kernels, a few rows at a time.

Blocks do not depend on each other, so the bytes are those that the model builder gets for the whole weight at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits, quantize_qdq_matmul_4bits


@dataclass(frozen=True)
class Blocks:
    """How weights are rounded: `size` weights along the input share one scale; the zero point is the middle code."""

    bits: int
    size: int

    @property
    def bytes(self) -> int:
        return self.size * self.bits // 8

    def count(self, length: int) -> int:
        return -(-length // self.size)


def round_rows(rows: torch.Tensor, blocks: Blocks, dtype: torch.dtype) -> tuple[Any, Any]:
    """Round [outputs, inputs]; return codes [outputs, blocks, bytes] and scales [outputs, blocks] of `dtype`."""
    outputs, inputs = rows.shape
    count = blocks.count(inputs)
    columns = torch.zeros((count * blocks.size, outputs), dtype=dtype)
    columns[:inputs] = rows.T
    codes = np.zeros((outputs, count, blocks.bytes), dtype=np.uint8)
    scales = torch.zeros((outputs, count), dtype=dtype).numpy()
    unused = np.zeros((outputs, -(-count * blocks.bits // 8)), dtype=np.uint8)
    kernel = quantize_matmul_8bits if blocks.bits == 8 else quantize_matmul_4bits
    kernel(codes, columns.numpy(), scales, unused, blocks.size, outputs, inputs, True)
    return codes, scales


def round_matrix(matrix: torch.Tensor, blocks: Blocks, dtype: torch.dtype) -> tuple[Any, Any]:
    """Round [inputs, outputs] to 4 bits, two to a byte, for `DequantizeLinear`; the scales are [blocks, outputs]."""
    inputs, outputs = matrix.shape
    count = blocks.count(inputs)
    codes = np.zeros((inputs * outputs + 1) // 2, dtype=np.uint8)
    scales = torch.zeros((count, outputs), dtype=dtype).numpy()
    unused = np.zeros((outputs * count + 1) // 2, dtype=np.uint8)
    columns = matrix.to(dtype).contiguous().numpy()
    quantize_qdq_matmul_4bits(codes, columns, scales, unused, blocks.size, outputs, inputs, True)
    return codes, scales
