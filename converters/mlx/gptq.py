"""GPTQ for MLX's affine groups: rounds a weight column by column, each error made good by the columns to come.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (arXiv 2210.17323).
With H = sum of x x^T over what a layer was given, and H^-1 = U^T U with U upper triangular, an error e made in column
k is best made good by taking e / U[k, k] * U[k, j] from every later column j. A group's scale and bias are MLX's own,
found when its first column is reached and rounded to float16 before any code is.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

# Added to H's diagonal, as a part of its mean. A real Phi has more inputs than the calibration text tells about; with
# a text too short by the same proportion, 0.05 was as good as any value on the test model.
_DAMPING = 0.05
_LEAF = 64


def quantize(weight: Any, inputs: Any, group_size: int, bits: int) -> dict[str, Any]:
    """Quantize [out, in] at float32, which is used up, to what MLX names weight, scales and biases.

    `inputs` are what it is multiplied by, [n, in]; `bits` divides 32 and `group_size` the columns.
    """
    rows, columns = weight.shape
    codes = np.empty((rows, columns), np.uint8)
    scales, biases = (np.empty((rows, columns // group_size), np.float16) for _ in range(2))
    root = _inverse_root(inputs)

    def part(start: int, stop: int) -> None:
        if stop - start > group_size:
            middle = start + (stop - start) // group_size // 2 * group_size
            part(start, middle)
            weight[:, middle:stop] -= weight[:, start:middle] @ root[start:middle, middle:stop]
            part(middle, stop)
            return
        at = start // group_size
        _, scale, bias = mx.quantize(mx.array(weight[:, start:stop]), group_size, bits)
        scales[:, at], biases[:, at] = np.array(scale)[:, 0], np.array(bias)[:, 0]
        _round_columns(weight, codes, root, slice(start, stop), scales[:, at], biases[:, at], 2**bits - 1)

    part(0, columns)
    return {"weight": _pack(codes, bits), "scales": scales, "biases": biases}


def _round_columns(weight: Any, codes: Any, root: Any, group: slice, scales: Any, biases: Any, largest: int) -> None:
    """Round one group; its weights become the errors that the columns behind it are to make good."""
    scale, bias = scales.astype(np.float32), biases.astype(np.float32)
    # Where a group is all one value, MLX's scale may be too small for float16: then every code means the bias.
    steps = np.where(scale == 0, 1, scale)
    for k in range(group.start, group.stop):
        code = np.clip(np.rint((weight[:, k] - bias) / steps), 0, largest)
        codes[:, k] = code
        error = (weight[:, k] - (code * scale + bias)) / root[k, k]
        weight[:, k] = error
        later = slice(k + 1, group.stop)
        weight[:, later] -= np.outer(error, root[k, later])


def _inverse_root(inputs: Any) -> Any:
    """U with H^-1 = U^T U. Cholesky of H from its end gives H = R R^T with R upper triangular, and U is R^-1."""
    gram = inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += _DAMPING * np.mean(np.diag(gram)) + np.finfo(np.float32).tiny
    root = np.linalg.cholesky(gram[::-1, ::-1])[::-1, ::-1]
    del gram  # as large as what is computed next
    return _inverse(root)


def _inverse(upper: Any) -> Any:
    """Invert an upper triangular matrix, half by half."""
    if len(upper) <= _LEAF:
        return np.linalg.inv(upper)
    half = len(upper) // 2
    out = np.zeros_like(upper)
    first, last = _inverse(upper[:half, :half]), _inverse(upper[half:, half:])
    out[:half, :half], out[half:, half:] = first, last
    out[:half, half:] = -first @ (upper[:half, half:] @ last)
    return out


def _pack(codes: Any, bits: int) -> Any:
    """Codes to words of 32 bits, the first code in the lowest bits."""
    words = codes.reshape(len(codes), -1, 32 // bits).astype(np.uint32)
    return np.bitwise_or.reduce(words << np.arange(0, 32, bits, dtype=np.uint32), axis=-1)
