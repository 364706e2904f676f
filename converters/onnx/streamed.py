"""Tensors that are made piece by piece while they are written, so that no model is ever in memory as a whole.

The model builder keeps every weight until the file is complete, at 32 bits where it quantizes. Here a weight stays
what it is, a view of the mapped source file, until its bytes go out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import to_torch_dtype

from converters.base import Events
from converters.onnx.rounding import Blocks, round_matrix, round_rows

_PIECE = 1 << 22
"""Elements that are widened at a time: 16 MB at 32 bits."""
_TRANSPOSED_PIECE = 1 << 26
"""The same across rows. Each piece touches the whole weight, which a small page cache would read again and again."""


class Sink(Protocol):
    """What pieces are written to."""

    def write(self, data: Any, /) -> object: ...


class Meter:
    """Counts the weights' elements that have been written, by the bits they got."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._expected = 0
        self.written: Counter[int] = Counter()

    def expect(self, elements: int) -> None:
        self._expected += elements

    def wrote(self, elements: int, bits: int) -> None:
        self.written[bits] += elements
        self._events.progress("export", self.written.total(), self._expected, "weights")


class Streamed(ir.LazyTensor):  # type: ignore[misc]
    """A tensor that is the pieces of an iterator, end to end."""

    def __init__(self, pieces: Callable[[], Iterator[Any]], dtype: Any, shape: Sequence[int], name: str) -> None:
        super().__init__(self._whole, dtype, ir.Shape(shape), name=name)
        self._pieces = pieces

    def tofile(self, file: Sink) -> None:
        for piece in self._pieces():
            file.write(np.ascontiguousarray(piece).data)

    def _whole(self) -> Any:
        flat = np.concatenate([piece.reshape(-1) for piece in self._pieces()])
        return ir.Tensor(flat.reshape(self.shape.numpy()), dtype=self.dtype, name=self.name)


class Weight(Streamed):
    """A weight of the source in another element type. `source` is what it is made from."""

    def __init__(self, source: torch.Tensor, dtype: Any, name: str, meter: Meter) -> None:
        super().__init__(self._convert, dtype, source.shape, name)
        self.source = source.detach()
        self._wanted = to_torch_dtype(dtype)
        self._meter = meter
        meter.expect(source.numel())

    def _convert(self) -> Iterator[Any]:
        limit = _PIECE if self.source.is_contiguous() else _TRANSPOSED_PIECE
        for piece in _pieces_of(self.source, limit):
            yield piece.to(self._wanted).contiguous().numpy()
            self._meter.wrote(piece.numel(), self.dtype.bitwidth)

    def rounded(self, rows: torch.Tensor, blocks: Blocks) -> Rounded:
        """Round [outputs, inputs], which is the source or its transpose (see `round_rows`)."""
        return Rounded(
            _pieces_of(rows, _PIECE), lambda rows: round_rows(rows, blocks, self._wanted), blocks, self._meter
        )

    def rounded_as_it_lies(self, blocks: Blocks) -> Rounded:
        """Round the source, [inputs, outputs], in one piece (see `round_matrix`)."""
        return Rounded([self.source], lambda whole: round_matrix(whole, blocks, self._wanted), blocks, self._meter)


class Rounded:
    """A weight that is rounded while its codes are written, once. Its scales are there when they have been."""

    def __init__(
        self,
        pieces: Iterable[torch.Tensor],
        round_piece: Callable[[torch.Tensor], tuple[Any, Any]],
        blocks: Blocks,
        meter: Meter,
    ) -> None:
        self._pieces = pieces
        self._round = round_piece
        self._bits = blocks.bits
        self._meter = meter
        self._scales: list[Any] = []

    def codes(self) -> Iterator[Any]:
        for piece in self._pieces:
            codes, scales = self._round(piece)
            self._scales.append(scales)
            yield codes
            self._meter.wrote(piece.numel(), self._bits)

    def scales(self) -> Iterator[Any]:
        while self._scales:
            yield self._scales.pop(0)


def _pieces_of(tensor: torch.Tensor, limit: int) -> Iterator[torch.Tensor]:
    yield from tensor.split(max(1, limit // max(1, tensor[:1].numel())))
