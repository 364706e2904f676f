"""Runs ONNX Runtime GenAI's model builder as a library, with the weights streamed from the source into the file.

The graph is the builder's own. Four of its methods are replaced: how weights are loaded (mapped, not read), kept (as
views) and quantized (while they are written; see `converters.onnx.graph`), and how the tokenizer is saved (not at all,
as the source's own files are published).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime_genai  # noqa: F401 - puts the builder's own top-level packages on the path
import torch
from onnxruntime_genai.models.builder import create_model, parse_extra_options

from builders.base import Model  # isort: skip

from converters.base import ConverterError, Events
from converters.onnx import graph, source
from converters.onnx.streamed import Meter, Weight

_make_initializer = Model.make_initializer


def build(
    model: Path, folder: Path, precision: str, provider: str, extra: Sequence[str], plan: graph.Plan, events: Events
) -> dict[int, int]:
    """Write `model.onnx`, its data and `genai_config.json` to `folder`; return how many weights got how many bits.

    Args:
        precision, provider, extra: as the builder's `-p`, `-e` and `--extra_options`.

    Raises:
        ConverterError: the builder does not know the architecture, or not in this precision.
    """
    meter = Meter(events)
    _stream(plan, meter)
    cache = str(folder / "cache")
    try:
        options = parse_extra_options(None, str(model), str(folder), precision, provider, cache, list(extra))
        create_model(None, str(model), str(folder), precision, provider, cache, **options)
    except NotImplementedError as error:
        raise ConverterError(
            f"ONNX Runtime GenAI's model builder refuses this model: {str(error)[:200]}",
            "A later version may know it; nothing was made.",
        ) from error
    return dict(meter.written)


def _stream(plan: graph.Plan, meter: Meter) -> None:
    """Have the builder's models, whose base class is `Model`, work as said at the top of this file."""

    def keep_view(self: Any, tensor: Any, /, name: str, *, to: Any = None, raw: bool = False) -> None:
        _make_initializer(self, tensor, name, to=to, raw=raw)
        if to is not None and isinstance(tensor, torch.Tensor):
            self.values[name].const_value = Weight(tensor, to, name, meter)

    def to_nbits(self: Any) -> Any:
        graph.quantize(self, plan)
        return self.model

    Model.load_weights = lambda self, _path: source.load(Path(self.model_name_or_path))
    Model.make_initializer = keep_view
    Model.to_nbits = to_nbits
    Model.save_processing = lambda *_args: None
    # The builder makes a layer for every part of a packed one, only to give it its weight: random numbers for nothing.
    torch.nn.Linear.reset_parameters = lambda _self: None
    logging.getLogger("onnxruntime").setLevel(logging.WARNING)
