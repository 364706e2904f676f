"""An artifact's tokenizer: OpenVINO models that OpenVINO GenAI runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino_genai


def load(folder: Path, threads: int) -> Any:
    """Load a folder's tokenizer as OpenVINO GenAI does for its pipelines."""
    return openvino_genai.Tokenizer(str(folder), INFERENCE_NUM_THREADS=threads)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Text to ids, special tokens parsed and none added."""
    return [int(i) for i in tokenizer.encode(text, add_special_tokens=False).input_ids.data.reshape(-1)]
