"""How two files that should be equal differ: by tensor and metadata in GGUF and safetensors, by byte in all others.

Values are read as numbers where a tensor holds plain floats. Of quantized ones only bytes are counted: what a block
stands for is its runtime's business.
"""

from __future__ import annotations

import math
import mmap
import operator
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from bot import gguf_header, safetensors_header
from bot.errors import SourceCorrupt
from bot.templates import filters

BLOCK = 1 << 20
MOST_BLOCKS = 32  # of a tensor's blocks that differ, how many are looked into
LONGEST = 64  # characters of a name or a value that are shown
MOST = 20  # differences of one file that are listed
_FORMS = {"F64": "d", "F32": "f", "F16": "e"}


class _Tensor(NamedTuple):
    kind: str
    begin: int
    end: int
    dtype: str


class _Layout(NamedTuple):
    values: Mapping[str, Any]
    tensors: Mapping[str, _Tensor]


def explained(rebuilt: Path, published: Path) -> Iterator[str]:
    """The first differences of two files, one sentence each; one at least where they differ."""
    if not rebuilt.stat().st_size or not published.stat().st_size:
        yield "one of them is empty"
        return
    with ExitStack() as stack:
        ours, theirs = (_opened(path, stack) for path in (rebuilt, published))
        layouts = _layout(rebuilt.name, ours), _layout(published.name, theirs)
        if layouts[0] is None or layouts[1] is None:
            yield from _by_byte(ours, theirs)
            return
        found = [*_of_values(layouts[0].values, layouts[1].values)]
        found += _of_tensors(ours, theirs, layouts[0].tensors, layouts[1].tensors)
        yield from (say() for say in found[:MOST])
        if len(found) > MOST:
            yield f"{len(found) - MOST} more differences"
        if not found and any(_by_byte(ours, theirs)):
            yield "the same metadata and tensors, laid out otherwise"


def _opened(path: Path, stack: ExitStack) -> mmap.mmap:
    file = stack.enter_context(path.open("rb"))
    return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _layout(name: str, view: mmap.mmap) -> _Layout | None:
    """What is where in a file; None where it is of no known form."""
    try:
        if view[:4] == gguf_header.MAGIC:
            gguf = gguf_header.read(name, view)
            placed = {n: _Tensor(_kind(t.dtype, t.shape), t.begin, t.end, t.dtype) for n, t in gguf.tensors.items()}
            return _Layout(gguf.values, placed)
        head = safetensors_header.read(name, len(view), lambda start, end: view[start:end])
    except SourceCorrupt:
        return None
    start = 8 + int.from_bytes(view[:8], "little")
    placed = {
        n: _Tensor(_kind(t.dtype, t.shape), start + t.begin, start + t.end, t.dtype) for n, t in head.tensors.items()
    }
    return _Layout(head.metadata, placed)


def _kind(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} {list(shape)}"


def _cut(text: str) -> str:
    return filters.shorten(text, LONGEST)


def _by_byte(ours: mmap.mmap, theirs: mmap.mmap) -> Iterator[str]:
    if len(ours) != len(theirs):
        yield f"{len(ours)} bytes rebuilt, {len(theirs)} published"
    size = min(len(ours), len(theirs))
    for begin in range(0, size, BLOCK):
        a, b = ours[begin : min(begin + BLOCK, size)], theirs[begin : min(begin + BLOCK, size)]
        if a != b:
            first = next(at for at, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
            yield f"byte {begin + first} is the first that differs"
            return


def _of_values(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Callable[[], str]]:
    for key in sorted({*ours, *theirs}):
        a, b = ours.get(key, "nothing"), theirs.get(key, "nothing")
        if type(a) is not type(b) or a != b:
            a, b = ("a list" if isinstance(side, bytes) else _cut(repr(side)) for side in (a, b))
            yield f"metadata {_cut(key)}: {a} rebuilt, {b} published".__str__


def _of_tensors(
    ours: mmap.mmap, theirs: mmap.mmap, here: Mapping[str, _Tensor], there: Mapping[str, _Tensor]
) -> Iterator[Callable[[], str]]:
    """What says how each tensor that differs does: it takes a while, and only the first are asked."""
    for name in sorted({*here, *there}):
        a, b = here.get(name), there.get(name)
        short = _cut(name)
        if a is None or b is None:
            yield f"tensor {short} is only in the {'published' if a is None else 'rebuilt'} file".__str__
        elif a.kind != b.kind:
            yield f"tensor {short}: {a.kind} rebuilt, {b.kind} published".__str__
        elif next(_unequal(ours, theirs, a, b), None) is not None:

            def say(short: str = short, a: _Tensor = a, b: _Tensor = b) -> str:
                return f"tensor {short} ({a.kind}): {_apart(ours, theirs, a, b)}"

            yield say


def _unequal(ours: mmap.mmap, theirs: mmap.mmap, a: _Tensor, b: _Tensor) -> Iterator[tuple[bytes, bytes]]:
    """The blocks of two tensors that differ. What is longer only by its padding is as long as the other."""
    size = min(a.end - a.begin, b.end - b.begin)
    for at in range(0, size, BLOCK):
        end = min(at + BLOCK, size)
        x, y = ours[a.begin + at : a.begin + end], theirs[b.begin + at : b.begin + end]
        if x != y:
            yield x, y


def _apart(ours: mmap.mmap, theirs: mmap.mmap, a: _Tensor, b: _Tensor) -> str:
    """By how much two tensors differ."""
    count, most, blocks = 0, 0.0, 0
    plain = a.dtype == "BF16" or a.dtype in _FORMS
    for x, y in _unequal(ours, theirs, a, b):
        if blocks == MOST_BLOCKS:
            break
        blocks += 1
        if plain:
            apart = [*_distances(_floats(x, a.dtype), _floats(y, a.dtype))]
            count, most = count + len(apart), max(most, *apart, 0.0)
        else:
            count += sum(map(operator.ne, x, y))
    least = "at least " if blocks == MOST_BLOCKS else ""
    if plain:
        return f"{least}{count} values differ, by {most:.3g} at most" if count else "the same values in other bits"
    return f"{least}{count} of {a.end - a.begin} bytes differ"


def _distances(ours: Sequence[float], theirs: Sequence[float]) -> Iterator[float]:
    """How far values are apart that are not the same; infinitely where one of them is no number."""
    for a, b in zip(ours, theirs, strict=True):
        if a != b and not (math.isnan(a) and math.isnan(b)):
            yield math.inf if math.isnan(a - b) else abs(a - b)


def _floats(data: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == "BF16":  # the upper half of a float
        wide = bytearray(2 * len(data) // 4 * 4)
        wide[2::4], wide[3::4] = data[0 : len(data) // 2 * 2 : 2], data[1::2]
        data, dtype = bytes(wide), "F32"
    width = struct.calcsize(f"<{_FORMS[dtype]}")
    return struct.unpack(f"<{len(data) // width}{_FORMS[dtype]}", data[: len(data) // width * width])
