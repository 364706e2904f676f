"""Loads a checkpoint with mlx-lm under a config of our own, and reads no weight before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.utils import load_model

from converters import weights
from converters.base import ConverterError


def load(source: Path, config: dict[str, Any], dtype: str = "") -> Any:
    """The model in `source`, to be cast to `dtype` when it is read.

    Raises:
        ConverterError: mlx-lm has no such model, or the weights are not those of its model.
    """
    weights.tensors(source)  # whole, or it is said which file is not
    try:
        model, _ = load_model(source, lazy=True, model_config=dict(config))
    except (ValueError, FileNotFoundError) as error:
        raise ConverterError(f"mlx-lm cannot load this model: {' '.join(str(error).split())[:200]}") from error
    if dtype:
        model.update(tree_map(_cast(getattr(mx, dtype)), model.parameters()))
    return model


def _cast(kind: Any) -> Any:
    return lambda array: array.astype(kind) if mx.issubdtype(array.dtype, mx.floating) else array
