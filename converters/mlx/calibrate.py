"""Quantizes a model with GPTQ in one pass over the calibration text, one weight in memory at a time.

Every product is replaced by one that, when the model comes to it, notes its inputs, multiplies at float32, quantizes
its weight by what it saw, writes it to a file and forgets it. (mlx-lm's own GPTQ keeps the weights and statistics of
all layers at once.) The inputs are the unquantized model's: to give each layer those of the quantized layers before it
takes a second pass, and changed nothing on the test model.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import load_tokenizer

from converters import weights
from converters.base import ConvertRequest, Events
from converters.files import key_of, sha256_of, write_json
from converters.mlx import config as configs
from converters.mlx import gptq
from converters.mlx.loading import load

# With 512 tokens the test model came within a fifth of what it reached with 14,000.
_TOKENS, _WINDOW = 4096, 256
OTHER = "other"  # the file of all that is not quantized
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """How weights are kept; the token embedding has its own bits, as there is nothing to make its errors good."""

    bits: int
    group_size: int
    embedding_bits: int

    def entry(self, bits: int) -> dict[str, Any]:
        """What config.json says of a weight."""
        return {"bits": bits, "group_size": self.group_size, "mode": "affine"}


def kept(request: ConvertRequest, config: dict[str, Any], events: Events) -> tuple[Path, dict[str, Any]]:
    """The calibrated weights for long contexts and short ones, made once; and what config.json says of them."""
    options = request.recipe.options
    form = Form(options["bits"], options["group_size"], options["embedding_bits"])
    versions = [importlib.metadata.version(package) for package in ("mlx", "mlx-lm", "numpy")]
    key = key_of(weights.source_key(request.source), asdict(form), sha256_of(request.calibration), versions)
    folder = request.shared / f"calibrated-{key}"
    if not folder.is_dir():
        partial = request.shared / ".calibrated"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        model = load(request.source, configs.with_short_factors(config))
        ids = windows(request.source, request.calibration)
        entry = calibrate(model, ids, form, partial, _progress(events))
        write_json(partial / "quantization.json", entry)
        shutil.copyfile(request.source / "config.json", partial / "config.json")  # a checkpoint has one
        os.replace(partial, folder)
    return folder, json.loads((folder / "quantization.json").read_text(encoding="utf-8"))


def _progress(events: Events) -> Callable[[int, int], None]:
    return lambda done, total: events.progress("calibrate", done, total, "products")


def windows(source: Path, text: Path) -> Any:
    """The calibration text as token ids, [windows, tokens]."""
    words = " ".join(text.read_text(encoding="utf-8").split("\n"))
    ids = load_tokenizer(source).encode(words, add_special_tokens=False)
    count = min(len(ids), _TOKENS) // _WINDOW
    return mx.array(ids[: count * _WINDOW]).reshape(count, _WINDOW)


def calibrate(model: Any, ids: Any, form: Form, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write the quantized model to `folder`; give what config.json says of it. The model is used up."""
    modules = dict(model.named_modules())
    [embedding] = [name for name, module in modules.items() if type(module) is nn.Embedding]
    products = [
        name for name, m in modules.items() if type(m) is nn.Linear and m.weight.shape[-1] % form.group_size == 0
    ]
    done = 0

    def keep(name: str, arrays: Arrays) -> None:
        nonlocal done
        _write(folder, name, arrays)
        done += 1
        progress(done, len(products))

    table = modules[embedding].weight
    stand_ins = [(name, _Watched(name, modules[name], form, keep)) for name in products]
    model.update_modules(tree_unflatten([*stand_ins, (embedding, _Wide(table))]))
    mx.eval(model(ids))
    _write(folder, embedding, _plain(table, form))
    _write(folder, OTHER, dict(tree_flatten(model.parameters())))
    return {**form.entry(form.bits), embedding: form.entry(form.embedding_bits)}


class _Watched(nn.Module):  # type: ignore[misc]
    """A product that quantizes itself when it has been used once."""

    def __init__(self, name: str, product: Any, form: Form, keep: Callable[[str, Arrays], None]) -> None:
        super().__init__()
        self._name, self._product, self._form, self._keep = name, product, form, keep

    def __call__(self, x: Any) -> Any:
        inputs = np.array(x).reshape(-1, x.shape[-1])
        weight = np.array(self._product.weight.astype(mx.float32))
        # Nothing comes after the head, whose output is large.
        y = x if self._name == "lm_head" else mx.array(inputs @ weight.T).reshape(*x.shape[:-1], -1)
        arrays = gptq.quantize(weight, inputs, self._form.group_size, self._form.bits)
        if "bias" in self._product:
            arrays["bias"] = self._product.bias
            y = y if y is x else y + self._product.bias
        self._product = None
        self._keep(self._name, arrays)
        return y


class _Wide(nn.Module):  # type: ignore[misc]
    """An embedding whose rows are float32, so that all that follows is. A tied model's last product is left out."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self._table = table

    def __call__(self, ids: Any) -> Any:
        return self._table[ids].astype(mx.float32)

    def as_linear(self, x: Any) -> Any:
        return x


def _plain(table: Any, form: Form) -> Arrays:
    weight, scales, biases = mx.quantize(table.astype(mx.float16), form.group_size, form.embedding_bits)
    return {"weight": weight, "scales": scales, "biases": biases}


def _write(folder: Path, module: str, arrays: Arrays) -> None:
    """Write a module's arrays to a file of their own, floats in 16 bits."""
    prefix = "" if module == OTHER else f"{module}."
    named = {prefix + name: mx.array(value) for name, value in arrays.items()}
    named = {k: v if v.dtype == mx.uint32 else v.astype(mx.float16) for k, v in named.items()}
    mx.save_safetensors(str(folder / f"model-{module}.safetensors"), named)
