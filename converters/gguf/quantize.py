"""llama.cpp's quantizer, with importance matrix, tensor types and key-values passed through its C API."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as api

from converters.base import ConverterError, Events
from converters.gguf import imatrix as importance
from converters.gguf.container import read_header
from converters.gguf.runtime import Log

_STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
_LONGEST = 127


def quantize(
    base: Path,
    target: Path,
    options: dict[str, Any],
    imatrix: Path | None,
    dataset: str,
    threads: int,
    events: Events,
) -> None:
    """Write `target` from the unquantized `base`.

    `options`: `type`, and optionally `output_type`, `embedding_type`, `tensor_types` {pattern: type}. Where
    the embedding is the output matrix as well, llama.cpp already keeps it finer, and `embedding_type` is
    left to it.
    """
    if not any(tensor.name == "output.weight" for tensor in read_header(base).tensors):
        options = {key: value for key, value in options.items() if key != "embedding_type"}
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = _file_type(options["type"])
    params.nthread = threads
    for option, name in (("output_type", "output_tensor_type"), ("embedding_type", "token_embedding_type")):
        if option in options:
            setattr(params, name, _tensor_type(options[option]))
    # The C side keeps pointers into these; they must live until it returns.
    alive: list[Any] = [_tensor_types(options.get("tensor_types", {}))]
    params.tt_overrides = alive[0]
    if imatrix is not None:
        values = importance.load(imatrix)
        alive += [values, _matrix(values), _origin(imatrix, dataset)]
        params.imatrix, params.kv_overrides = alive[2], alive[3]
    log = Log(lambda level, line: _report(level, line, events))
    if llama_cpp.llama_model_quantize(str(base).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        raise ConverterError(
            f"llama.cpp could not quantize to {options['type']}: {log.last_error or 'no reason given'}"
        )


def _report(level: int, line: str, events: Events) -> None:
    if found := _STEP.search(line):
        events.progress("quantize", int(found[1]), int(found[2]), "tensors")
    if level == 3 and line:
        events.log("warning", line)


def _file_type(name: str) -> int:
    value = getattr(api, f"LLAMA_FTYPE_MOSTLY_{name}", None)
    if value is None:
        raise ConverterError(f"llama.cpp has no quantization {name!r}.")
    return int(value)


def _tensor_type(name: str) -> int:
    value = getattr(api, f"GGML_TYPE_{name}", None)
    if value is None:
        raise ConverterError(f"llama.cpp has no tensor type {name!r}.")
    return int(value)


def _tensor_types(types: dict[str, str]) -> Any:
    """A NULL-terminated array; patterns are searched in tensor names, the first match wins."""
    array = (api.llama_model_tensor_override * (len(types) + 1))()
    for slot, (pattern, name) in zip(array, types.items(), strict=False):
        slot.pattern, slot.type = pattern.encode(), _tensor_type(name)
    return array


def _matrix(values: dict[str, Any]) -> Any:
    array = (api.llama_model_imatrix_data * (len(values) + 1))()
    for slot, (name, data) in zip(array, sorted(values.items()), strict=False):
        slot.name, slot.size = name.encode(), data.size
        slot.data = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return array


def _origin(imatrix: Path, dataset: str) -> Any:
    """The `quantize.imatrix.*` keys, which the llama-quantize tool writes and the library does not."""
    header = read_header(imatrix)
    entries = {
        "quantize.imatrix.file": "imatrix.gguf",
        "quantize.imatrix.dataset": dataset[:_LONGEST],
        "quantize.imatrix.entries_count": len(header.tensors) // 2,
        "quantize.imatrix.chunks_count": header.values["imatrix.chunk_count"],
    }
    array = (api.llama_model_kv_override * (len(entries) + 1))()
    for slot, (key, value) in zip(array, entries.items(), strict=False):
        slot.key = key.encode()
        if isinstance(value, str):
            slot.tag, slot.value.val_str = api.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()
        else:
            slot.tag, slot.value.val_i64 = api.LLAMA_KV_OVERRIDE_TYPE_INT, int(value)
    return array
