"""The importance matrix: the mean square of each input column of each weight, over the calibration text.

Collected in-process by watching llama.cpp's graph, as its `llama-imatrix` tool does, and written in that
tool's GGUF form (`<tensor>.in_sum2`, `<tensor>.counts`, `imatrix.*` keys), which `llama-quantize --imatrix`
reads. As the tool does by default, it leaves the output matrix out; unlike the tool, it does not drop the
last, shorter chunk.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from llama_cpp import _ggml

from converters.base import ConverterError, Events
from converters.files import complete_file
from converters.gguf import container
from converters.gguf.runtime import Runtime

CHUNK = 512
_OBJECT_OVERHEAD = 32
_F32 = 0


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor` (ggml.h), mirrored because `src` has no accessor; its size is checked."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class Collector:
    """Sums squares of the inputs of every matrix multiplication with a weight."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}
        self.error: Exception | None = None
        lib = _ggml.libggml
        lib.ggml_op_name.restype = ctypes.c_char_p
        lib.ggml_tensor_overhead.restype = ctypes.c_size_t
        if lib.ggml_tensor_overhead() != _OBJECT_OVERHEAD + ctypes.sizeof(_Tensor):
            raise ConverterError("This llama.cpp lays tensors out differently.", "Pin the tested llama-cpp-python.")
        self._op_name = lib.ggml_op_name

    def on_node(self, pointer: int, ask: bool, _data: Any) -> bool:
        """Say which nodes to look at (`ask`), and look at them; False stops the run."""
        node = _Tensor.from_address(pointer)
        op = self._op_name(node.op)
        if op not in (b"MUL_MAT", b"MUL_MAT_ID"):
            return not ask
        weight = _Tensor.from_address(node.src[0])
        name = weight.name.decode().partition("#")[-1].partition("#")[0] or weight.name.decode()
        wanted = name.endswith(".weight") and name.startswith("blk.")
        if ask or not wanted:
            return wanted or not ask
        try:
            self._add(name, node, weight, expert=op == b"MUL_MAT_ID")
        except Exception as error:
            # An exception cannot cross C; keep it and stop.
            self.error = error
            return False
        return True

    def _add(self, name: str, node: _Tensor, weight: _Tensor, *, expert: bool) -> None:
        inputs = _array(_Tensor.from_address(node.src[1]), np.float32)
        if name not in self.sums:
            experts = int(weight.ne[2]) if expert else 1
            self.sums[name] = np.zeros((experts, int(weight.ne[0])))
            self.counts[name] = np.zeros((experts, 1))
        if not expert:
            rows = inputs.reshape(-1, inputs.shape[-1])
            self.sums[name][0] += np.square(rows, dtype=np.float64).sum(axis=0)
            self.counts[name][0] += len(rows)
            return
        chosen = _array(_Tensor.from_address(node.src[2]), np.int32)[0, 0]
        used = np.broadcast_to(inputs[0], (*chosen.shape, inputs.shape[-1]))
        for index in np.unique(chosen):
            rows = used[chosen == index]
            self.sums[name][index] += np.square(rows, dtype=np.float64).sum(axis=0)
            self.counts[name][index] += len(rows)


def collect(base: Path, calibration: Path, target: Path, threads: int, events: Events) -> None:
    """Run all of the calibration text through `base` and write the matrix to `target`."""
    collector = Collector()
    text = calibration.read_text(encoding="utf-8")
    values = container.read_header(base).values
    original = values.get(f"{values['general.architecture']}.rope.scaling.original_context_length", CHUNK)
    length = min(CHUNK, int(original))
    with Runtime(base, length, threads, collector.on_node) as runtime:
        ids = runtime.tokenize(text)
        chunks = [ids[at : at + length] for at in range(0, len(ids), length)]
        for at, chunk in enumerate(chunks):
            try:
                runtime.logits(chunk)
            finally:
                if collector.error is not None:
                    raise collector.error
            events.progress("importance matrix", at + 1, len(chunks), "chunks")
    with complete_file(target) as partial:
        _write(partial, collector, calibration.name, len(chunks), length)


def load(path: Path) -> dict[str, Any]:
    """Read the matrix as `llama-quantize` does: sums over counts, and 1 for experts that no token reached."""
    tensors = {t.name: np.array(t.data, dtype=np.float64) for t in gguf.GGUFReader(path).tensors}
    found = {}
    for name, sums in tensors.items():
        if name.endswith(".in_sum2"):
            stem = name.removesuffix(".in_sum2")
            counts = tensors[f"{stem}.counts"].reshape(-1, 1)
            mean = sums.reshape(len(counts), -1) / np.maximum(counts, 1)
            found[stem] = np.where(counts > 0, mean, 1.0).astype(np.float32).ravel()
    return found


def _write(path: Path, collector: Collector, dataset: str, chunks: int, length: int) -> None:
    keys = [
        container.pack_string("general.type", "imatrix"),
        container.pack_strings("imatrix.datasets", [dataset]),
        container.pack_u32("imatrix.chunk_count", chunks),
        container.pack_u32("imatrix.chunk_size", length),
    ]
    tensors = []
    for name in sorted(collector.sums):
        tensors.append((f"{name}.in_sum2", collector.sums[name]))
        tensors.append((f"{name}.counts", collector.counts[name]))
    container.write(path, keys, tensors)


def _array(tensor: _Tensor, kind: Any) -> Any:
    """View a CPU tensor as a four-dimensional array, slowest dimension first."""
    if kind is np.float32 and tensor.type != _F32:
        raise ConverterError(f"llama.cpp's inputs have type {tensor.type}, not float32.")
    shape, strides = tuple(reversed(tensor.ne)), tuple(reversed(tensor.nb))
    size = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + np.dtype(kind).itemsize
    memory = (ctypes.c_char * size).from_address(tensor.data)
    return np.ndarray(shape, kind, memory, strides=strides)
