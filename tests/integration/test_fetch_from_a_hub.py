"""Downloading over the real protocol: each byte once, also after a kill, also when two ask at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import phi_repos
import pytest

from bot import catalog, filenames
from bot.fetch import fetch
from bot.hub import Hub
from bot.localhub import RunningHub
from bot.models import Release, RepoRef
from bot.settings import Settings
from bot.workspace import Workspace, parts_dir

REF = RepoRef(repo="microsoft/big")
SIZE = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    folder = tmp_path_factory.mktemp("hub")
    source = phi_repos.write("phi35_mini", folder / "big")
    shapes = phi_repos.phi3_shapes() | {"extra.weight": ("BF16", (SIZE // 2048, 1024))}
    phi_repos.put(source, "model.safetensors", phi_repos.safetensors(shapes))
    with RunningHub(folder / "root") as running:
        running.config.add_user("microsoft")
        phi_repos.upload(running.url, running.token("microsoft"), REF.repo, source)
        yield running


@pytest.fixture
def hub(running: RunningHub) -> Hub:
    return Hub(running.url)


@pytest.fixture
def release(hub: Hub) -> Release:
    return catalog.release(hub, REF)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", disk_floor=0)


def wanted_bytes(release: Release) -> int:
    return sum(file.size for file in filenames.wanted(release.files))


def test_every_byte_is_downloaded_once(hub: Hub, release: Release, settings: Settings) -> None:
    before = hub.bytes_read
    folder = fetch(hub, release, Workspace(settings))
    assert hub.bytes_read - before == wanted_bytes(release)
    assert (folder / "model.safetensors").stat().st_size == release.weight_bytes


def test_two_who_ask_at_once_download_it_once(hub: Hub, release: Release, settings: Settings) -> None:
    before, folders = hub.bytes_read, []

    def ask() -> None:
        folders.append(fetch(hub, release, Workspace(settings)))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert len(folders) == 3
    assert hub.bytes_read - before == wanted_bytes(release)


FETCH = """
import sys, time
from pathlib import Path
from bot import catalog, filenames
from bot.fetch import fetch
from bot.hub import Hub
from bot.models import RepoRef
from bot.settings import Settings
from bot.workspace import Workspace
hub = Hub(sys.argv[1])
release = catalog.release(hub, RepoRef(repo="microsoft/big"))
def slowly(done, total):
    time.sleep(0.05)
    if done > 6_000_000:
        print("half-way", flush=True)
        time.sleep(60)
fetch(hub, release, Workspace(Settings(home=Path(sys.argv[2]), disk_floor=0)), slowly)
"""


def test_after_kill_9_only_what_is_missing_is_downloaded(
    running: RunningHub, hub: Hub, release: Release, settings: Settings
) -> None:
    command = [sys.executable, "-c", FETCH, running.url, str(settings.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half-way\n"
        child.kill()
    space = Workspace(settings)
    part = parts_dir(space.source_dir(release)) / "model.safetensors.part"
    there = part.stat().st_size
    assert there > 5_000_000
    before = hub.bytes_read
    fetch(hub, release, space)
    assert hub.bytes_read - before == release.weight_bytes - there + small_after_weights(release)
    assert space.sealed(space.source_dir(release), thorough=True) is not None


def small_after_weights(release: Release) -> int:
    files = sorted(filenames.wanted(release.files), key=lambda file: file.path)
    return sum(file.size for file in files if file.path > "model.safetensors")


def test_a_hub_that_dies_half_way_is_gone_on_with(tmp_path: Path, settings: Settings) -> None:
    source = phi_repos.write("phi35_mini", tmp_path / "big")
    shapes = phi_repos.phi3_shapes() | {"extra.weight": ("BF16", (SIZE // 2048, 1024))}
    phi_repos.put(source, "model.safetensors", phi_repos.safetensors(shapes))
    with RunningHub(tmp_path / "root", process=True) as first:
        first.config.add_user("microsoft")
        phi_repos.upload(first.url, first.token("microsoft"), REF.repo, source)
        hub = Hub(first.url)
        release = catalog.release(hub, REF)
        restarted: list[RunningHub] = []

        def die(done: int, total: int) -> None:
            if done > SIZE // 2 and not restarted:
                first.kill()
                again = RunningHub(tmp_path / "root", port=first.port, process=True)
                restarted.append(again.__enter__())

        before = hub.bytes_read
        try:
            folder = fetch(hub, release, Workspace(settings), die)
        finally:
            for again in restarted:
                again.__exit__(None, None, None)
    assert restarted
    assert hub.bytes_read - before <= wanted_bytes(release) + 1024**2
    assert (folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
