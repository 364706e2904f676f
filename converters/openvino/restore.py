"""What an IR holds of its source's matrices, dequantized by numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from converters.outliers import Find, Restored
from converters.weights import TensorRef

_FLOATS = ("f16", "f32")
_CODES = ("u8", "i8", "u4", "i4")


def restored(xml: Path) -> Find:
    """Open an IR. The exporter names a constant after its module, NNCF scales and zero points after the constant."""
    model = openvino.Core().read_model(xml)
    held = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Constant"}

    def find(tensor: TensorRef) -> list[Restored]:
        name = f"self.{tensor.name.removesuffix('.weight')}._openvino_orig_weight"
        codes, scale, zero = (held.get(name + end) for end in ("", "/scale", "/zero_point"))
        if codes is None or _rows(codes) != tensor.shape[0]:
            return []
        kind = codes.get_element_type().to_string()
        if kind in _FLOATS and scale is None:
            return [Restored(kind, 0, tensor.shape[0], lambda which: codes.data[which].astype(np.float32))]
        if kind not in _CODES or scale is None:
            return []
        return [Restored(_named(kind, codes), 0, tensor.shape[0], _reader(codes, scale, zero))]

    return find


def _reader(codes: Any, scale: Any, zero: Any) -> Callable[[slice], Any]:
    def read(which: slice) -> Any:
        values = _numbers(codes, which)
        if zero is not None:
            values = values - _numbers(zero, which)
        return (values * scale.data[which].astype(np.float32)).reshape(len(values), -1)

    return read


def _numbers(constant: Any, which: slice) -> Any:
    """Some rows of a constant at float32. Of two codes in a byte, the lower half comes first."""
    kind, shape = constant.get_element_type().to_string(), tuple(constant.shape)
    if kind not in ("u4", "i4"):
        return constant.data[which].astype(np.float32)
    packed = constant.data.reshape(-1).view(np.uint8)
    length = int(np.prod(shape[1:]))
    first, last = which.start * length, which.stop * length
    part = packed[first // 2 : -(-last // 2)]
    codes = np.stack([part & 15, part >> 4], axis=-1).reshape(-1)[first % 2 :][: last - first]
    signed = (codes.astype(np.int8) ^ 8) - 8 if kind == "i4" else codes
    return signed.astype(np.float32).reshape(-1, *shape[1:])


def _rows(constant: Any) -> int:
    return int(constant.shape[0]) if len(constant.shape) > 1 else 0


def _named(kind: str, codes: Any) -> str:
    return f"{kind}, groups of {codes.shape[2]}" if len(codes.shape) == 3 else kind
