"""Files that are either complete or absent: written beside their name, flushed to disk, then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SUFFIX = ".partial"


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; `path` appears, whole, when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{_SUFFIX}")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder alone among processes; the lock goes with the process, however that ends."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sweep(folder: Path) -> None:
    """Remove what a killed run left behind."""
    if not folder.is_dir():
        return
    for left in folder.glob(f".*{_SUFFIX}"):
        left.unlink()


def write_json(path: Path, value: Any) -> None:
    with complete_file(path) as partial:
        partial.write_text(json.dumps(value, sort_keys=True, allow_nan=False), encoding="utf-8")


def key_of(*parts: Any) -> str:
    """A short name for a combination of inputs: the same inputs give the same name."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or a folder's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
