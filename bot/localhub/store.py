"""Content-addressed files: `blobs/ab/abcdef…` named by the SHA-256 of what they hold.

A blob is written to `tmp/`, synced, and renamed into place, so a name in `blobs/` always means whole content.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from bot.localhub.errors import BadRequestError, TooLargeError

# Space that uploads may not use up, so that the database can always commit.
DISK_RESERVE = 256 * 1024 * 1024


class BlobStore:
    """Blobs under one root. Opening it removes what an interrupted process left in `tmp/`."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self.tmp = root / "tmp"
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.tmp.mkdir(parents=True)
        self._blobs.mkdir(exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where the blob lies or would lie. `sha256` must be 64 hex digits."""
        return self._blobs / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Say whether the blob is there."""
        return self.path(sha256).is_file()

    def put(self, content: bytes) -> str:
        """Store `content` and return its SHA-256."""
        with BlobWriter(self) as writer:
            writer.write(content)
            return writer.finish()

    def keep_only(self, sha256s: Collection[str]) -> None:
        """Delete every other blob. Call it when nothing is being uploaded."""
        for path in self._blobs.glob("*/*"):
            if path.name not in sha256s:
                path.unlink()

    def check_room(self, size: int) -> None:
        """Raise `TooLargeError` if `size` more bytes would not fit on the disk."""
        free = shutil.disk_usage(self.tmp).free
        if size + DISK_RESERVE > free:
            raise TooLargeError(f"This Hub's disk has no room for {size} more bytes.")


class BlobWriter:
    """One blob on its way in. Leaving the `with` block without `finish` discards it."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._path = store.tmp / uuid.uuid4().hex
        self._file = open(self._path, "xb")  # noqa: SIM115 - closed in __exit__
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self, expected: str | None = None) -> str:
        """Move the blob into place and return its SHA-256.

        Raises:
            BadRequestError: the content is not the `expected` one.
        """
        sha256 = self._hash.hexdigest()
        if expected is not None and sha256 != expected:
            raise BadRequestError(f"The uploaded content has SHA-256 {sha256}, not {expected} as announced.")
        target = self._store.path(sha256)
        if not target.is_file():
            self._file.flush()
            os.fsync(self._file.fileno())
            place(self._path, target)
        return sha256


def place(source: Path, target: Path) -> None:
    """Rename `source`, already synced, to `target`, and make the new name durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    if os.name == "posix":  # Windows has no directory handles to sync.
        for folder in (target.parent, target.parent.parent):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
