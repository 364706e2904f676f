"""One locked Python environment per backend, made with uv the first time it is needed.

A backend is a folder of `converters` with a `requirements.txt` (pinned, made from its `requirements.in`).
Beside it there may be a `build.txt`, a lock of what its packages are built with, and a `toolchain.toml`:

    needs_compiler = true           # something in it is built from source
    [minutes]                       # how long that takes on two cores, for people who wait
    llama-cpp-python = 4
    [config_settings.llama-cpp-python]  # what its build is told (PEP 517)
    "cmake.define.GGML_NATIVE" = "OFF"

An environment lives in a folder named after its lock, so a new lock is a new environment and never a
changed one. Environments hold absolute paths and cannot be moved into place. Instead the marker file is
written last, under a lock that uv inherits: after a `kill -9` of the bot it is released when the last
writer has gone, and not before.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bot.errors import BuildCancelled, ToolchainFailed, UsageError
from bot.settings import Settings, get_settings
from bot.toolchain_build import MARKER, Making, Progress, options_in


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A finished environment. `versions` maps each distribution's name to its version."""

    backend: str
    path: Path
    python: Path
    digest: str
    versions: Mapping[str, str]


def converters_root() -> Path:
    """The folder of the `converters` package, found without importing it."""
    spec = find_spec("converters")
    if spec is None or not spec.submodule_search_locations:
        raise ToolchainFailed("The converters package is missing.", "Install phimill again.")
    return Path(next(iter(spec.submodule_search_locations)))


def backends() -> list[str]:
    """The names of every backend there is."""
    return sorted(lock.parent.name for lock in converters_root().glob("*/requirements.txt"))


def options(backend: str) -> dict[str, Any]:
    """The backend's `toolchain.toml`; empty where it has none."""
    return options_in(_folder(backend))


def lock_digest(backend: str) -> str:
    """sha256 (hex) of everything that decides what the environment holds."""
    hasher = hashlib.sha256("python{}.{}".format(*sys.version_info).encode())
    for name in ("requirements.txt", "build.txt", "toolchain.toml"):
        path = _folder(backend) / name
        content = path.read_bytes() if path.exists() else b""
        hasher.update(f"\n{name} {len(content)}\n".encode() + content)
    return hasher.hexdigest()


def installed(backend: str, *, settings: Settings | None = None) -> Toolchain | None:
    """The backend's environment if it is finished and its interpreter still exists."""
    digest = lock_digest(backend)
    path = (settings or get_settings()).toolchains.absolute() / f"{backend}-{digest[:12]}"
    python = path / "bin" / "python"
    try:
        marker = json.loads((path / MARKER).read_text())
    except (OSError, ValueError):
        return None
    if marker.get("digest") != digest or not os.access(python, os.X_OK):
        return None
    return Toolchain(backend, path, python, digest, marker["versions"])


def ensure(
    backend: str,
    *,
    on_progress: Progress | None = None,
    settings: Settings | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Toolchain:
    """The backend's environment, made now if it is not there yet. Processes that ask at once make it once.

    Raises:
        ToolchainFailed: it could not be made; the hint names the full log.
        BuildCancelled: `cancelled` said so.
        UsageError: there is no such backend.
    """
    settings = settings or get_settings()
    tell = on_progress or (lambda _: None)
    found = installed(backend, settings=settings)
    if found is not None:
        return found
    digest = lock_digest(backend)
    name = f"{backend}-{digest[:12]}"
    home = settings.toolchains.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home / f".{name}.lock", tell, cancelled) as lock:
        found = installed(backend, settings=settings)
        if found is None:
            tell(f"Making the {backend} toolchain; this happens once.")
            Making(backend, _folder(backend), home / name, lock, settings, tell, cancelled).make(digest)
            found = installed(backend, settings=settings)
    if found is None:
        raise ToolchainFailed(f"The {backend} toolchain vanished while it was made.", "Try again.")
    return found


def named_versions(backend: str, *, settings: Settings | None = None) -> dict[str, str]:
    """The versions of the packages that the backend's `requirements.in` names; empty before it is made."""
    found = installed(backend, settings=settings)
    wanted = _folder(backend) / "requirements.in"
    if found is None or not wanted.exists():
        return {}
    lines = wanted.read_text().splitlines()
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines}
    return {name: version for name, version in found.versions.items() if name.replace("_", "-") in names}


def code_path(*, settings: Settings | None = None) -> Path:
    """A folder with the `converters` package and nothing else, for a child's PYTHONPATH and its fence."""
    settings = settings or get_settings()
    root = converters_root()
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    hasher = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        hasher.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    home = settings.toolchains.absolute()
    final = home / f"code-{hasher.hexdigest()[:12]}"
    if final.exists():
        return final
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home / ".code.lock", lambda _: None, lambda: False):
        if not final.exists():
            part = home / ".code-part"
            shutil.rmtree(part, ignore_errors=True)
            for path in files:
                target = part / "converters" / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            part.rename(final)
    return final


def _folder(backend: str) -> Path:
    if backend not in backends():
        known = ", ".join(backends()) or "none"
        raise UsageError(f"There is no backend {backend!r}.", f"Known backends: {known}.")
    return converters_root() / backend


@contextmanager
def _lock(path: Path, tell: Progress, cancelled: Callable[[], bool]) -> Iterator[int]:
    """Hold the file's lock. Yields the descriptor: whoever inherits it holds the lock too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    told = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    tell("Waiting for another process that is making the same toolchain.")
                    told = True
            if cancelled():
                raise BuildCancelled("The build was cancelled.")
            time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)
