"""Loads an artifact in OpenVINO and measures how far it is from the reference."""

from __future__ import annotations

from converters.base import EvaluateRequest, Events
from converters.evaluation import measure
from converters.openvino.restore import restored
from converters.openvino.runtime import Runtime


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure one artifact. The graph chooses LongRoPE's factors by the length of the text, as the source does."""
    xml = request.artifact
    measure(lambda _length: Runtime(xml.parent, request.threads), request, events, lambda _source: restored(xml))
