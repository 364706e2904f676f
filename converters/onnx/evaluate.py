"""Loads a folder in ONNX Runtime GenAI and measures how far it is from the reference."""

from __future__ import annotations

from converters.base import EvaluateRequest, Events
from converters.evaluation import measure
from converters.onnx.runtime import Runtime


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure one folder. Within the original context its graph takes LongRoPE's short factors, as the source does."""
    measure(lambda length: Runtime(request.artifact.parent, length, request.threads), request, events)
