"""A commit on its way in: which files go where, and all changes or none."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from bot.localhub import objects
from bot.localhub.calls import json_object, text_field
from bot.localhub.errors import BadRequestError
from bot.localhub.history import Entry, git_blob_oid, lfs_pointer
from bot.localhub.names import check_path
from bot.localhub.repos import Repo
from bot.localhub.store import BlobStore

MAX_REGULAR = 10 * 1024 * 1024  # bytes; larger files must be uploaded as LFS
MAX_LINE = MAX_REGULAR // 3 * 4 + 64 * 1024
MAX_OPERATIONS = 25_000

_SHA256 = re.compile("[0-9a-f]{64}")
_LFS_ENDINGS = (
    "7z", "arrow", "bin", "bz2", "ckpt", "data", "ftz", "gguf", "gz", "h5", "joblib", "mlmodel", "model",
    "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle", "pkl", "pt", "pth", "rar",
    "safetensors", "tar", "tflite", "tgz", "wasm", "xz", "zip", "zst",
)  # fmt: skip


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Say whether a file belongs in LFS: by its ending, its size, or because its start is not text."""
    if posixpath.splitext(path)[1][1:].lower() in _LFS_ENDINGS or size >= MAX_REGULAR:
        return True
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        # The sample may end within a character.
        if error.start < len(sample) - 3:
            return True
    return b"\0" in sample


def attributes_file(store: BlobStore) -> Entry:
    """Return the `.gitattributes` that every repository starts with."""
    lines = [f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in _LFS_ENDINGS]
    return regular_file(store, ".gitattributes", "".join(lines).encode())


def regular_file(store: BlobStore, path: str, content: bytes) -> Entry:
    """Store a small file and return its entry."""
    return Entry(path, git_blob_oid(content), len(content), store.put(content), lfs=False)


@dataclass
class Draft:
    """The operations of one commit, read line by line. Contents are stored at once, nothing is applied."""

    store: BlobStore
    title: str | None = None
    message: str = ""
    parent: str | None = None
    operations: list[tuple[str, Any]] = field(default_factory=list)

    def add_line(self, line: bytes) -> None:
        """Take one line of the NDJSON body. Raises `BadRequestError` for a line that cannot be."""
        item = json_object(line)
        key, value = item.get("key"), item.get("value")
        if not isinstance(value, dict):
            raise BadRequestError("Each line of a commit needs a 'value' object.")
        if key == "header":
            self._header(value)
            return
        if self.title is None:
            raise BadRequestError("A commit starts with its 'header' line.")
        if len(self.operations) >= MAX_OPERATIONS:
            raise BadRequestError(f"A commit may hold at most {MAX_OPERATIONS} operations.")
        path = text_field(value, "path")
        if key == "file":
            self.operations.append(("put", self._file(check_path(path), value)))
        elif key == "lfsFile":
            self.operations.append(("put", self._large(check_path(path), value)))
        elif key in ("deletedFile", "deletedFolder"):
            self.operations.append((str(key), check_path(path.rstrip("/"))))
        else:
            raise BadRequestError(f"Unknown operation {str(key)[:50]!r} in the commit.")

    def apply(self, connection: sqlite3.Connection, repo: Repo, files: dict[str, Entry]) -> dict[str, Entry]:
        """Return `files` with the operations done, in order.

        Raises:
            BadRequestError: a deleted path or a large file is not there, or a path would be file and folder.
        """
        result = dict(files)
        for action, subject in self.operations:
            if action == "put":
                entry = self._known(connection, repo, subject)
                old = files.get(entry.path)
                # An unchanged file keeps the commit that last touched it.
                same = old is not None and old.oid == entry.oid and old.lfs == entry.lfs
                result[entry.path] = old if old is not None and same else entry
            else:
                _delete(result, action, subject)
        _check_shape(result)
        return result

    def _header(self, value: dict[str, Any]) -> None:
        self.title = text_field(value, "summary")[:500]
        self.message = text_field(value, "description", "") if value.get("description") else ""
        parent = value.get("parentCommit")
        if parent is not None and not isinstance(parent, str):
            raise BadRequestError("'parentCommit' must be a string.")
        self.parent = parent

    def _file(self, path: str, value: dict[str, Any]) -> Entry:
        content = text_field(value, "content", "")
        if value.get("encoding") == "base64":
            try:
                data = base64.b64decode(content, validate=True)
            except (binascii.Error, ValueError) as error:
                raise BadRequestError(f"The content of {path!r} is not valid base64.") from error
        else:
            data = content.encode("utf-8")
        return regular_file(self.store, path, data)

    def _large(self, path: str, value: dict[str, Any]) -> Entry:
        oid = text_field(value, "oid")
        if value.get("algo", "sha256") != "sha256" or not _SHA256.fullmatch(oid):
            raise BadRequestError(f"The LFS object of {path!r} must be named by a lower-case SHA-256.")
        return Entry(path, "", 0, oid, lfs=True)

    def _known(self, connection: sqlite3.Connection, repo: Repo, entry: Entry) -> Entry:
        """Complete a large file's entry from the object that was uploaded before."""
        if not entry.lfs:
            return entry
        size = objects.size_in(connection, repo.id, entry.sha256)
        if size is None or not self.store.has(entry.sha256):
            raise BadRequestError(
                f"The LFS object {entry.sha256} of {entry.path!r} has not been uploaded to this repo."
            )
        oid = git_blob_oid(lfs_pointer(entry.sha256, size))
        return Entry(entry.path, oid, size, entry.sha256, lfs=True)


def _delete(files: dict[str, Entry], action: str, path: str) -> None:
    if action == "deletedFolder":
        gone = [known for known in files if known.startswith(f"{path}/")]
    else:
        gone = [path] if path in files else []
    if not gone:
        raise BadRequestError(f"A file with the name {path!r} does not exist: it cannot be deleted.")
    for known in gone:
        del files[known]


def _check_shape(files: dict[str, Entry]) -> None:
    """Raise `BadRequestError` if a file's path is also a folder."""
    for path in files:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise BadRequestError(f"{parent!r} would be both a file and a folder.")
            parent = parent.rpartition("/")[0]
