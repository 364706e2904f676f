"""The MLX backend's verbs. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from converters.base import ConvertRequest, EvaluateRequest, Events

PACKAGES = ("mlx", "mlx-lm", "transformers", "numpy")


def architectures() -> list[str]:
    """Name the architectures that can be converted, with or without a caveat."""
    table = tomllib.loads(Path(__file__).with_name("architectures.toml").read_text(encoding="utf-8"))
    return sorted(name for name, entry in table.items() if entry["status"] in ("supported", "caveat"))


def convert(request: ConvertRequest, events: Events) -> None:
    _use_threads(request.threads)
    from converters.mlx.convert import convert

    convert(request, events)


def evaluate(request: EvaluateRequest, events: Events) -> None:
    _use_threads(request.threads)
    from converters.mlx.evaluate import evaluate

    evaluate(request, events)


def _use_threads(threads: int) -> None:
    """Tell OpenBLAS, which reads it once, when numpy is loaded. MLX itself uses one thread on a CPU."""
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
