from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from converters.base import ConverterError
from converters.openvino import ir

MATRIX = np.linspace(-3, 3, 4096, dtype=np.float32).reshape(64, 64)
SMALL = np.array([1e-5, 0.1, 1 / 3], dtype=np.float32)
INDEX = np.array([0, 7], dtype=np.int64)


def bits(array: np.ndarray) -> np.ndarray:
    """float32 cut to the bits of a bfloat16."""
    return (array.view("<u4") >> 16).astype("<u2")


def wide(code: np.ndarray) -> np.ndarray:
    return (code.astype("<u4") << 16).view("<f4")


def const(number: int, kind: str, array: np.ndarray, offset: int) -> str:
    shape = ", ".join(map(str, array.shape))
    dims = "".join(f"<dim>{size}</dim>" for size in array.shape)
    return (
        f'<layer id="{number}" name="c{number}" type="Const" version="opset1">'
        f'<data element_type="{kind}" shape="{shape}" offset="{offset}" size="{array.nbytes}" />'
        f'<output><port id="0" precision="{kind.upper()}">{dims}</port></output></layer>'
    )


def other(number: int, kind: str) -> str:
    return (
        f'<layer id="{number}" name="n{number}" type="{kind}" version="opset1">'
        '<input><port id="0" precision="BF16" /></input><output><port id="1" precision="FP32" /></output></layer>'
    )


def edge(left: int, port: int, right: int, to: int = 0) -> str:
    return f'<edge from-layer="{left}" from-port="{port}" to-layer="{right}" to-port="{to}" />'


def write(folder: Path, *, user: str = "Convert") -> Path:
    """A bfloat16 matrix behind `user`, a float32 matrix and a small vector used at once, and an index."""
    folder.mkdir()
    arrays = [("bf16", bits(MATRIX)), ("f32", MATRIX * 2), ("f32", SMALL), ("i64", INDEX)]
    layers, blob = "", b"\0" * 12
    for number, (kind, array) in enumerate(arrays):
        layers += const(number, kind, array, len(blob))
        blob += array.tobytes()
    layers += other(4, user) + other(5, "MatMul")
    edges = edge(0, 0, 4) + edge(4, 1, 5, 0) + edge(1, 0, 5, 1) + edge(2, 0, 5, 2) + edge(3, 0, 5, 3)
    (folder / ir.XML).write_text(f'<net name="m" version="11"><layers>{layers}</layers><edges>{edges}</edges></net>')
    (folder / ir.BIN).write_bytes(blob)
    return folder


def retype(tmp_path: Path, kind: str) -> tuple[ElementTree.Element, dict[str, np.ndarray]]:
    out = tmp_path / kind
    out.mkdir()
    ir.retype(write(tmp_path / "base"), out, kind, lambda done, total: None)
    root = ElementTree.parse(out / ir.XML).getroot()
    blob = (out / ir.BIN).read_bytes()
    dtypes = {"f16": "<f2", "f32": "<f4", "i64": "<i8"}
    found = {}
    for layer in root.iterfind("layers/layer[@type='Const']"):
        data = layer.find("data")
        assert data is not None
        start, size = int(data.attrib["offset"]), int(data.attrib["size"])
        assert start % 64 == 0
        kept = np.frombuffer(blob[start : start + size], dtypes[data.attrib["element_type"]])
        found[layer.attrib["name"]] = kept.reshape([int(n) for n in data.attrib["shape"].split(",")])
    return root, found


def users(root: ElementTree.Element, number: str) -> list[tuple[str, str]]:
    """What a layer's output goes to, as (kind of layer, port)."""
    kinds = {layer.attrib["id"]: layer.attrib["type"] for layer in root.iterfind("layers/layer")}
    edges = [e.attrib for e in root.iterfind("edges/edge") if e.attrib["from-layer"] == number]
    return [(kinds[e["to-layer"]], e["to-port"]) for e in edges]


def test_16_bit_weights_become_float32_without_a_conversion(tmp_path: Path) -> None:
    root, found = retype(tmp_path, "f32")
    assert np.array_equal(found["c0"], wide(bits(MATRIX)))
    assert np.array_equal(found["c1"], MATRIX * 2)
    assert users(root, "0") == [("MatMul", "0")]
    assert not root.findall("layers/layer[@type='Convert']")


def test_weights_become_float16_behind_a_conversion(tmp_path: Path) -> None:
    root, found = retype(tmp_path, "f16")
    assert np.array_equal(found["c0"], wide(bits(MATRIX)).astype("<f2"))
    assert np.array_equal(found["c1"], (MATRIX * 2).astype("<f2"))
    assert users(root, "0") == users(root, "1") == [("Convert", "0")]
    added = root.findall("layers/layer[@type='Convert']")
    assert [port.attrib["precision"] for layer in added for port in layer.iterfind("input/port")] == ["FP16"] * 2
    assert sorted(port for layer in added for _, port in users(root, layer.attrib["id"])) == ["0", "1"]
    assert root.findall("layers/layer/rt_info/attribute[@name='decompression']")


@pytest.mark.parametrize("kind", ["f16", "f32"])
def test_what_is_no_weight_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    root, found = retype(tmp_path, kind)
    assert np.array_equal(found["c2"], SMALL)
    assert np.array_equal(found["c3"], INDEX)
    assert users(root, "2") == [("MatMul", "2")]


def test_a_16_bit_weight_that_is_not_converted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="c0 other than through a Convert"):
        ir.retype(write(tmp_path / "base", user="Gather"), tmp_path, "f32", lambda done, total: None)
