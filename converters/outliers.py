"""Finds matrices whose quantization error is unlike that of the same matrix in the other layers.

Weights can be made so that they misbehave only when quantized (Egashira et al., "Exploiting LLM Quantization", arXiv
2405.18137, and "Mind the Gap", arXiv 2505.23786). Where that was done to a few matrices, their errors may stand out.
They need not, so that none is no proof.

The error of a matrix W that an artifact restores as Q is |W - Q| / |W|, in Frobenius norms. Its siblings are the
matrices whose names differ from its own in numbers alone (of the layer, of the expert) and that are quantized alike.
With x = ln(error), m the median of x among siblings and MAD that of |x - m|, a matrix stands out where both

    0.6745 |x - m| > 3.5 MAD    the modified z-score and its threshold, as in Iglewicz and Hoaglin, "How to Detect and
                                Handle Outliers" (1993)
    |x - m| > ln 1.25           so that among siblings that hardly differ, and whose MAD may be 0, trifles do not. In
                                the test model no recipe's errors differ by more than ln 1.13; large values planted
                                into blocks of a matrix, the worst there is for plain rounding to 4 bits with a scale
                                for 64, less than double its error

An error below that of rounding to float16 counts as that one. Of a large matrix, blocks of rows are looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters import weights
from converters.base import Events
from converters.weights import TensorRef

SIBLINGS = 4  # fewer are not judged
SCORE = 3.5
RATIO = 1.25
SMALLEST = 2.0**-11
LARGEST = 1e6  # where the artifact holds NaN or infinity, or something where the source holds nothing
ELEMENTS = 1 << 22  # of one matrix that are looked at
BLOCKS = 16
REPORTED = 32


@dataclass(frozen=True)
class Restored:
    """What an artifact holds of a source's matrix: `count` rows, from `first` on.

    `kind` is how they are quantized, `read` dequantizes a slice of them. `part` names them where the artifact holds
    the matrix in parts.
    """

    kind: str
    first: int
    count: int
    read: Callable[[slice], Any]
    part: str = ""


# What the artifact holds of one of its source's matrices; nothing, where that cannot be told for certain.
Find = Callable[[TensorRef], Sequence[Restored]]


@dataclass(frozen=True)
class _Matrix:
    tensor: TensorRef
    restored: Restored

    @property
    def name(self) -> str:
        return f"{self.tensor.name} ({self.restored.part})" if self.restored.part else self.tensor.name

    @property
    def group(self) -> tuple[str, str]:
        return re.sub(r"\d+", "*", self.name), self.restored.kind

    def error(self) -> float:
        """How far what is restored is from the source, relative to the source."""
        away = size = 0.0
        for part in blocks(self.restored.count, self.tensor.shape[1]):
            first = self.restored.first
            source = weights.rows(self.tensor, slice(first + part.start, first + part.stop))
            away += _squares(source - self.restored.read(part))
            size += _squares(source)
        error = math.sqrt(away / size) if size else LARGEST * (away != 0)
        return min(error, LARGEST) if math.isfinite(error) else LARGEST


def report(source: Path, find: Find, events: Events) -> dict[str, Any]:
    """Compare the matrices of a source with what an artifact restores: the fields of the mill's `WeightErrors`."""
    groups: dict[tuple[str, str], list[_Matrix]] = {}
    missing = 0
    for tensor in weights.matrices(source):
        restored = find(tensor)
        missing += not restored
        for matrix in (_Matrix(tensor, each) for each in restored):
            groups.setdefault(matrix.group, []).append(matrix)
    judged = [group for group in groups.values() if len(group) >= SIBLINGS]
    compared = sum(map(len, judged))
    found: list[dict[str, Any]] = []
    for done, group in enumerate(judged):
        events.progress("compare weights", done, len(judged), "groups")
        found += _judge(group)
    events.progress("compare weights", len(judged), len(judged), "groups")
    found.sort(key=lambda each: -abs(math.log(max(each["error"], SMALLEST) / max(each["usual"], SMALLEST))))
    for each in found[:REPORTED]:
        events.log("warning", "{tensor} ({kind}): its quantization error is {error:.2g}; {usual:.2g} is usual "
                   "among its siblings in other layers.".format(**each))  # fmt: skip
    return {
        "compared": compared,
        "groups": len(judged),
        "without_siblings": sum(map(len, groups.values())) - compared,
        "not_found": missing,
        "stand_out": len(found),
        "outliers": found[:REPORTED],
    }


def outliers(errors: Sequence[float]) -> list[int]:
    """Which of some siblings stand out, by the rule above."""
    logarithms = np.log(np.maximum(errors, SMALLEST))
    away = np.abs(logarithms - np.median(logarithms))
    stand_out = (0.6745 * away > SCORE * np.median(away)) & (away > math.log(RATIO))
    return [int(at) for at in np.flatnonzero(stand_out)]


def blocks(rows: int, columns: int) -> list[slice]:
    """Blocks of a matrix's rows, evenly spaced, of about `ELEMENTS` in all; the whole matrix where it is no larger."""
    length = max(1, ELEMENTS // (BLOCKS * columns))
    if rows <= BLOCKS * length:
        return [slice(0, rows)]
    return [slice(at, at + length) for at in (block * (rows - length) // (BLOCKS - 1) for block in range(BLOCKS))]


def _judge(group: list[_Matrix]) -> Iterator[dict[str, Any]]:
    """Those of a group that stand out, as the mill's `WeightOutlier` has them."""
    errors = [matrix.error() for matrix in group]
    usual = float(np.median(errors))
    for at in outliers(errors):
        yield {"tensor": group[at].name, "kind": group[at].restored.kind, "error": errors[at], "usual": usual}


def _squares(values: Any) -> float:
    """The sum of squares; numpy's own sum, which no number of threads changes."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sum(np.square(values, dtype=np.float64)))
