"""Compresses the weights of an exported IR with NNCF, as optimum-intel does, without optimum-intel's Hub data sets."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import nncf
import numpy as np
import openvino
from nncf.common.tensor_statistics import aggregator
from nncf.quantization.advanced_parameters import AdvancedGPTQParameters
from nncf.quantization.algorithms.weight_compression import gptq

from converters.base import Events
from converters.openvino import ir, plan, tokenizer

# The default, 0.1, is for fewer samples: measured on 15,000 tokens, less damping gave a smaller divergence.
_DAMPING = 0.01
# NNCF's own names for what it does with a calibration text.
_METHODS = ("gptq", "awq", "scale_estimation")
_Item = TypeVar("_Item")


def compress(
    base: Path, target: Path, options: dict[str, Any], calibration: Path, threads: int, events: Events
) -> dict[str, Any]:
    """Write the IR of the folder `base` to the folder `target`, compressed as a recipe's options say; give facts."""
    facts: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    if methods := [name for name in _METHODS if options.get(name)]:
        samples = _samples(base, calibration, threads)
        arguments = {"dataset": nncf.Dataset(samples), "subset_size": len(samples), **dict.fromkeys(methods, True)}
        # Another number of threads adds up in another order, so that some weights round the other way.
        facts = {"samples": len(samples), "tokens": sum(sample["input_ids"].size for sample in samples)}
        facts["threads"] = threads
    with _limited(threads), _reported(events):
        model = openvino.Core().read_model(base / ir.XML)
        if "int8_projections" in options:
            _keep_int8(model, options)
        nncf.compress_weights(model, **_settings(options), **arguments)
    _as_compressed(model)
    _name_anew(model)
    openvino.save_model(model, target / ir.XML, compress_to_fp16=False)
    return {**facts, "weights": _weights(model)}


def _keep_int8(model: Any, options: dict[str, Any]) -> None:
    """Compress the weights that suffer most from 4 bits to 8; the next pass leaves them as they are."""
    blocks = plan.count_blocks(op.get_friendly_name() for op in model.get_ops())
    others = plan.all_but_int8(blocks, options["int8_projections"], options["int8_blocks"])
    nncf.compress_weights(
        model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=nncf.IgnoredScope(patterns=[others])
    )


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    mode = nncf.CompressWeightsMode(options["mode"])
    if mode in (nncf.CompressWeightsMode.INT8_ASYM, nncf.CompressWeightsMode.INT8_SYM):
        return {"mode": mode}
    advanced = nncf.AdvancedCompressionParameters(
        group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST,
        gptq_params=AdvancedGPTQParameters(damp_percent=_DAMPING),
    )
    ratio = options.get("ratio", 1.0)
    return {"mode": mode, "group_size": options["group_size"], "ratio": ratio, "advanced_parameters": advanced}


def _samples(base: Path, calibration: Path, threads: int) -> list[dict[str, Any]]:
    """The calibration text as the inputs of the model."""
    made = tokenizer.load(base, threads)
    texts = plan.pieces(calibration.read_text(encoding="utf-8"))
    return [_inputs(tokenizer.encode(made, text)) for text in texts]


def _inputs(ids: list[int]) -> dict[str, Any]:
    return {
        "input_ids": np.array([ids], dtype=np.int64),
        "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }


def _as_compressed(model: Any) -> None:
    """Do to the IR's settings what optimum-intel does: the export's 16-bit key-value cache is asked for no more."""
    options = model.get_rt_info("runtime_options").value
    options.pop("KV_CACHE_PRECISION", None)
    model.set_rt_info(options, "runtime_options")
    model.set_rt_info(nncf.__version__, ["optimum", "nncf_version"])


def _name_anew(model: Any) -> None:
    """Number the nodes without a name of their own by their place: OpenVINO counts on through a whole process."""
    for place, op in enumerate(model.get_ordered_ops()):
        kind = op.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", op.get_friendly_name()):
            op.set_friendly_name(f"{kind}_{place}")


def _weights(model: Any) -> dict[str, int]:
    """How many numbers there are of each type, scales and zero points included."""
    found: Counter[str] = Counter()
    for op in model.get_ops():
        if op.get_type_name() == "Constant" and len(op.shape) > 1:
            found[op.get_element_type().to_string()] += math.prod(op.shape)
    return dict(sorted(found.items()))


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Hold every OpenVINO core to so many threads; NNCF makes cores of its own and has no setting."""
    made = openvino.Core.__init__

    def make(core: Any, *arguments: Any, **named: Any) -> None:
        made(core, *arguments, **named)
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads})

    openvino.Core.__init__ = make
    try:
        yield
    finally:
        openvino.Core.__init__ = made


@contextmanager
def _reported(events: Events) -> Iterator[None]:
    """Report the two long loops of NNCF, which draws progress bars, as progress."""

    def track(items: Iterable[_Item], total: int, description: str) -> Iterator[_Item]:
        stage = description.removeprefix("Applying ").lower()
        for at, item in enumerate(items):
            events.progress(stage, at, total, "steps")
            yield item
        events.progress(stage, total, total, "steps")

    kept = {module: module.track for module in (aggregator, gptq)}
    for module in kept:
        module.track = track
    try:
        yield
    finally:
        for module, original in kept.items():
            module.track = original
