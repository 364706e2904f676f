"""Makes one recipe: a folder as Microsoft lays them out, which ONNX Runtime GenAI loads alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from converters import weights
from converters.base import ConverterError, ConvertRequest, Events
from converters.files import exclusive, sweep, sync
from converters.onnx.originals import copy_originals

MODEL = "model.onnx"

# Precisions by execution provider. The builder takes other pairs too, and makes files that cannot run: FP16 for the
# CPU fails when it is loaded, DirectML has no kernel for INT8. BF16 has none on the CPU, where all are measured.
RUNS = {
    "cpu": ("int4", "int8", "fp32"),
    "cuda": ("int4", "int8", "fp16"),
    "dml": ("int4", "fp16"),
    "webgpu": ("int4", "fp16"),
    "NvTensorRtRtx": ("int4", "fp16"),
}


def convert(request: ConvertRequest, events: Events) -> None:
    """Make the recipe's folder in `out` and announce it. What an interrupted run left of it is made again."""
    name = folder_name(request)
    check_pair(request.recipe.options)
    request.shared.mkdir(parents=True, exist_ok=True)
    with exclusive(request.shared):
        sweep(request.shared)
        survey = weights.kept_survey(request, events)
    if request.recipe.options["provider"] != "cpu":
        _refuse_overflow(survey)
    folder = request.out / name
    written = _make(request, folder, events)
    _announce(request, folder, survey, written, events)


def folder_name(request: ConvertRequest) -> str:
    """The recipe's folder in the repo.

    Raises:
        ConverterError: the recipe's file is not `model.onnx` in a plain folder.
    """
    path = PurePosixPath(request.recipe.file.replace("{m}", request.model_name))
    if path.is_absolute() or path.name != MODEL or len(path.parts) < 2 or any(p.startswith(".") for p in path.parts):
        raise ConverterError(f"{str(path)!r} is not {MODEL} in a folder of its own.")
    return str(path.parent)


def check_pair(options: Mapping[str, Any]) -> None:
    """Refuse what the builder would make without an error although no runtime can run it.

    Raises:
        ConverterError: the precision is not in `RUNS` for the provider.
    """
    precision, provider = options.get("precision"), options.get("provider")
    if precision not in RUNS.get(str(provider), ()):
        raise ConverterError(
            f"{precision} for {provider} is not among what ONNX Runtime GenAI can run.",
            f"It runs {', '.join(f'{p} for {e}' for e, ps in RUNS.items() for p in ps)}.",
        )


def _refuse_overflow(survey: weights.Survey) -> None:
    """Everything but the CPU's graphs computes in float16."""
    if not survey.fits_float16:
        raise ConverterError(
            f"{survey.largest_tensor} has values up to {survey.largest:g}, more than float16 can hold.",
            "The recipes for the CPU keep 32 bits where they do not quantize; use one of those.",
        )


def _make(request: ConvertRequest, folder: Path, events: Events) -> dict[int, int]:
    """Write the folder; it appears when it is whole. Returns how many weights got how many bits."""
    # Seconds of imports, which a refusal can do without.
    import torch

    from converters.onnx.builder import build
    from converters.onnx.graph import Plan

    torch.set_num_threads(request.threads)
    options = request.recipe.options
    partial = folder.with_name(f".{folder.name}.partial")
    for left in (partial, folder):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir(parents=True)
    pair, extra = (options["precision"], options["provider"]), options.get("extra", [])
    written = build(request.source, partial, *pair, extra, Plan.of(options), events)
    copy_originals(request.source, partial)
    for file in partial.iterdir():
        sync(file)
    partial.rename(folder)
    sync(folder.parent)
    return written


def _announce(
    request: ConvertRequest, folder: Path, survey: weights.Survey, written: dict[int, int], events: Events
) -> None:
    files = sorted((file for file in folder.iterdir()), key=lambda file: (file.name != MODEL, file.name))
    beside = [file for file in files if file.name.startswith(("LICENSE", "NOTICE"))]
    size = sum(file.stat().st_size for file in files if file.name.startswith(MODEL))
    facts = {
        "parameters": survey.parameters,
        "largest_weight": survey.largest,
        "source_types": list(survey.dtypes),
        "weights_by_bits": {str(bits): count for bits, count in sorted(written.items())},
    }
    events.emit(
        "artifact",
        recipe=request.recipe.id,
        files=[file.relative_to(request.out).as_posix() for file in files if file not in beside],
        extras=[file.relative_to(request.out).as_posix() for file in beside],
        bits_per_weight=8 * size / survey.parameters,
        facts=facts,
    )
