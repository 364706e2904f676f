"""The contract between the mill and its converters: one JSON request in, JSON lines out.

A converter is a folder of this package that runs as `python -m converters.<backend>` in its own
environment. It reads one request (one line of JSON) from stdin and writes one event per line to stdout. It
ends with exit code 0, or with 1 after an `error` event. Everything else that a library prints goes to
stderr, which the mill keeps as a log.

Requests (`verb` picks the dataclass below; unknown fields are refused):

    {"verb": "describe"}
    {"verb": "convert",  ...ConvertRequest}
    {"verb": "evaluate", ...EvaluateRequest}       a backend: artifact against the reference
    {"verb": "evaluate", ...ReferenceRequest}      the `reference` backend: the source itself

Events:

    {"event": "described", "backend", "versions": {package: version}, "architectures": [class names]}
    {"event": "progress",  "stage", "done", "total", "unit"}        at most about five a second for one stage
    {"event": "log",       "level", "text"}
    {"event": "artifact",  "recipe", "files": [names], "extras": [names], "bits_per_weight", "facts": {...}}
    {"event": "reference", "windows", "window_tokens", "vocabulary", "perplexity", "end_tokens": [ids]}
    {"event": "metrics",   "values": {the fields of the mill's Fidelity}, "details": {...}}
    {"event": "error",     "code", "message", "hint"}               code: see `ConverterError`

An artifact's `files` are what a person downloads to run it, relative to `out`; the first is the one its runtime is
pointed at (or whose folder is), and the one that `evaluate` gets. `extras` lie beside them in the repo.

Paths in a request are absolute. The child may write below `out`, `shared`, `save_baseline` and its own
temporary folder, and needs no network. `converters.serve` answers requests; both use the standard library
alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO


class ConverterError(Exception):
    """Something a converter can explain. `code` is one of the mill's error codes.

    `converter_failed`: the tool said no. `source_corrupt`: the source's bytes are not what they claim.
    `not_enough_room`: the disk is full.
    """

    def __init__(self, message: str, hint: str = "", code: str = "converter_failed") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


@dataclass(frozen=True)
class RecipeRequest:
    """What to make: `file` is the first file's path with `{m}` for the model's name, `options` the backend's own."""

    id: str
    file: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metadata:
    """What a file says about its origin: `source_*` was converted, `repo_url` is where it will live."""

    source_repo: str = ""
    source_url: str = ""
    source_revision: str = ""
    repo_url: str = ""
    license: str = ""
    license_name: str = ""
    license_link: str = ""
    quantized_by: str = "phimill"
    tags: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConvertRequest:
    """Make one recipe. What recipes have in common is kept in `shared` and used again by the next call.

    Several children may share `shared`, but each has its `out` to itself while it runs.
    """

    source: Path
    out: Path
    shared: Path
    recipe: RecipeRequest
    model_name: str
    calibration: Path
    metadata: Metadata = field(default_factory=Metadata)
    split_bytes: int = 0
    threads: int = 1


@dataclass(frozen=True)
class ReferenceRequest:
    """Run the source over the windows of `text` and over chat prompts; leave log-probabilities in `out`.

    `out` is complete when its `meta.json` is there, and so is a `save_baseline` folder.
    """

    source: Path
    out: Path
    text: Path
    windows: int = 8
    window_tokens: int = 256
    threads: int = 1
    memory: int = 0


@dataclass(frozen=True)
class EvaluateRequest:
    """Compare an artifact (its first file) with the reference, and with its backend's unquantized export.

    Where its source's folder is given too, weights are compared with weights.
    """

    artifact: Path
    reference: Path
    source: Path | None = None
    baseline: Path | None = None
    save_baseline: Path | None = None
    threads: int = 1


Request = ConvertRequest | ReferenceRequest | EvaluateRequest


class Events:
    """Writes events to the mill, one JSON object a line. NaN and infinity are not JSON and are refused."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[str, float] = {}

    def emit(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}, ensure_ascii=True, allow_nan=False)
        self._stream.write(line + "\n")
        self._stream.flush()

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Tell how far a stage is. Most calls are dropped; the first and the last of a stage never are."""
        now = time.monotonic()
        if 0 < done < total and now - self._last.get(stage, -math.inf) < 0.2:
            return
        self._last[stage] = now
        self.emit("progress", stage=stage, done=done, total=total, unit=unit)

    def log(self, level: str, text: str) -> None:
        self.emit("log", level=level, text=text[:2000])


class Backend(Protocol):
    """What a backend's module offers to `serve`; a verb it lacks is refused."""

    PACKAGES: tuple[str, ...]

    def architectures(self) -> list[str]: ...
    def convert(self, request: ConvertRequest, events: Events) -> None: ...
    def evaluate(self, request: Any, events: Events) -> None: ...


def parse_request(payload: Mapping[str, Any], evaluate: type[Any] = EvaluateRequest) -> Request:
    """Make the typed request out of the JSON object.

    Raises:
        ConverterError: an unknown verb or field, a missing one, or one of the wrong type.
    """
    values = dict(payload)
    verb = values.pop("verb", None)
    kinds: dict[Any, type[Any]] = {"convert": ConvertRequest, "evaluate": evaluate}
    if verb not in kinds:
        raise ConverterError(f"{verb!r} is not a verb of this converter.", "Use describe, convert or evaluate.")
    return typing.cast(Request, _build(kinds[verb], values))


def _build(cls: type[Any], values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise ConverterError(f"{cls.__name__} must be an object.")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    missing = sorted(
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    if unknown or missing:
        raise ConverterError(f"{cls.__name__}: unknown fields {unknown}, missing fields {missing}.")
    return cls(**{name: _coerce(f"{cls.__name__}.{name}", hints[name], value) for name, value in values.items()})


def _coerce(where: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value)
    if hint == (Path | None):
        return None if value is None else _coerce(where, Path, value)
    if hint is Path and isinstance(value, str) and Path(value).is_absolute():
        return Path(value)
    if hint in (str, int) and type(value) is hint:
        return value
    if hint == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if hint == dict[str, Any] and isinstance(value, dict):
        return value
    raise ConverterError(f"{where} has a value of the wrong type: {value!r:.80}.")
