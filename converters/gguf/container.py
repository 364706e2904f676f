"""The GGUF container, as far as splitting a file and writing an importance matrix need it.

Layout (ggml's docs/gguf.md): magic, version, tensor count, key-value count, the key-values, one record per
tensor (name, dimensions, type, offset), padding, the data. Splits follow llama.cpp's `gguf-split`: the
first file holds all key-values, every file holds `split.no`, `split.count` and `split.tensors.count`.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from converters.base import ConverterError
from converters.files import complete_file

ALIGNMENT = 32
_MAGIC = b"GGUF"
_VERSION = 3
_UINT16, _UINT32, _INT32, _STRING, _ARRAY = 2, 4, 5, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class TensorRecord:
    """One tensor of a file; `size` includes the padding behind its data."""

    name: str
    dims: tuple[int, ...]
    type: int
    offset: int
    size: int


@dataclass(frozen=True)
class Header:
    """What stands before the data. `values` holds scalars and strings; arrays are left out."""

    values: dict[str, Any]
    key_value_count: int
    key_values: bytes
    tensors: tuple[TensorRecord, ...]
    data_start: int


def read_header(path: Path) -> Header:
    """Parse the header of a little-endian GGUF file."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        if view[:4] != _MAGIC or struct.unpack_from("<I", view, 4)[0] != _VERSION:
            raise ConverterError(f"{path.name} is not a GGUF version 3 file.")
        tensor_count, key_value_count = struct.unpack_from("<QQ", view, 8)
        at, values = 24, {}
        for _ in range(key_value_count):
            key, at = _string(view, at)
            (kind,) = struct.unpack_from("<I", view, at)
            value, at = _value(view, at + 4, kind)
            if value is not None:
                values[key] = value
        key_values = view[24:at]
        raw = []
        for _ in range(tensor_count):
            name, at = _string(view, at)
            (rank,) = struct.unpack_from("<I", view, at)
            *dims, kind, offset = struct.unpack_from(f"<{rank}QIQ", view, at + 4)
            at += 4 + 8 * rank + 12
            raw.append((name, tuple(dims), kind, offset))
        start = _padded(at)
        ends = [offset for *_, offset in raw[1:]] + [len(view) - start]
        tensors = tuple(TensorRecord(*r, size=end - r[3]) for r, end in zip(raw, ends, strict=True))
        return Header(values, key_value_count, key_values, tensors, start)


def split(path: Path, limit: int) -> list[Path]:
    """Cut a file into `name-00001-of-0000N.gguf` with at most `limit` bytes of tensors each; one that fits
    stays.

    The original goes away once all parts are complete.
    """
    if limit <= 0 or path.stat().st_size <= limit:
        return [path]
    header = read_header(path)
    groups: list[list[TensorRecord]] = [[]]
    for tensor in header.tensors:
        if groups[-1] and sum(t.size for t in groups[-1]) + tensor.size > limit:
            groups.append([])
        groups[-1].append(tensor)
    if len(groups) == 1:
        return [path]
    parts = []
    with path.open("rb") as source:
        for number, group in enumerate(groups):
            part = path.with_name(f"{path.stem}-{number + 1:05d}-of-{len(groups):05d}.gguf")
            marks = [
                pack("split.no", _UINT16, number),
                pack("split.count", _UINT16, len(groups)),
                pack("split.tensors.count", _INT32, len(header.tensors)),
            ]
            count = len(marks) + (header.key_value_count if number == 0 else 0)
            keys = (header.key_values if number == 0 else b"") + b"".join(marks)
            with complete_file(part) as partial, partial.open("wb") as out:
                _write_start(out, count, keys, [(t.name, t.dims, t.type, t.size) for t in group])
                for tensor in group:
                    _copy(source, out, header.data_start + tensor.offset, tensor.size)
            parts.append(part)
    path.unlink()
    return parts


def write(path: Path, key_values: Sequence[bytes], tensors: Iterable[tuple[str, Any]]) -> None:
    """Write float32 arrays with key-values made by `pack`. The last array dimension is GGUF's first."""
    arrays = [(name, array.astype("<f4")) for name, array in tensors]
    infos = [(name, tuple(reversed(a.shape)), 0, _padded(a.nbytes)) for name, a in arrays]
    with path.open("wb") as out:
        _write_start(out, len(key_values), b"".join(key_values), infos)
        for _, array in arrays:
            out.write(array.tobytes())
            out.write(bytes(_padded(array.nbytes) - array.nbytes))


def pack(key: str, kind: int, value: Any) -> bytes:
    """Encode one key-value of a scalar type."""
    return _text(key) + struct.pack("<I" + _SCALARS[kind], kind, value)


def pack_u32(key: str, value: int) -> bytes:
    return pack(key, _UINT32, value)


def pack_string(key: str, value: str) -> bytes:
    return _text(key) + struct.pack("<I", _STRING) + _text(value)


def pack_strings(key: str, values: Sequence[str]) -> bytes:
    return _text(key) + struct.pack("<IIQ", _ARRAY, _STRING, len(values)) + b"".join(map(_text, values))


def _write_start(
    out: BinaryIO, key_value_count: int, keys: bytes, tensors: Sequence[tuple[str, tuple[int, ...], int, int]]
) -> None:
    out.write(_MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), key_value_count) + keys)
    offset = 0
    for name, dims, kind, size in tensors:
        out.write(_text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
        offset += _padded(size)
    out.write(bytes(_padded(out.tell()) - out.tell()))


def _copy(source: BinaryIO, out: BinaryIO, start: int, size: int) -> None:
    source.seek(start)
    left = size
    while left:
        block = source.read(min(left, 1 << 22))
        if not block:
            break
        out.write(block)
        left -= len(block)
    out.write(bytes(_padded(size) - size + left))


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _padded(size: int) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT


def _string(view: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", view, at)
    return view[at + 8 : at + 8 + length].decode("utf-8", "replace"), at + 8 + length


def _value(view: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _string(view, at)
    if kind != _ARRAY:
        form = "<" + _SCALARS[kind]
        return struct.unpack_from(form, view, at)[0], at + struct.calcsize(form)
    inner, count = struct.unpack_from("<IQ", view, at)
    at += 12
    if inner in _SCALARS:
        return None, at + count * struct.calcsize("<" + _SCALARS[inner])
    for _ in range(count):
        _, at = _value(view, at, inner)
    return None, at
