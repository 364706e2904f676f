"""The ONNX Runtime GenAI backend's verbs. Heavy imports wait until a verb needs them: measuring needs no PyTorch."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from converters.base import ConvertRequest, EvaluateRequest, Events

PACKAGES = ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "torch", "transformers", "numpy")


def architectures() -> list[str]:
    """Name the architectures that can be converted, with or without a caveat."""
    table = tomllib.loads(Path(__file__).with_name("architectures.toml").read_text(encoding="utf-8"))
    return sorted(name for name, entry in table.items() if entry["status"] in ("supported", "caveat"))


def convert(request: ConvertRequest, events: Events) -> None:
    # Read when tqdm is imported. The builder's bars are for terminals; here they would fill the log.
    os.environ["TQDM_DISABLE"] = "1"
    from converters.onnx.convert import convert

    convert(request, events)


def evaluate(request: EvaluateRequest, events: Events) -> None:
    from converters.onnx.evaluate import evaluate

    evaluate(request, events)
