"""Reads safetensors without a backend: are the files whole, are the numbers finite, how large do they get, what are
they.

Format: 8 bytes little-endian header length, a JSON header `{name: {dtype, shape, data_offsets}}`, the data.
Layout and limits as in the safetensors README. Tensors are looked at one block at a time through a memory
map.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.base import ConverterError, ConvertRequest, Events
from converters.files import key_of, sha256_of, write_json

F16_MAX = 65504.0
_HEADER_LIMIT = 100_000_000
_BLOCK = 1 << 24
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


@dataclass(frozen=True)
class TensorRef:
    """Where one tensor lies."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Survey:
    """What a pass over all weights found."""

    parameters: int
    dtypes: tuple[str, ...]
    largest: float
    largest_tensor: str

    @property
    def fits_float16(self) -> bool:
        return self.largest <= F16_MAX


def corrupt(message: str) -> ConverterError:
    return ConverterError(message, "Report it to the source repo; a later commit may repair it.", "source_corrupt")


def tensors(folder: Path) -> list[TensorRef]:
    """List every tensor of a checkpoint and check that each file holds all its bytes.

    Raises:
        ConverterError: `source_corrupt`, naming the file.
    """
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(named - {file.name for file in files})
        if missing:
            raise corrupt(f"The index names {missing[0]}, which is not there.")
        files = [file for file in files if file.name in named]
    if not files:
        raise corrupt("The source has no safetensors files.")
    return [tensor for file in files for tensor in _read_header(file)]


def matrices(folder: Path) -> list[TensorRef]:
    """The weight matrices of a checkpoint, and stacks of them. Raises as `tensors`."""
    return [tensor for tensor in tensors(folder) if len(tensor.shape) > 1 and tensor.dtype in _FLOATS]


def stored(tensor: TensorRef, which: slice) -> Any:
    """Some rows of a matrix as they lie in the file; bfloat16 as its bits."""
    return _values(tensor).reshape(tensor.shape)[which]


def rows(tensor: TensorRef, which: slice) -> Any:
    """Some rows of a matrix, at float32."""
    found = stored(tensor, which)
    if tensor.dtype == "BF16":
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found.astype(np.float32)


def survey(folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Survey:
    """Look at every weight once.

    Raises:
        ConverterError: `source_corrupt`, naming the tensor that holds NaN or infinity.
    """
    found = tensors(folder)
    total = sum(t.stop - t.start for t in found)
    done, largest, where = 0, 0.0, ""
    for tensor in found:
        if tensor.dtype in _FLOATS:
            peak = _largest(tensor)
            if not math.isfinite(peak):
                raise corrupt(f"The weights of {tensor.name} hold NaN or infinity.")
            if peak > largest:
                largest, where = peak, tensor.name
        done += tensor.stop - tensor.start
        progress(done, total)
    dtypes = tuple(sorted({t.dtype for t in found}))
    return Survey(sum(t.parameters for t in found), dtypes, largest, where)


def source_key(source: Path) -> str:
    """Identify a snapshot by its small files' bytes and its weights' headers and sizes."""
    parts: list[Any] = []
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".jinja", ".model", ".txt"):
            parts.append((file.name, sha256_of(file)))
        elif file.suffix == ".safetensors":
            with file.open("rb") as stream:
                start = stream.read(1 << 16)
            parts.append((file.name, file.stat().st_size, file.stat().st_mtime_ns, start.hex()))
    return key_of(*parts)


def kept_survey(request: ConvertRequest, events: Events) -> Survey:
    """The survey of a request's source, made once for all recipes that share a folder. Raises as `survey`."""
    kept = request.shared / f"survey-{source_key(request.source)}.json"
    if kept.is_file():
        raw = json.loads(kept.read_text(encoding="utf-8"))
        return Survey(raw["parameters"], tuple(raw["dtypes"]), raw["largest"], raw["largest_tensor"])
    found = survey(request.source, lambda done, total: events.progress("check weights", done, total, "bytes"))
    write_json(kept, asdict(found))
    return found


def _read_header(file: Path) -> Iterator[TensorRef]:
    size = file.stat().st_size
    broken = corrupt(f"{file.name} is cut short or its header is damaged.")
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise broken
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            entries = [(k, v["dtype"], tuple(v["shape"]), *v["data_offsets"]) for k, v in header.items()]
        except (ValueError, KeyError, TypeError) as error:
            raise broken from error
    base = 8 + length
    if base + max((stop for *_, stop in entries), default=0) != size:
        raise broken
    for name, dtype, shape, start, stop in entries:
        if dtype in _BYTES and stop - start != math.prod(shape) * _BYTES[dtype]:
            raise broken
        yield TensorRef(name, file, dtype, shape, base + start, base + stop)


def _values(tensor: TensorRef) -> Any:
    kind = {**_FLOATS, "U32": "<u4"}[tensor.dtype]
    return np.memmap(tensor.file, dtype=np.uint8, mode="r")[tensor.start : tensor.stop].view(kind)


def _largest(tensor: TensorRef) -> float:
    """The largest magnitude; infinity when a value is not finite."""
    data = _values(tensor)
    peak = 0.0
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        if tensor.dtype == "BF16":
            # Without the sign bit, bfloat16 orders like an integer: the largest code is the largest
            # magnitude.
            code = np.array([(block & 0x7FFF).max()], dtype=np.uint32) << 16
            value = float(code.view(np.float32)[0])
        else:
            value = float(np.abs(block).max())
        if not math.isfinite(value):
            return math.inf
        peak = max(peak, value)
    return peak
