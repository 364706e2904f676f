"""The source at one exact commit, as a folder of real, read-only files: downloaded once, shared by all
backends.

Only what `bot.filenames` lists is downloaded. Sizes and digests are known before a byte flows and hold for
every file: sha256 for large ones, git's blob sha1 for small ones. After a crash, finished files are kept and
the one in flight goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import stamina

from bot import filenames, safetensors_header
from bot.errors import BuildCancelled, HubUnreachable, SourceCorrupt, VerdictRefused
from bot.hub import Hub
from bot.hub_errors import retry_after
from bot.models import Release, SourceFile
from bot.seals import file_sha256
from bot.workspace import Workspace, parts_dir

ATTEMPTS = 6
ASK_THERE = "Report it to the source repo; a later commit may repair it."
SYNC_BYTES = 64 * 1024**2

Progress = Callable[[int, int], None]


def fetch(
    hub: Hub,
    release: Release,
    workspace: Workspace,
    progress: Progress = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """The folder with the release's files. Cheap when it is there already; a second process waits for the
    first.

    Args:
        progress: gets bytes done and bytes in all, at every block.

    Raises:
        VerdictRefused: the release has no safetensors.
        SourceCorrupt: a name, a size, a digest or a safetensors header is not right.
        NotEnoughRoom: the disk would fall below its floor.
        HubError: any of its kinds, after retries.
        BuildCancelled: `cancelled` said so.
    """
    folder = workspace.source_dir(release)
    files = filenames.wanted(release.files)
    total = sum(file.size for file in files)
    with workspace.making(folder, cancelled):
        if workspace.sealed(folder) is None:
            _check(release, files)
            known = _Download(hub, release, workspace, folder, progress, cancelled).run(files, total)
            check_on_disk(folder, files)
            workspace.seal(folder, {"repo": release.repo, "sha": release.sha}, known)
            for left in parts_dir(folder).iterdir():
                left.unlink()
            parts_dir(folder).rmdir()
    progress(total, total)
    return folder


def check_on_disk(folder: Path, files: tuple[SourceFile, ...]) -> None:
    """Check again, on the bytes that converters will map, what the verdict checked by Range requests.

    Raises:
        SourceCorrupt: names the file and the tensor.
    """
    headers = {}
    for file in files:
        if file.path.endswith(".safetensors"):
            with (folder / file.path).open("rb") as opened:

                def read_range(start: int, end: int) -> bytes:
                    opened.seek(start)
                    return opened.read(end - start)

                headers[file.path] = safetensors_header.read(file.path, file.size, read_range)
    safetensors_header.merge(headers.values())
    index = folder / filenames.INDEX
    if index.is_file():
        safetensors_header.check_index(filenames.INDEX, index.read_text(encoding="utf-8"), headers)


def _check(release: Release, files: tuple[SourceFile, ...]) -> None:
    filenames.check_all(release.files)
    if not any(file.path.endswith(".safetensors") for file in files):
        raise VerdictRefused(f"{release.repo} has no safetensors.", "Weights in pickles are never loaded.")
    if any(file.size < 0 or len(file.digest) not in (40, 64) for file in files):
        raise SourceCorrupt(f"{release.repo}: the listing lacks sizes or digests.", ASK_THERE)


class _Download:
    """One run of downloading what is still missing."""

    def __init__(
        self,
        hub: Hub,
        release: Release,
        workspace: Workspace,
        folder: Path,
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:
        self._hub, self._release, self._workspace = hub, release, workspace
        self._folder, self._parts = folder, parts_dir(folder)
        self._progress, self._cancelled = progress, cancelled
        self._done = self._total = 0

    def run(self, files: tuple[SourceFile, ...], total: int) -> dict[str, str]:
        """Download; returns sha256 by path."""
        self._total = total
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o755)
        self._parts.mkdir(exist_ok=True)
        self._remove_strangers({file.path for file in files})
        missing = sum(file.size - self._size_so_far(file) for file in files)
        self._workspace.require(missing)
        return {file.path: self._finished(file) or self._get(file) for file in files}

    def _remove_strangers(self, names: set[str]) -> None:
        """A sealed folder must hold the release's files and nothing else."""
        for path in self._folder.iterdir():
            if path.name not in names or path.is_symlink() or not path.is_file():
                raise SourceCorrupt(f"{path} is not part of the source.", "Delete the folder that it is in.")

    def _size_so_far(self, file: SourceFile) -> int:
        paths = (self._folder / file.path, self._parts / f"{file.path}.part")
        return min(file.size, max(path.stat().st_size if path.is_file() else 0 for path in paths))

    def _finished(self, file: SourceFile) -> str | None:
        """The sha256 of a file that an earlier run finished, from its marker; hashed if it was touched."""
        path, marker = self._folder / file.path, self._marker(file)
        if not path.is_file() or path.stat().st_size != file.size or not marker.is_file():
            return None
        # A marker may be empty after a power cut: then the file is read once more.
        digest, sha256, changed = (*marker.read_text().split(), "", "", "0")[:3]
        if digest != file.digest:
            return None
        if int(changed) != path.stat().st_mtime_ns and file_sha256(path) != sha256:
            return None
        self._advance(file.size)
        return sha256

    def _get(self, file: SourceFile) -> str:
        """Download one file, verify it, and put it in its place; returns its sha256."""
        part = self._parts / f"{file.path}.part"
        before = self._done
        sha256, digest = self._transfer(file, part)
        if digest != file.digest:
            # What was left of an earlier run may have been damaged; the whole file again, once.
            part.unlink()
            self._done = before
            sha256, digest = self._transfer(file, part)
        if digest != file.digest:
            part.unlink()
            raise SourceCorrupt(
                f"{self._release.repo}: {file.path} does not have the digest that the Hub lists.", ASK_THERE
            )
        marker = self._marker(file)
        marker.write_text(f"{file.digest} {sha256} {part.stat().st_mtime_ns}")
        os.replace(part, self._folder / file.path)
        return sha256

    def _transfer(self, file: SourceFile, part: Path) -> tuple[str, str]:
        """Bring `part` to its full size, also over broken connections. Returns sha256 and listed digest."""
        writer = _Writer(part, file)
        try:
            self._advance(writer.size)
            for attempt in stamina.retry_context(on=retry_after, attempts=ATTEMPTS, timeout=None):
                with attempt:
                    self._stream(file, writer)
        finally:
            writer.close()
        return writer.digests()

    def _stream(self, file: SourceFile, writer: _Writer) -> None:
        if writer.size == file.size:
            return
        with self._hub.stream(self._release.repo, self._release.sha, file.path, writer.size) as blocks:
            for block in blocks:
                if self._cancelled():
                    raise BuildCancelled("The build was cancelled.")
                writer.write(block)
                self._advance(len(block))
        if writer.size < file.size:
            raise HubUnreachable(f"{file.path} ended after {writer.size} of {file.size} bytes.", "Try again.")

    def _advance(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._total)

    def _marker(self, file: SourceFile) -> Path:
        return self._parts / f"{file.path}.done"


