"""Log-probabilities in 16 bits on disk, and how far another model's are from them. Uses numpy alone.

A folder holds, for a number of token sequences laid end to end, one row of log-probabilities per token
position:

    rows.bin      one `ROW` per position: the row's largest log-probability, the step, the most likely
    token, the
                  negative log-likelihood of the token that follows (NaN where none does)
    codes.u16     [positions, vocabulary] little-endian unsigned 16-bit codes
    meta.json     see `Meta`; written last, so a folder with it is complete

A value is `top - code * step`, with `step` chosen per row so that the codes span the row, but at most
`SPAN` nats: below e^-SPAN of the most likely token nothing can be seen in a divergence. Linear steps of
40/65535 nats round with a variance of step^2/12, which adds about step^2/24 = 2e-8 nats to a divergence in
the worst case. float16 would add 1e-6, more than an FP16 export's whole error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from converters.files import sync, write_json

SPAN = 40.0
NOT_FINITE = 1e6
"""Reported in place of a divergence when the variant's logits are not finite; no gate lets it pass."""

ROW = np.dtype([("top", "<f4"), ("step", "<f4"), ("token", "<i4"), ("nll", "<f4")])
_BLOCK = 32


@dataclass(frozen=True)
class Meta:
    """What the rows belong to. `sequences` holds the token ids in the order of the rows; the first
    `windows` are
    windows of the evaluation text, the rest are chat prompts with the source's own continuation."""

    vocabulary: int
    sequences: tuple[tuple[int, ...], ...]
    windows: int
    extra: dict[str, Any] = field(default_factory=dict)


def log_softmax(logits: Any) -> Any:
    """Log-probabilities in float64."""
    wide = np.asarray(logits, dtype=np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def encode(logprobs: Any) -> tuple[Any, Any, Any]:
    """Quantize rows to (top, step, codes)."""
    top = logprobs.max(axis=-1).astype(np.float32)
    depth = np.minimum(top - logprobs.min(axis=-1), SPAN)
    step = np.maximum(depth / 65535.0, 1e-12).astype(np.float32)
    codes = np.rint((top[:, None].astype(np.float64) - logprobs) / step[:, None].astype(np.float64))
    return top, step, np.clip(codes, 0, 65535).astype("<u2")


def decode(top: Any, step: Any, codes: Any) -> Any:
    """Log-probabilities in float64 again, made to sum to one."""
    values = top[:, None].astype(np.float64) - codes.astype(np.float64) * step[:, None].astype(np.float64)
    return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))


class Writer:
    """Fills a folder row by row; never holds more than a few rows in memory.

    What was there before stops being complete at once. A writer that is not closed leaves nothing to read.
    """

    def __init__(self, folder: Path, meta: Meta) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "meta.json").unlink(missing_ok=True)
        self._folder = folder
        self._meta = meta
        total = sum(len(ids) for ids in meta.sequences)
        self._rows: Any = np.memmap(folder / "rows.bin", dtype=ROW, mode="w+", shape=(total,))
        self._codes: Any = np.memmap(folder / "codes.u16", dtype="<u2", mode="w+", shape=(total, meta.vocabulary))
        self._at = 0

    def add(self, ids: Sequence[int], logits: Any) -> None:
        """Append one sequence; `logits` is [len(ids), vocabulary]."""
        targets = np.array([*ids[1:], -1])
        for start in range(0, len(ids), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(ids)))
            values = log_softmax(logits[part])
            at = slice(self._at + part.start, self._at + part.stop)
            top, step, self._codes[at] = encode(values)
            rows = self._rows[at]
            rows["top"], rows["step"], rows["token"] = top, step, values.argmax(axis=-1)
            rows["nll"] = _nll(values, targets[part])
        self._at += len(ids)

    def close(self) -> None:
        self._rows.flush()
        self._codes.flush()
        for name in ("rows.bin", "codes.u16"):
            sync(self._folder / name)
        write_json(self._folder / "meta.json", asdict(self._meta))


class Reader:
    """Reads a folder that a `Writer` made."""

    def __init__(self, folder: Path) -> None:
        raw = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        sequences = tuple(tuple(ids) for ids in raw["sequences"])
        self.meta = Meta(raw["vocabulary"], sequences, raw["windows"], raw["extra"])
        total = sum(len(ids) for ids in sequences)
        self._rows: Any = np.memmap(folder / "rows.bin", dtype=ROW, mode="r", shape=(total,))
        shape = (total, self.meta.vocabulary)
        self._codes: Any = np.memmap(folder / "codes.u16", dtype="<u2", mode="r", shape=shape)
        self._starts = np.cumsum([0, *(len(ids) for ids in sequences)])

    def perplexity(self) -> float:
        """The source's own perplexity over the windows."""
        losses = np.array(self._rows["nll"][: self._starts[self.meta.windows]], dtype=np.float64)
        return math.exp(float(np.nanmean(losses)))

    def blocks(self, sequence: int) -> Iterator[tuple[int, Any, Any]]:
        """Yield (offset in the sequence, rows, log-probabilities) a few rows at a time."""
        first, last = int(self._starts[sequence]), int(self._starts[sequence + 1])
        for at in range(first, last, _BLOCK):
            part = slice(at, min(at + _BLOCK, last))
            rows = self._rows[part]
            yield at - first, rows, decode(rows["top"], rows["step"], self._codes[part])


@dataclass
class Comparison:
    """Collects, position by position, how far a variant is from the rows of a folder."""

    reader: Reader
    _kl: list[Any] = field(default_factory=list)
    _agree: list[Any] = field(default_factory=list)
    _nll: list[Any] = field(default_factory=list)
    _source_nll: list[Any] = field(default_factory=list)

    def add(self, sequence: int, logits: Any) -> None:
        """Compare one sequence; `logits` is [its length, vocabulary] and finite."""
        ids = self.reader.meta.sequences[sequence]
        targets = np.array([*ids[1:], -1])
        for start, rows, source in self.reader.blocks(sequence):
            part = slice(start, start + len(rows))
            values = log_softmax(logits[part])
            self._kl.append((np.exp(source) * (source - values)).sum(axis=-1))
            self._agree.append(values.argmax(axis=-1) == rows["token"])
            self._nll.append(_nll(values, targets[part]))
            self._source_nll.append(np.array(rows["nll"], dtype=np.float64))

    def kl(self) -> Any:
        return np.concatenate(self._kl)

    @property
    def kl_mean(self) -> float:
        """Mean divergence in nats. Rounding can leave a perfect match a hair below zero; that is zero."""
        return max(float(self.kl().mean()), 0.0)

    def summary(self) -> dict[str, float]:
        """Give `kl_mean`, `kl_p99`, `top1` and `perplexity_ratio`."""
        worse = np.nanmean(np.concatenate(self._nll)) - np.nanmean(np.concatenate(self._source_nll))
        return {
            "kl_mean": self.kl_mean,
            "kl_p99": max(float(np.percentile(self.kl(), 99)), 0.0),
            "top1": float(np.concatenate(self._agree).mean()),
            "perplexity_ratio": math.exp(min(float(worse), math.log(NOT_FINITE))),
        }


def _nll(logprobs: Any, targets: Any) -> Any:
    known = targets >= 0
    picked = logprobs[np.arange(len(targets)), np.where(known, targets, 0)]
    return np.where(known, -picked, np.nan)
