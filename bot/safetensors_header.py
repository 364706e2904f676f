"""The header of a safetensors file, parsed and checked before anybody maps the file.

    8 bytes   n, little endian
    n bytes   JSON: {"__metadata__": {str: str}, name: {"dtype", "shape", "data_offsets": [begin, end]}, ...}
    the rest  the tensors' bytes, without overlap and without holes

The format is https://github.com/huggingface/safetensors#format; its own reader refuses the same things, but
converters read headers with code of their own, and some of that code trusts what it reads. Everything here
works on the header alone, so that a file of 28 GB costs some kilobytes to judge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import Field

from bot.errors import SourceCorrupt
from bot.models import Frozen

MAX_HEADER = 100_000_000  # bytes, as in the reference implementation
MAX_TENSORS = 200_000
MAX_RANK = 8
MAX_NAME = 512
MAX_FILE = 2**50
FIRST_READ = 32 * 1024

# Bits, because the small floats do not fill bytes. What is in the table is sound; what is quantized is refused later.
DTYPE_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E8M0": 8,
    "C64": 64,
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
}

ReadRange = Callable[[int, int], bytes]


class Tensor(Frozen):
    """One tensor: its element type, its shape, and its bytes in the data part of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Header(Frozen):
    """A header that is consistent in itself and with the size of its file."""

    file: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(t.elements for t in self.tensors.values())


def read(file: str, size: int, read_range: ReadRange) -> Header:
    """Read and check the header of a `size`-byte file through `read_range(start, end)`, mostly in one call.

    Raises:
        SourceCorrupt: names the file and, where one is to blame, the tensor.
    """
    if size > MAX_FILE:
        raise _bad(file, f"it claims {size} bytes")
    head = read_range(0, min(FIRST_READ, size))
    length = _length(file, size, head)
    while len(head) < 8 + length:
        more = read_range(len(head), 8 + length)
        if not more:
            raise _bad(file, "it ends inside its header")
        head += more
    return parse(file, size, head[8 : 8 + length])


def parse(file: str, size: int, raw: bytes) -> Header:
    """Check the JSON part `raw` of a `size`-byte file. Raises as `read`."""
    table = _json(file, raw)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(file, "its __metadata__ is not a table of text")
    if not table:
        raise _bad(file, "it holds no tensor")
    if len(table) > MAX_TENSORS:
        raise _bad(file, f"it holds more than {MAX_TENSORS} tensors")
    tensors = {name: _tensor(file, name, entry) for name, entry in table.items()}
    _check_layout(file, tensors, size - 8 - len(raw))
    return Header(file=file, tensors=tensors, metadata=metadata)


def merge(headers: Iterable[Header]) -> dict[str, Tensor]:
    """All tensors of all shards by name.

    Raises:
        SourceCorrupt: two shards hold the same tensor.
    """
    found: dict[str, Tensor] = {}
    homes: dict[str, str] = {}
    for header in headers:
        for name, tensor in header.tensors.items():
            if name in found:
                raise _bad(header.file, f"tensor {name!r} is also in {homes[name]}")
            found[name], homes[name] = tensor, header.file
    return found


def check_index(file: str, text: str, headers: Mapping[str, Header]) -> None:
    """Check that a `model.safetensors.index.json` and the shards' headers say the same.

    Raises:
        SourceCorrupt: a shard is missing or unlisted, or a tensor is not where the index says.
    """
    weight_map = _json(file, text.encode()).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _bad(file, "it has no weight_map")
    for name, home in weight_map.items():
        if not isinstance(home, str) or home not in headers:
            raise _bad(file, f"tensor {name!r} is said to be in {home!r}, which the repo does not hold")
        if name not in headers[home].tensors:
            raise _bad(file, f"tensor {name!r} is not in {home}")
    for header in headers.values():
        for name in header.tensors:
            if weight_map.get(name) != header.file:
                raise _bad(header.file, f"tensor {name!r} is not in {file}")


def _length(file: str, size: int, head: bytes) -> int:
    if len(head) < 8:
        raise _bad(file, "it is too short to have a header")
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER:
        raise _bad(file, f"its header claims {length} bytes")
    if 8 + length > size:
        raise _bad(file, f"its header claims {length} bytes of a {size}-byte file")
    return length


def _json(file: str, raw: bytes) -> dict[str, Any]:
    """A JSON object whose keys are all different. Python would silently keep the last of two equal ones."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise _bad(file, "it names something twice")
        return table

    def no_constant(name: str) -> None:
        raise _bad(file, f"it holds {name}")

    try:
        value = json.loads(raw, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(file, "its header is not JSON") from error
    if not isinstance(value, dict):
        raise _bad(file, "its header is not a JSON object")
    return value


def _tensor(file: str, name: str, entry: object) -> Tensor:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise _bad(file, f"tensor name {name[:80]!r} is refused")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _bad(file, f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _bad(file, f"tensor {name!r} has the unknown dtype {str(dtype)[:40]!r}")
    if not _counts(shape) or len(shape) > MAX_RANK:
        raise _bad(file, f"tensor {name!r} has a bad shape")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(file, f"tensor {name!r} has bad offsets")
    tensor = Tensor(dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])
    if tensor.elements * DTYPE_BITS[dtype] != (tensor.end - tensor.begin) * 8:
        raise _bad(file, f"tensor {name!r} of shape {list(shape)} {dtype} cannot span {offsets}")
    return tensor


def _counts(values: object) -> bool:
    """Whether this is a list of sizes. The cap keeps a product of eight of them an ordinary number."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= MAX_FILE for v in values)


def _check_layout(file: str, tensors: Mapping[str, Tensor], data: int) -> None:
    """Make sure that the tensors cover the `data` bytes after the header exactly once."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin < position:
            raise _bad(file, f"tensor {name!r} overlaps the one before it")
        if tensor.begin > position:
            raise _bad(file, f"there is a hole before tensor {name!r}")
        position = tensor.end
    if position != data:
        raise _bad(file, f"its tensors end at byte {position} of {data}")


def _bad(file: str, why: str) -> SourceCorrupt:
    return SourceCorrupt(f"{file} is not sound: {why}.", "Its authors must repair it.")
