"""The source model with its weights mapped from the safetensors files instead of read into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from converters.base import ConverterError


def load(source: Path) -> Any:
    """The model in its own element types. Its parameters are views of the files: the system may drop their pages.

    Raises:
        ConverterError: a weight that the architecture needs is not there.
    """
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    weights = {
        name: tensor for file in sorted(source.glob("*.safetensors")) for name, tensor in load_file(file).items()
    }
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing:
        raise ConverterError(
            f"{config.architectures[0]} needs {missing[0]}, which the source does not have.",
            "It was saved for another version of the architecture.",
        )
    return model.requires_grad_(False).eval()
