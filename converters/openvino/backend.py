"""The OpenVINO backend's verbs. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from converters.base import ConvertRequest, EvaluateRequest, Events

PACKAGES = (
    "openvino",
    "openvino-tokenizers",
    "openvino-genai",
    "nncf",
    "optimum",
    "optimum-intel",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
)


def architectures() -> list[str]:
    """Name the architectures that can be converted, with or without a caveat."""
    table = tomllib.loads(Path(__file__).with_name("architectures.toml").read_text(encoding="utf-8"))
    return sorted(name for name, entry in table.items() if entry["status"] in ("supported", "caveat"))


def convert(request: ConvertRequest, events: Events) -> None:
    # NNCF calibrates with numpy, whose OpenBLAS reads this once, when it is loaded.
    os.environ["OPENBLAS_NUM_THREADS"] = str(request.threads)
    from converters.openvino.convert import convert

    convert(request, events)


def evaluate(request: EvaluateRequest, events: Events) -> None:
    from converters.openvino.evaluate import evaluate

    evaluate(request, events)
