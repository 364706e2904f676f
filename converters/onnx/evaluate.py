"""Loads a folder in ONNX Runtime GenAI and measures how far it is from the reference."""

from __future__ import annotations

from converters.base import EvaluateRequest, Events
from converters.evaluation import measure
from converters.onnx.restore import restored
from converters.onnx.runtime import Runtime


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure one folder. Within the original context its graph takes LongRoPE's short factors, as the source does."""
    model = request.artifact
    measure(
        lambda length: Runtime(model.parent, length, request.threads), request, events, lambda _source: restored(model)
    )
