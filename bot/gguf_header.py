"""The header of a GGUF file, as far as comparing two files needs it. The file is untrusted: nothing is believed
before it fits into the file.

    "GGUF", version, tensor count, key-value count
    the key-values: name, type, value
    the tensors: name, dimensions, type, offset into the data
    padding to a multiple of general.alignment, then the data

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from bot.errors import SourceCorrupt

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ITEMS = 4_000_000  # names, values and tensors in all; a vocabulary is the most of them
MAX_HEADER = 1 << 28  # bytes
MAX_RANK = 8
ALIGNMENT = "general.alignment"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# ggml_type of ggml.h; what is not in the table is shown as its number.
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16",
}  # fmt: skip


class GgufTensor(NamedTuple):
    """One tensor: its type's name, its dimensions, and its bytes in the file with the padding behind them."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class GgufHeader(NamedTuple):
    """What stands before the data. A value that is a list is its bytes: it is only compared."""

    values: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read(file: str, view: mmap.mmap) -> GgufHeader:
    """The header of a little-endian GGUF file.

    Raises:
        SourceCorrupt: it is not sound.
    """
    try:
        return _Reader(view).header()
    except (struct.error, ValueError, OverflowError) as error:
        raise SourceCorrupt(f"{file} is not a GGUF file that can be read: {error}.") from error


class _Reader:
    """Goes through a header once. Raises ValueError or struct.error where it ends early or claims too much."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view, self._at, self._items = view, 0, 0

    def header(self) -> GgufHeader:
        if self._view[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        (version,) = self._take("I")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}")
        tensors, keys = self._take("QQ")
        values = self._named(keys, self._value)
        placed = self._named(tensors, self._tensor)
        step = values.get(ALIGNMENT, 32)
        if not isinstance(step, int) or not 0 < step <= 1 << 20:
            raise ValueError(f"its {ALIGNMENT} is {step!r}")
        return GgufHeader(values, self._spans(placed, -(-self._at // step) * step))

    def _spans(self, placed: dict[str, tuple[str, tuple[int, ...], int]], start: int) -> dict[str, GgufTensor]:
        """Where each tensor's bytes are: up to where the next one begins."""
        begins = sorted({start + offset for _, _, offset in placed.values()})
        ends = dict(pairwise([*begins, len(self._view)]))
        if begins and begins[-1] > len(self._view):
            raise ValueError("a tensor begins after its end")
        return {
            name: GgufTensor(dtype, shape, start + offset, ends[start + offset])
            for name, (dtype, shape, offset) in placed.items()
        }

    def _named(self, count: int, read: Callable[[], Any]) -> dict[str, Any]:
        self._count(count)
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self._string()
            if name in found:
                raise ValueError("it names something twice")
            found[name] = read()
        return found

    def _tensor(self) -> tuple[str, tuple[int, ...], int]:
        (rank,) = self._take("I")
        if rank > MAX_RANK:
            raise ValueError(f"a tensor has {rank} dimensions")
        *shape, kind, offset = self._take(f"{rank}QIQ")
        return TYPES.get(kind, f"type {kind}"), tuple(shape), offset

    def _value(self) -> Any:
        (kind,) = self._take("I")
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._take(self._scalar(kind))[0]
        begin = self._at
        inner, count = self._take("IQ")
        if inner == _STRING:
            self._count(count)
            for _ in range(count):
                self._skip(*self._take("Q"))
        else:
            self._skip(count * struct.calcsize(f"<{self._scalar(inner)}"))
        return self._view[begin : self._at]

    @staticmethod
    def _scalar(kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"it has a value of type {kind}")
        return _SCALARS[kind]

    def _string(self) -> str:
        (length,) = self._take("Q")
        begin = self._at
        self._skip(length)
        return self._view[begin : self._at].decode("utf-8", "replace")

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._view, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _skip(self, length: int) -> None:
        if length > min(len(self._view), MAX_HEADER) - self._at:
            raise ValueError("it ends inside its header, or has too large a one")
        self._at += length

    def _count(self, more: int) -> None:
        self._items += more
        if self._items > MAX_ITEMS:
            raise ValueError(f"it lists more than {MAX_ITEMS} things")
