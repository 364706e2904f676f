"""Loads an artifact in OpenVINO and measures how far it is from the reference."""

from __future__ import annotations

from converters.base import EvaluateRequest, Events
from converters.evaluation import measure
from converters.openvino.runtime import Runtime


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure one artifact. The graph chooses LongRoPE's factors by the length of the text, as the source does."""
    measure(lambda _length: Runtime(request.artifact.parent, request.threads), request, events)
