"""Changes the type of the weights in an OpenVINO IR, from file to file and one block at a time.

An IR is an XML file with the graph and a `.bin` file with the bytes of its constants, which `offset` and `size` in the
XML point into (format: OpenVINO documentation, "OpenVINO IR format"). The arithmetic of an export is in float32, and
every 16-bit weight in it goes through a `Convert` to that. So another type for weights is other bytes, another type
in the `Const`, and a `Convert` behind it or none. Doing it here takes no more memory than a block, where OpenVINO
itself would hold all the weights in their new type.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from converters.base import ConverterError

XML, BIN = "openvino_model.xml", "openvino_model.bin"
Element = ElementTree.Element

_BLOCK = 1 << 24
_ALIGNMENT = 64
_BYTES = {"f16": 2, "bf16": 2, "f32": 4}
# A float32 constant as large as this is a matrix that the exporter has not left in 16 bits (the experts of a MoE).
# Smaller ones, such as the rotary frequencies, stay in float32.
_MATRIX = 4096


def retype(source: Path, target: Path, kind: str, progress: Callable[[int, int], None]) -> None:
    """Write the IR of the folder `source` to the folder `target` with its weights as `kind`: f16 or f32.

    Raises:
        ConverterError: a 16-bit constant is used other than through a `Convert`.
    """
    tree = ElementTree.parse(source / XML)  # noqa: S314 - OpenVINO wrote it a moment ago
    graph = _Graph(tree.getroot())
    raw: Any = np.memmap(source / BIN, dtype=np.uint8, mode="r")
    placed: dict[tuple[int, int, str, str], int] = {}
    with (target / BIN).open("wb") as stream:
        for const in graph.constants():
            data = _find(const, "data")
            start, size, old = int(data.get("offset", 0)), int(data.get("size", 0)), data.get("element_type", "")
            new = graph.retype(const, kind) if old != kind else old
            if (start, size, old, new) not in placed:
                placed[start, size, old, new] = _align(stream)
                _copy(stream, raw[start : start + size], old, new)
                progress(start + size, len(raw))
            data.set("offset", str(placed[start, size, old, new]))
            if new != old:
                data.set("element_type", new)
                data.set("size", str(size // _BYTES[old] * _BYTES[new]))
    tree.write(target / XML, encoding="utf-8", xml_declaration=True)


class _Graph:
    """The layers and edges of an IR's XML."""

    def __init__(self, root: Element) -> None:
        self._layers = _find(root, "layers")
        self._edges = _find(root, "edges")
        self._by_id = {layer.get("id", ""): layer for layer in self._layers}
        self._out: dict[str, list[Element]] = defaultdict(list)
        for edge in self._edges:
            self._out[edge.get("from-layer", "")].append(edge)

    def constants(self) -> list[Element]:
        return [layer for layer in self._layers if layer.get("type") == "Const"]

    def retype(self, const: Element, kind: str) -> str:
        """Have what lies behind a weight expect `kind`; give the type it is to have, its own if it is no weight."""
        old = _find(const, "data").get("element_type", "")
        edges = list(self._out[const.get("id", "")])
        if old == "f32":
            if _elements(const) < _MATRIX:
                return old
            self._insert_convert(const, edges, kind)
        elif old in ("bf16", "f16"):
            for edge in edges:
                self._change_convert(const, edge, kind)
        else:
            return old
        _find(const, "output/port").set("precision", _precision(kind))
        return kind

    def _change_convert(self, const: Element, edge: Element, kind: str) -> None:
        convert = self._by_id[edge.get("to-layer", "")]
        if convert.get("type") != "Convert":
            raise ConverterError(f"The export uses {const.get('name')} other than through a Convert.")
        if kind != "f32":
            _find(convert, "input/port").set("precision", _precision(kind))
            return
        for onward in self._out[convert.get("id", "")]:
            onward.set("from-layer", edge.get("from-layer", ""))
            onward.set("from-port", edge.get("from-port", ""))
        self._edges.remove(edge)
        self._layers.remove(convert)

    def _insert_convert(self, const: Element, edges: list[Element], kind: str) -> None:
        """Put a `Convert` between a float32 constant and its users, marked as decompression, as OpenVINO does."""
        number = str(1 + max(map(int, self._by_id)))
        convert = ElementTree.Element("layer", id=number, name=f"{const.get('name')}/Convert", type="Convert")
        convert.set("version", "opset1")
        ElementTree.SubElement(convert, "data", destination_type="f32")
        marks = ElementTree.SubElement(convert, "rt_info")
        ElementTree.SubElement(marks, "attribute", name="decompression", version="0")
        for side, port_id, precision in (("input", "0", _precision(kind)), ("output", "1", "FP32")):
            port = deepcopy(_find(const, "output/port"))
            port.attrib = {"id": port_id, "precision": precision}
            ElementTree.SubElement(convert, side).append(port)
        self._layers.insert(list(self._layers).index(const) + 1, convert)
        self._by_id[number] = convert
        first = {"from-layer": const.get("id", ""), "from-port": _find(const, "output/port").get("id", "")}
        ElementTree.SubElement(self._edges, "edge", {**first, "to-layer": number, "to-port": "0"})
        for edge in edges:
            edge.set("from-layer", number)
            edge.set("from-port", "1")


def _precision(kind: str) -> str:
    return {"f16": "FP16", "f32": "FP32"}[kind]


def _elements(const: Element) -> int:
    shape = _find(const, "data").get("shape", "")
    return math.prod(int(size) for size in shape.split(",") if size.strip())


def _find(element: Element, path: str) -> Element:
    found = element.find(path)
    if found is None:
        raise ConverterError(f"The export's graph has no {path} where there must be one.")
    return found


def _align(stream: BinaryIO) -> int:
    """Move on to where the next constant may begin."""
    stream.write(bytes(-stream.tell() % _ALIGNMENT))
    return stream.tell()


def _copy(stream: BinaryIO, part: Any, old: str, new: str) -> None:
    """Write the bytes of a constant, in blocks that hold whole numbers."""
    for at in range(0, len(part), _BLOCK):
        block = part[at : at + _BLOCK]
        stream.write((block if new == old else _numbers(block, old).astype(f"<f{_BYTES[new]}")).tobytes())


def _numbers(raw: Any, kind: str) -> Any:
    if kind == "bf16":
        return (raw.view("<u2").astype("<u4") << 16).view("<f4")
    return raw.view(f"<f{_BYTES[kind]}")
