"""Makes one recipe. The uncompressed export is made once for all of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters import weights
from converters.base import ConverterError, ConvertRequest, Events
from converters.files import complete_file, exclusive, key_of, sha256_of, sweep, sync
from converters.openvino import backend, ir

_TOOLS = ("openvino", "openvino-tokenizers", "optimum-intel", "torch", "transformers")
_TYPES = {"BF16": "bf16", "F16": "f16"}
_TOKENIZERS = (
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
)
# What loaders read beside the models, and what the licence asks to go with them. Never re-saved: other versions of
# transformers could not read it any more.
_SOURCE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "*.jinja",
    "LICENSE*",
    "NOTICE*",
)


def convert(request: ConvertRequest, events: Events) -> None:
    """Make the recipe's files in `out` and announce them."""
    if request.recipe.file != ir.XML:
        raise ConverterError(f"OpenVINO's loaders want the file to be {ir.XML}, not {request.recipe.file}.")
    _refuse_unknown(request.source)
    request.out.mkdir(parents=True, exist_ok=True)
    request.shared.mkdir(parents=True, exist_ok=True)
    options = request.recipe.options
    kind: str | None = options.get("float")
    with exclusive(request.shared):
        sweep(request.shared)
        survey = weights.kept_survey(request, events)
        if kind == "f16":
            _refuse_overflow(survey)
        base = _base(request, survey, events)
    facts: dict[str, Any] = {"parameters": survey.parameters, "source_types": list(survey.dtypes)}
    facts |= {"largest_weight": survey.largest, "base": base_type(survey)}
    if kind is None:
        facts |= _compress(request, base, events)
    else:
        ir.retype(base, request.out, kind, lambda done, total: events.progress("write weights", done, total, "bytes"))
    names = [ir.XML, ir.BIN, *_TOKENIZERS]
    for name in names[:2]:
        sync(request.out / name)
    for name in names[2:]:
        _place(base / name, request.out)
    copied = [_place(file, request.out) for file in _wanted(request.source)]
    size = (request.out / ir.BIN).stat().st_size
    events.emit(
        "artifact",
        recipe=request.recipe.id,
        files=[*names, *copied],
        extras=[],
        bits_per_weight=8 * size / survey.parameters,
        facts=facts,
    )


def base_type(survey: weights.Survey) -> str:
    """The smallest type that holds the source exactly: its own, or float32 for a mix."""
    floats = {dtype for dtype in survey.dtypes if dtype in ("F64", "F32", "F16", "BF16")}
    return _TYPES.get(floats.pop(), "f32") if len(floats) == 1 else "f32"


def _refuse_unknown(source: Path) -> None:
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for name in config.get("architectures") or ["a model without a class"]:
        if name not in backend.architectures():
            raise ConverterError(
                f"The OpenVINO backend does not convert {name}.",
                "architectures.toml says what it does with each class; nothing was made.",
            )


def _refuse_overflow(survey: weights.Survey) -> None:
    if not survey.fits_float16:
        raise ConverterError(
            f"{survey.largest_tensor} has values up to {survey.largest:g}, more than float16 can hold.",
            "Every variant is measured against FP16, so this model cannot be converted here yet.",
        )


def _base(request: ConvertRequest, survey: weights.Survey, events: Events) -> Path:
    """The folder of the uncompressed export and the tokenizers, in the source's own type."""
    versions = [importlib.metadata.version(package) for package in _TOOLS]
    kind = base_type(survey)
    base = request.shared / f"base-{kind}-{key_of(weights.source_key(request.source), kind, versions)}"
    if base.is_dir():
        events.log("info", "The uncompressed export from an earlier recipe is used again.")
        return base
    from converters.openvino.export import export

    with _complete_folder(base) as making:
        export(request.source, making, kind, request.threads, events)
    return base


def _compress(request: ConvertRequest, base: Path, events: Events) -> dict[str, Any]:
    from converters.openvino.compress import compress

    options = request.recipe.options
    facts = compress(base, request.out, options, request.calibration, request.threads, events)
    if "samples" in facts:
        facts["calibration_sha256"] = sha256_of(request.calibration)
    return facts


def _wanted(source: Path) -> list[Path]:
    found = {file for pattern in _SOURCE_FILES for file in source.glob(pattern) if file.is_file()}
    return sorted(found)


def _place(file: Path, folder: Path) -> str:
    """Give a file to the recipe as a copy: an artifact is a plain file with one name."""
    with complete_file(folder / file.name) as partial:
        shutil.copyfile(file, partial)
    return file.name


@contextmanager
def _complete_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `path`, whole, when the block ends without an error."""
    making = path.with_name(f".making-{path.name}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        yield making
        for file in making.iterdir():
            sync(file)
        os.replace(making, path)
        sync(path.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)
