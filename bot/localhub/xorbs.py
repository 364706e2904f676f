"""The write-only Xet store: keeps xorbs, and rebuilds files from them into the blob store.

Clients remember, per store address, which chunks they have sent and do not send them again, so a xorb must
stay for as long as the address. The address holds a store id: dropping the xorbs means taking a new id.

Xorbs are kept apart by user, because their names are not checked against their content (that would need
BLAKE3 of every chunk): nobody can plant a false xorb for somebody else, or learn of a chunk of theirs. What
counts, the SHA-256 of the rebuilt file, is always checked.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from bot.localhub.errors import BadRequestError
from bot.localhub.store import BlobStore, BlobWriter, place
from bot.localhub.xet_format import Chunk, Term, read_chunks, unpack

# Past this, the next start drops all xorbs: they only spare clients an upload, the files are blobs by then.
XORB_BUDGET = 32 * 1024**3
_INDEXES_KEPT = 16


class XorbStore:
    """Xorbs under `xorbs/<store id>/<user>/`."""

    def __init__(self, root: Path, store: BlobStore) -> None:
        self._folder = root / "xorbs"
        self._store = store
        self._indexes: OrderedDict[Path, list[Chunk]] = OrderedDict()
        self._lock = threading.Lock()
        self._folder.mkdir(exist_ok=True)
        self.id = self._open()

    def path(self, user: str, xorb: str) -> Path:
        """Return where a user's xorb lies or would lie. `xorb` must be 64 hex digits."""
        return self._folder / self.id / user / xorb[:2] / xorb

    def receive(self) -> XorbWriter:
        """Start taking a xorb."""
        return XorbWriter(self._store.tmp / uuid.uuid4().hex)

    def rebuild(self, user: str, sha256: str, size: int, terms: Iterable[Term]) -> None:
        """Write the blob `sha256` of `size` bytes from chunks of the user's xorbs.

        Raises:
            BadRequestError: a xorb or chunk is missing or damaged, or the result is another file.
        """
        with BlobWriter(self._store) as writer:
            for term in terms:
                before = writer.size
                self._copy_term(user, term, writer)
                if writer.size - before != term.size or writer.size > size:
                    raise BadRequestError("A term of the shard does not have the announced size.")
            writer.finish(sha256)

    def _copy_term(self, user: str, term: Term, writer: BlobWriter) -> None:
        path = self.path(user, term.xorb)
        try:
            with open(path, "rb") as file:
                chunks = self._index(path)
                if not term.start < term.end <= len(chunks):
                    raise BadRequestError("A term of the shard names chunks that its xorb does not have.")
                for chunk in chunks[term.start : term.end]:
                    file.seek(chunk.offset)
                    writer.write(unpack(chunk, file.read(chunk.packed)))
        except FileNotFoundError as error:
            raise BadRequestError(f"The xorb {term.xorb} has not been uploaded.") from error

    def _index(self, path: Path) -> list[Chunk]:
        with self._lock:
            if path in self._indexes:
                self._indexes.move_to_end(path)
                return self._indexes[path]
        with open(path, "rb") as file:
            chunks = read_chunks(file)
        with self._lock:
            self._indexes[path] = chunks
            while len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return chunks

    def _open(self) -> str:
        """Return the store id, a new one if there is none or the xorbs have outgrown their budget."""
        note = self._folder / "store-id"
        known = note.read_text("ascii") if note.exists() else ""
        if not known or _size_of(self._folder) > XORB_BUDGET:
            known = secrets.token_hex(8)
            draft = note.with_suffix(".new")
            draft.write_text(known, "ascii")
            os.replace(draft, note)
        for folder in self._folder.iterdir():
            if folder.is_dir() and folder.name != known:
                shutil.rmtree(folder, ignore_errors=True)
        return known


class XorbWriter:
    """One xorb on its way in. Leaving the `with` block without `finish` discards it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "x+b")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> XorbWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._file.write(data)

    def finish(self, target: Path) -> bool:
        """Check the chunk headers and move the xorb to `target`. Return False if one was there already."""
        read_chunks(self._file)
        if target.exists():
            return False
        self._file.flush()
        os.fsync(self._file.fileno())
        place(self._path, target)
        return True


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
