"""Downloading: verified while it is written, resumed after a crash, refused when anything is not as listed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import phi_repos
import pytest
import stamina
from phi_repos import FolderHub, put

from bot import catalog
from bot.errors import BuildCancelled, HubUnreachable, NotEnoughRoom, SourceCorrupt, VerdictRefused
from bot.fetch import _Writer, fetch
from bot.models import Release, RepoRef, SourceFile
from bot.settings import Settings
from bot.workspace import Workspace, parts_dir

REF = RepoRef(repo="microsoft/phi")
WEIGHTS = "model.safetensors"


class Shaky(FolderHub):
    """Breaks the connection once, after `breaks_after` bytes of the weights."""

    breaks_after: int | None = None
    error: type[Exception] = HubUnreachable
    starts: list[int]

    @contextmanager
    def stream(self, repo: str, sha: str, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        with super().stream(repo, sha, path, start) as blocks:
            yield self._blocks_until_it_breaks(path, start, blocks)

    def _blocks_until_it_breaks(self, path: str, start: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
        if path == WEIGHTS:
            self.starts.append(start)
        sent = 0
        for block in blocks:
            if path == WEIGHTS and self.breaks_after is not None and sent >= self.breaks_after:
                self.breaks_after = None
                raise self.error("The connection broke.")
            sent += len(block)
            yield block


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return phi_repos.write("phi35_mini", tmp_path / "repo")


@pytest.fixture
def hub(repo: Path) -> Shaky:
    made = Shaky(repo)
    made.starts = []
    return made


@pytest.fixture
def release(hub: Shaky) -> Release:
    return catalog.release(hub, REF)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(Settings(home=tmp_path / "home", disk_floor=0))


def test_the_folder_holds_the_releases_files_as_plain_read_only_files(
    hub: Shaky, release: Release, space: Workspace, repo: Path
) -> None:
    folder = fetch(hub, release, space)
    names = {path.name for path in folder.iterdir()}
    assert names == {p.name for p in repo.iterdir()} - {"modeling_phi3.py"}
    for path in folder.iterdir():
        assert not path.is_symlink()
        assert path.read_bytes() == (repo / path.name).read_bytes()
        assert not path.stat().st_mode & 0o222
    assert not parts_dir(folder).exists()
    seal = space.sealed(folder, thorough=True)
    assert seal is not None
    assert seal.facts == {"repo": "microsoft/phi", "sha": release.sha}


def test_a_second_fetch_reads_nothing(hub: Shaky, release: Release, space: Workspace) -> None:
    folder = fetch(hub, release, space)
    read = hub.bytes_read
    assert fetch(hub, release, space) == folder
    assert hub.bytes_read == read


def test_progress_only_grows_and_ends_at_the_total(hub: Shaky, release: Release, space: Workspace) -> None:
    told: list[tuple[int, int]] = []
    fetch(hub, release, space, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] == sum(f.size for f in release.files if f.path != "modeling_phi3.py")


def test_a_broken_connection_is_gone_on_with_where_it_broke(hub: Shaky, release: Release, space: Workspace) -> None:
    hub.breaks_after = 100_000
    fetch(hub, release, space)
    assert hub.starts == [0, 100_000]


def test_after_a_crash_finished_files_are_kept_and_the_one_in_flight_goes_on(
    hub: Shaky, release: Release, space: Workspace
) -> None:
    hub.breaks_after, hub.error = 100_000, MemoryError
    with pytest.raises(MemoryError):
        fetch(hub, release, space)
    hub.calls.clear()
    fetch(hub, release, space)
    assert hub.starts == [0, 100_000]
    assert "GET config.json" not in hub.calls


def test_a_finished_file_that_was_damaged_since_is_downloaded_again(
    hub: Shaky, release: Release, space: Workspace, repo: Path
) -> None:
    hub.breaks_after, hub.error = 0, MemoryError
    with pytest.raises(MemoryError):
        fetch(hub, release, space)
    config = space.source_dir(release) / "config.json"
    config.write_bytes(bytes(config.stat().st_size))
    fetch(hub, release, space)
    assert config.read_bytes() == (repo / "config.json").read_bytes()


def test_a_damaged_part_is_thrown_away_and_the_file_read_once_more(
    hub: Shaky, release: Release, space: Workspace, repo: Path
) -> None:
    hub.breaks_after, hub.error = 100_000, MemoryError
    with pytest.raises(MemoryError):
        fetch(hub, release, space)
    part = parts_dir(space.source_dir(release)) / f"{WEIGHTS}.part"
    part.write_bytes(bytes(part.stat().st_size))
    folder = fetch(hub, release, space)
    assert hub.starts == [0, 100_000, 0]
    assert (folder / WEIGHTS).read_bytes() == (repo / WEIGHTS).read_bytes()


def test_a_part_longer_than_the_file_is_begun_again(hub: Shaky, release: Release, space: Workspace) -> None:
    parts = parts_dir(space.source_dir(release))
    parts.mkdir()
    (parts / f"{WEIGHTS}.part").write_bytes(bytes(release.weight_bytes + 1))
    fetch(hub, release, space)
    assert hub.starts == [0]


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_other_bytes_than_listed_are_corrupt(
    hub: Shaky, release: Release, space: Workspace, repo: Path, name: str
) -> None:
    data = bytearray((repo / name).read_bytes())
    data[-2] ^= 1
    put(repo, name, bytes(data))
    with pytest.raises(SourceCorrupt, match=f"{name} does not have the digest"):
        fetch(hub, release, space)
    assert space.sealed(space.source_dir(release)) is None


def test_more_bytes_than_listed_are_not_written(hub: Shaky, release: Release, space: Workspace, repo: Path) -> None:
    put(repo, WEIGHTS, (repo / WEIGHTS).read_bytes() + bytes(10_000_000))
    with pytest.raises(SourceCorrupt, match="larger than the Hub lists"):
        fetch(hub, release, space)
    part = parts_dir(space.source_dir(release)) / f"{WEIGHTS}.part"
    assert part.stat().st_size <= release.weight_bytes


def test_fewer_bytes_than_listed_are_a_broken_connection(
    hub: Shaky, release: Release, space: Workspace, repo: Path
) -> None:
    put(repo, WEIGHTS, (repo / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(HubUnreachable, match="ended after"):
        fetch(hub, release, space)


def test_pickles_are_refused_before_a_byte_is_read(tmp_path: Path, space: Workspace) -> None:
    hub = FolderHub(phi_repos.write("pickles_only", tmp_path / "pickles"))
    release = catalog.release(hub, REF)
    read = hub.bytes_read
    with pytest.raises(VerdictRefused, match="safetensors"):
        fetch(hub, release, space)
    assert hub.bytes_read == read


def test_too_little_disk_is_said_before_a_byte_is_read(hub: Shaky, release: Release, tmp_path: Path) -> None:
    full = Workspace(Settings(home=tmp_path / "full", disk_floor=2**60))
    read = hub.bytes_read
    with pytest.raises(NotEnoughRoom):
        fetch(hub, release, full)
    assert hub.bytes_read == read


def test_a_download_can_be_cancelled_and_gone_on_with(hub: Shaky, release: Release, space: Workspace) -> None:
    with pytest.raises(BuildCancelled):
        fetch(hub, release, space, cancelled=lambda: bool(hub.starts))
    fetch(hub, release, space)
    assert space.sealed(space.source_dir(release)) is not None


def test_a_disk_that_is_full_at_the_end_of_a_file_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = _Writer(tmp_path / "a.part", SourceFile(path="a", size=3, digest="0" * 40))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert writer._file.closed
