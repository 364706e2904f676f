"""Putting a repo onto a Hub that no commit would have made: names, sizes and digests are what the author says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bot.localhub import history, repos
from bot.localhub.database import Database
from bot.localhub.history import Entry, git_blob_oid, lfs_pointer
from bot.localhub.repos import Repo

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".model", ".onnx", ".data", ".gguf")


@dataclass(frozen=True)
class Listed:
    """A file that the listing lies about."""

    data: bytes
    size: int | None = None
    digest: str | None = None


File = bytes | Listed
Files = Mapping[str, File]


class Shelf:
    """The storage of a Hub that is running, written without asking it."""

    def __init__(self, root: Path) -> None:
        self._blobs, self._database = root / "blobs", Database(root / "hub.sqlite")
        self._empty = ""  # the digest of nothing, once it is kept

    def put(self, repo: str, files: Files) -> str:
        """Make a repo with one commit that holds these files, or add one to it; returns the commit."""
        owner, _, name = repo.partition("/")
        entries = {path: self._entry(path, file) for path, file in files.items()}
        with self._database.write() as connection:
            found = repos.find(connection, "model", owner, name)
            if found is None:
                found = Repo(repos.new_id(), "model", owner, name, False, "", None, repos.now())
                repos.insert(connection, found)
            commit = history.insert(connection, found, None, entries, owner, "upload", "")
            history.set_ref(connection, found, "branch", "main", commit.oid)
        return commit.oid

    def delete(self, repo: str) -> None:
        """Take a repo away with its history."""
        owner, _, name = repo.partition("/")
        with self._database.write() as connection:
            connection.execute("DELETE FROM repos WHERE owner = ? AND name = ?", (owner, name))

    def move(self, repo: str, to: str) -> None:
        """Give a repo to somebody else, under the same or another name."""
        owner, _, name = repo.partition("/")
        with self._database.write() as connection:
            found = repos.find(connection, "model", owner, name)
            assert found is not None
            repos.rename(connection, found, *to.split("/"))

    def close(self) -> None:
        self._database.close()

    def _entry(self, path: str, file: File) -> Entry:
        listed = file if isinstance(file, Listed) else Listed(file)
        sha256 = self._sha256(listed.data)
        size = len(listed.data) if listed.size is None else listed.size
        if path.endswith(LARGE):
            # What a client is told of a large file is the name of its blob, so a lie needs a blob of that name.
            named = self._lie(listed.data, listed.digest) if listed.digest else sha256
            return Entry(path, git_blob_oid(lfs_pointer(named, size)), size, named, lfs=True)
        entry = Entry(path, git_blob_oid(listed.data), size, sha256, lfs=False)
        return replace(entry, oid=listed.digest) if listed.digest else entry

    def _sha256(self, data: bytes) -> str:
        """The digest of a blob, which is kept."""
        if not data and self._empty:
            return self._empty
        sha256 = hashlib.sha256(data).hexdigest()
        blob = self._blobs / sha256[:2] / sha256
        blob.parent.mkdir(exist_ok=True)
        if not blob.exists():
            blob.write_bytes(data)
        self._empty = self._empty if data else sha256
        return sha256

    def _lie(self, data: bytes, name: str) -> str:
        blob = self._blobs / name[:2] / name
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(data)
        return name
