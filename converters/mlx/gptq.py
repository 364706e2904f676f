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
_ROWS = 4096  # of a weight, rounded together: so many stay near the processor


def quantize(weight: Any, inputs: Any, group_size: int, bits: int) -> dict[str, Any]:
    """Quantize [out, in] at float32 to what MLX names weight, scales and biases.

    `inputs` are what it is multiplied by, [n, in]; `bits` divides 32 and `group_size` the columns.
    """
    root = _inverse_root(inputs)
    parts = [_rounded(weight[at : at + _ROWS], root, group_size, bits) for at in range(0, len(weight), _ROWS)]
    codes, scales, biases = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"weight": _pack(codes, bits), "scales": scales, "biases": biases}


def _rounded(weight: Any, root: Any, group_size: int, bits: int) -> tuple[Any, Any, Any]:
    """The codes, scales and biases of some rows of a weight, which do not touch other rows."""
    columns = np.ascontiguousarray(weight.T)
    codes = np.empty(columns.shape, np.uint8)
    affine: Any = np.empty((2, len(columns) // group_size, len(weight)), np.float16)
    scales, biases = affine

    def part(start: int, stop: int) -> None:
        if stop - start > group_size:
            middle = start + (stop - start) // group_size // 2 * group_size
            part(start, middle)
            columns[middle:stop] -= root[start:middle, middle:stop].T @ columns[start:middle]
            part(middle, stop)
            return
        group, at = slice(start, stop), start // group_size
        _, scale, bias = mx.quantize(mx.array(columns[group].T), group_size, bits)
        scales[at], biases[at] = np.array(scale)[:, 0], np.array(bias)[:, 0]
        codes[group] = _round_columns(columns[group], root[group, group], scales[at], biases[at], 2**bits - 1)

    part(0, len(columns))
    return codes.T, scales.T, biases.T


def _round_columns(group: Any, root: Any, scales: Any, biases: Any, largest: int) -> Any:
    """The codes of one group of columns, which become the errors that the columns behind them are to make good."""
    scale, bias = scales.astype(np.float32), biases.astype(np.float32)
    # Where a group is all one value, MLX's scale may be too small for float16: then every code means the bias.
    steps = np.where(scale == 0, 1, scale)
    codes = np.empty(group.shape, np.uint8)
    for k, column in enumerate(group):
        code = np.clip(np.rint((column - bias) / steps), 0, largest)
        codes[k] = code
        column[:] = (column - (code * scale + bias)) / root[k, k]
        group[k + 1 :] -= np.outer(root[k, k + 1 :], column)
    return codes


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
