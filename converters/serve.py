"""Answers one request: keeps stdout clean, runs the backend, turns what goes wrong into an `error` event.

The backend's module is imported only when stdout is safe, so that an import that fails or prints is
reported too.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import json
import logging
import os
import sys
import traceback
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from converters.base import Backend, ConverterError, EvaluateRequest, Events, parse_request


@contextmanager
def only_events_on_stdout() -> Iterator[TextIO]:
    """Keep the real stdout for events; file descriptor 1 becomes stderr, where libraries may print."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()


class _Forward(logging.Handler):
    """Passes a library's warnings on to the mill."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.log(record.levelname.lower(), record.getMessage())


def serve(name: str, module: str, evaluate: type[Any] = EvaluateRequest) -> int:
    """Answer one request with the backend in `module`; return the exit code."""
    # OpenMP's threads spin while they wait. Where others want the cores too, that made llama.cpp ten times slower.
    # Read when the library is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with only_events_on_stdout() as stream:
        events = Events(stream)
        logging.getLogger().addHandler(_Forward(events))
        try:
            _answer(name, module, evaluate, events)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            explained = explain(error)
            events.emit("error", code=explained.code, message=explained.message, hint=explained.hint)
            return 1
    return 0


def _answer(name: str, module: str, evaluate: type[Any], events: Events) -> None:
    payload = json.loads(sys.stdin.readline())
    if not isinstance(payload, dict):
        raise ConverterError("The request must be a JSON object.")
    if payload.get("verb") == "describe":
        backend: Backend = typing.cast(Backend, importlib.import_module(module))
        versions = {package: importlib.metadata.version(package) for package in backend.PACKAGES}
        events.emit("described", backend=name, versions=versions, architectures=backend.architectures())
        return
    request = parse_request(payload, evaluate)
    backend = typing.cast(Backend, importlib.import_module(module))
    verb = getattr(backend, payload["verb"], None)
    if verb is None:
        raise ConverterError(f"The {name} backend cannot {payload['verb']}.")
    verb(request, events)


def explain(error: Exception) -> ConverterError:
    """Turn any exception into one sentence for a person and one with what to do."""
    if isinstance(error, ConverterError):
        return error
    if isinstance(error, json.JSONDecodeError):
        return ConverterError("The request is not one line of JSON.", "See converters/base.py for the contract.")
    if isinstance(error, MemoryError):
        return ConverterError("The converter ran out of memory.", "Raise its memory limit or use a larger machine.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ConverterError("The disk is full.", "Free some space and run the build again.", code="not_enough_room")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return ConverterError("A file would be larger than the limit.", "Raise the converter's file size limit.")
    text = " ".join(str(error).split())[:300]
    return ConverterError(f"{type(error).__name__}: {text}.", "The converter's log has the details.")