class _Writer:
    """Appends to a partial file and hashes on the way, so that every byte is read once."""

    def __init__(self, part: Path, file: SourceFile) -> None:
        self._limit, self._name, self._long = file.size, file.path, len(file.digest) == 64
        self._sha256 = hashlib.sha256()
        # git's name for a blob; the collision weakness does not matter beside the size and the commit's own
        # sha.
        self._sha1 = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        self.size = 0
        self._file = part.open("a+b")
        if os.fstat(self._file.fileno()).st_size > file.size:
            self._file.truncate(0)
        self._file.seek(0)
        while block := self._file.read(1024 * 1024):
            self._take(block)
        self._synced = self.size

    def write(self, block: bytes) -> None:
        """Append `block`.

        Raises:
            SourceCorrupt: more bytes than the listing said.
        """
        if self.size + len(block) > self._limit:
            raise SourceCorrupt(f"{self._name} is larger than the Hub lists.", "Nothing more of it is read.")
        self._file.write(block)
        self._take(block)
        if self.size - self._synced >= SYNC_BYTES:
            self._sync()

    def digests(self) -> tuple[str, str]:
        """sha256, and the digest in the form that the listing has."""
        sha256 = self._sha256.hexdigest()
        return sha256, sha256 if self._long else self._sha1.hexdigest()

    def close(self) -> None:
        with self._file:  # closed also where the disk has no room for the rest of it
            self._sync()

    def _take(self, block: bytes) -> None:
        self._sha256.update(block)
        if not self._long:
            self._sha1.update(block)
        self.size += len(block)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = self.size
