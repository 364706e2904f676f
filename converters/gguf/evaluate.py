"""Loads an artifact in llama.cpp and measures how far it is from the reference."""

from __future__ import annotations

from converters.base import EvaluateRequest, Events
from converters.evaluation import measure
from converters.gguf.restore import restored
from converters.gguf.runtime import Runtime


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure one GGUF. llama.cpp picks LongRoPE's factors by the size of the context, so that is what is set."""
    artifact = request.artifact
    measure(
        lambda length: Runtime(artifact, length, request.threads), request, events, lambda _source: restored(artifact)
    )
