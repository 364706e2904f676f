"""A seal: the list of what a finished folder holds, and the proof that it still does."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from bot.errors import PhimillError
from bot.models import Frozen, Sha256

MAX_SEAL = 16 * 1024**2


class SealedFile(Frozen):
    """One file: bytes, sha256, and the time of its last change in nanoseconds."""

    size: int
    sha256: Sha256
    changed: int


class Seal(Frozen):
    """Everything in a folder by relative path, and what its maker wanted to find again."""

    files: dict[str, SealedFile]
    facts: dict[str, Any] = Field(default_factory=dict)


def make_seal(folder: Path, facts: Mapping[str, Any], known: Mapping[str, str]) -> Seal:
    """Make everything in `folder` read-only and describe it. `known` spares a second hash of what it names.

    Raises:
        PhimillError: there is a link, a device or the like in the folder.
    """
    files = {}
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        path.chmod(0o444)
        status = path.stat()
        sha256 = known.get(name) or file_sha256(path)
        files[name] = SealedFile(size=status.st_size, sha256=sha256, changed=status.st_mtime_ns)
    folder.chmod(0o555)
    return Seal(files=files, facts=dict(facts))


def write_seal(path: Path, seal: Seal) -> None:
    """Write `seal` to `path`."""
    write_whole(path, seal.model_dump_json().encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there completely or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def drafts(path: Path) -> Iterator[Path]:
    """What those who were killed while they wrote `path` have left. For whoever knows that nobody is writing it."""
    return path.parent.glob(f".{glob.escape(path.name)}-*")


def read_seal(path: Path) -> Seal | None:
    """The seal at `path`; None when there is none or it is not one."""
    try:
        if path.stat().st_size > MAX_SEAL:
            return None
        return Seal.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def matches(folder: Path, seal: Seal, *, thorough: bool = False) -> bool:
    """Whether `folder` holds exactly what `seal` says."""
    try:
        there = {path.relative_to(folder).as_posix(): path for path in walk(folder)}
        return set(there) == set(seal.files) and all(
            _same(there[name], file, thorough) for name, file in seal.files.items()
        )
    except (FileNotFoundError, PhimillError):
        return False


def walk(folder: Path) -> Iterator[Path]:
    """Every file under `folder`, sorted.

    Raises:
        PhimillError: something in it is neither a plain file nor a folder.
    """
    pending = [folder]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                pending.append(path)
            elif stat.S_ISREG(mode):
                yield path
            else:
                raise PhimillError(f"{path.name!r} is neither a file nor a folder.", "A converter may not make links.")


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(path: Path, file: SealedFile, thorough: bool) -> bool:
    status = path.stat()
    if status.st_size != file.size:
        return False
    return (status.st_mtime_ns == file.changed and not thorough) or file_sha256(path) == file.sha256
