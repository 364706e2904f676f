"""What a GGUF holds of its source's matrices, dequantized by gguf-py."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from converters.gguf.container import Header, TensorRecord, read_header
from converters.outliers import Find, Restored
from converters.weights import TensorRef

_ARCHITECTURES = {name: architecture for architecture, name in gguf.MODEL_ARCH_NAMES.items()}


def restored(artifact: Path) -> Find:
    """Open a file, with all its parts. Names are matched by the table that llama.cpp's own converter uses."""
    headers = {file: read_header(file) for file in _parts(artifact)}
    first = headers[artifact].values
    name = first["general.architecture"]
    names = gguf.get_tensor_name_map(_ARCHITECTURES[name], first[f"{name}.block_count"])
    held = dict(entry for file, header in headers.items() for entry in _tensors(file, header))

    def find(tensor: TensorRef) -> list[Restored]:
        found = held.get(names.get_name(tensor.name, try_suffixes=(".weight",)) or "")
        # A converter may also reorder rows of a matrix, or join matrices. Those of Phi-2 and Phi-3 do not.
        if found is None or found[2].dims != tuple(reversed(tensor.shape)):
            return []
        return [_restored(*found)]

    return find


def _parts(artifact: Path) -> list[Path]:
    count = read_header(artifact).values.get("split.count", 1)
    if count == 1:
        return [artifact]
    stem = artifact.name.removesuffix(f"-00001-of-{count:05d}.gguf")
    return [artifact.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


def _tensors(file: Path, header: Header) -> Iterator[tuple[str, tuple[Path, int, TensorRecord]]]:
    for record in header.tensors:
        yield record.name, (file, header.data_start + record.offset, record)


def _restored(file: Path, start: int, record: TensorRecord) -> Restored:
    kind = gguf.GGMLQuantizationType(record.type)
    columns, rows = record.dims
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    length = columns // per_block * block_bytes
    data = np.memmap(file, np.uint8, "r", start, (rows, length))
    return Restored(kind.name, 0, rows, partial(_rows, data, kind))


def _rows(data: Any, kind: Any, which: slice) -> Any:
    return gguf.quants.dequantize(data[which], kind)
