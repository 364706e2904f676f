"""Turns a Hub snapshot into an uncompressed OpenVINO IR with optimum-intel, run as a library, and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from optimum.exporters.openvino import export_from_model
from transformers import AutoModelForCausalLM

from converters.base import Events
from converters.openvino import ir, tokenizer_export

_TASK = "text-generation-with-past"  # with the key-value cache, which OpenVINO then keeps as its own state


def export(source: Path, folder: Path, dtype: str, threads: int, events: Events) -> None:
    """Write model, tokenizer and detokenizer to the empty folder `folder`; weights as `dtype`: bf16, f16 or f32.

    What else optimum-intel writes is removed: the source's own files are published, not re-saved ones.
    """
    torch.set_num_threads(threads)
    events.progress("export", 0, 2, "models")
    kind = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
    model = AutoModelForCausalLM.from_pretrained(source, dtype=kind, trust_remote_code=False)
    export_from_model(model, folder, task=_TASK, stateful=True, patch_16bit_model=dtype != "f32")
    del model
    for file in folder.iterdir():
        if file.name not in (ir.XML, ir.BIN):
            file.unlink()
    events.progress("export", 1, 2, "models")
    tokenizer_export.make(source, folder, threads, events)
    events.progress("export", 2, 2, "models")
