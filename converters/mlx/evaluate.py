"""Loads an artifact in mlx-lm and measures how far it is from the reference."""

from __future__ import annotations

from converters.base import EvaluateRequest, Events
from converters.evaluation import measure
from converters.logprobs import Reader
from converters.mlx.restore import restored
from converters.mlx.runtime import Runtime


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure one artifact. mlx-lm grows its context as texts do, so there is nothing to set."""
    expected = Reader(request.reference).meta.sequences
    measure(
        lambda _length: Runtime(request.artifact, expected),
        request,
        events,
        lambda source: restored(request.artifact.parent, source),
    )
