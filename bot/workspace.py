"""Work folders, named by what they hold: whoever needs the same thing finds the same folder.

    <home>/work/<kind>/<key>/         the content: real files, nothing of ours among them
    <home>/work/<kind>/<key>.json     the seal, written last: what is in the folder, with sizes and sha256
    <home>/work/<kind>/<key>.parts/   what a download has so far
    <home>/work/<kind>/<key>.lock     held while somebody makes the content
    <home>/work/<kind>/<key>.users/   one held lock per process that reads the content

A folder without a seal is unfinished. A lock that can be taken belongs to nobody alive, so nothing here
asks how old a process or a file is to find out whether it is in use. All of it can be deleted while nothing
runs.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from bot import disk
from bot.builds import BuildRequest
from bot.errors import BuildCancelled, NotEnoughRoom, PhimillError
from bot.models import digest
from bot.seals import Seal, drafts, make_seal, matches, read_seal, write_seal
from bot.settings import GIB, Settings

KINDS = ("source", "reference", "shared", "variant")
RETENTION = 14 * 24 * 3600.0  # seconds that a finished folder is kept after its last use
POLL = 0.2
GONE = ".gone-"  # a folder that is being deleted


class Source(Protocol):
    """Anything that names a source at one commit: a Release, a BuildRequest."""

    @property
    def repo(self) -> str: ...
    @property
    def sha(self) -> str: ...


class Workspace:
    """The work folders under one home."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.home / "work"
        self.disk_floor = settings.disk_floor
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)

    def source_dir(self, source: Source) -> Path:
        """Where the source's files lie; shared by every backend."""
        return self._folder("source", source.repo, source.sha)

    def reference_dir(self, source: Source, toolchain: str) -> Path:
        """Where the reference log-probabilities lie, made with the reference toolchain of that digest."""
        return self._folder("reference", source.repo, source.sha, toolchain)

    def shared_dir(self, source: Source, backend: str, toolchain: str) -> Path:
        """Where the work that several variants of one backend share lies."""
        return self._folder("shared", source.repo, source.sha, backend, toolchain)

    def variant_dir(self, build: BuildRequest, recipe: str) -> Path:
        """Where one variant of one build is made."""
        return self._folder("variant", build.key, recipe)

    @contextmanager
    def making(self, folder: Path, cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Be the only one to write `folder`; wait for whoever is at it. Look at `sealed` after entering.

        Raises:
            BuildCancelled: `cancelled` said so while waiting.
        """
        lock = FileLock(_lock_path(folder))
        while True:
            with suppress(Timeout):
                lock.acquire(timeout=POLL)
                break
            if cancelled():
                raise BuildCancelled("Cancelled while waiting for another build.")
        try:
            with self.using(folder):
                yield
        finally:
            lock.release()

    @contextmanager
    def using(self, folder: Path) -> Iterator[Path]:
        """Keep `folder` from being dropped by anybody while it is read, and count it as used now."""
        users = folder.with_name(f"{folder.name}.users")
        mine = users / f"{uuid.uuid4().hex}.lock"
        with self._gate():
            users.mkdir(exist_ok=True)
            lock = FileLock(mine)
            lock.acquire()
        with suppress(FileNotFoundError):
            os.utime(_seal_path(folder))
        try:
            yield folder
        finally:
            lock.release()
            mine.unlink(missing_ok=True)

    def in_use(self, folder: Path) -> bool:
        """Whether a living process reads or makes `folder`. Forgets the locks of the dead."""
        for left in folder.with_name(f"{folder.name}.users").glob("*.lock"):
            lock = FileLock(left)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return True
            left.unlink(missing_ok=True)
            lock.release()
        return False

    def seal(self, folder: Path, facts: Mapping[str, Any], known: Mapping[str, str] | None = None) -> Seal:
        """Say that `folder` is finished. From now on its files are read-only.

        Args:
            facts: whatever the maker wants to find again.
            known: sha256 by relative path of files that were hashed while they were written.

        Raises:
            PhimillError: the folder holds something that is not a plain file.
        """
        made = make_seal(folder, facts, known or {})
        write_seal(_seal_path(folder), made)
        return made

    def sealed(self, folder: Path, *, thorough: bool = False) -> Seal | None:
        """The seal of a finished folder that still is what it was, or None: then it must be made again.

        Sizes and times are compared; with `thorough`, or where a time differs, the bytes are hashed.
        """
        found = read_seal(_seal_path(folder))
        return found if found is not None and matches(folder, found, thorough=thorough) else None

    def clear(self, folder: Path) -> Path:
        """Empty `folder` and take its seal away. For whoever is `making` it."""
        _seal_path(folder).unlink(missing_ok=True)
        _remove(folder)
        folder.mkdir(parents=True)
        return folder

    def drop(self, folder: Path) -> bool:
        """Delete `folder` and all that belongs to it; False when somebody living uses it."""
        gone = []
        with self._gate():
            if self.in_use(folder):
                return False
            # Seal first: a crash in here leaves an unfinished folder, never a finished one with files
            # missing.
            for seal in (_seal_path(folder), *drafts(_seal_path(folder))):
                seal.unlink(missing_ok=True)
            for left in (folder, parts_dir(folder), folder.with_name(f"{folder.name}.users")):
                if left.exists():
                    gone.append(left.rename(folder.with_name(f"{GONE}{uuid.uuid4().hex}")))
            # Deleted while it is held: whoever waited for it sees that it is gone, and makes a new one.
            lock = FileLock(_lock_path(folder))
            with suppress(Timeout), lock.acquire(blocking=False):
                _lock_path(folder).unlink()
        for left in gone:
            _remove(left)
        return True

    def sweep(self, retention: float = RETENTION) -> list[Path]:
        """Delete what nobody uses: half-made folders, and anything not used for `retention` seconds.

        Half-made downloads and the work that variants share stay until then, because a build that was
        interrupted goes on with them. Returns what was deleted.
        """
        dropped = []
        for left in (self.root / "tmp").glob(".run-*"):  # of children whose bot was killed
            if time.time() - left.stat().st_mtime > retention:
                _remove(left)
        for kind in KINDS:
            for left in (self.root / kind).glob(f"{GONE}*"):
                _remove(left)
            for folder in self._folders(kind):
                resumable = kind in ("source", "shared")
                stale = time.time() - _last_used(folder) > retention
                if (stale or not (resumable or _seal_path(folder).exists())) and self.drop(folder):
                    dropped.append(folder)
        return dropped

    def require(self, need: int) -> None:
        """Make sure that `need` bytes can be written, deleting the longest unused folders if that helps.

        Raises:
            NotEnoughRoom: even then the disk would fall below its floor.
        """
        for folder in sorted((f for k in KINDS for f in self._folders(k)), key=_last_used):
            if self.free() >= need:
                return
            self.drop(folder)
        if self.free() < need:
            raise NotEnoughRoom(
                f"This needs {need / GIB:.1f} GiB of disk; {max(self.free(), 0) / GIB:.1f} GiB can be used.",
                "Free some space, or set PHIMILL_HOME to a larger disk.",
            )

    def free(self) -> int:
        """Bytes that may be written before the disk falls to its floor; negative when it is below."""
        return shutil.disk_usage(self.root).free - self.disk_floor

    def _folder(self, kind: str, *parts: str) -> Path:
        return self.root / kind / digest(*parts)[:32]

    def _folders(self, kind: str) -> list[Path]:
        """Everything of `kind` that is there in any state."""
        there = (path.name for path in (self.root / kind).iterdir() if not path.name.startswith(GONE))
        names = {name.removeprefix(".").split(".")[0] for name in there}  # with a dot: the draft of a seal
        return [self.root / kind / name for name in sorted(names)]

    def _gate(self) -> FileLock:
        """Held for moments, so that nobody starts to use a folder while it is being dropped."""
        return FileLock(self.root / "gate.lock")


def parts_dir(folder: Path) -> Path:
    """Where an unfinished download of `folder` is kept."""
    return folder.with_name(f"{folder.name}.parts")


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _seal_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _last_used(folder: Path) -> float:
    """Seconds since the epoch of the last sign of use: the seal's time, else the newest of what is there."""
    times = [0.0]
    for path in (_seal_path(folder), folder, parts_dir(folder)):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def _remove(path: Path) -> None:
    """Delete what a converter wrote."""
    if not disk.remove(path):
        raise PhimillError(f"{path} cannot be deleted.", "Delete it by hand.")
