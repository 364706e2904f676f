"""The worlds that acceptance tests share: each is made once, and looked at by many tests."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from child_watch import ChildWatch
from go_between import GoBetween
from hub_world import BIN, BOT, HERE, World, copied, ended, popen
from published import Published

from bot import toolchain

# Read once by the client, at import; what tests run has its own.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.fixture(scope="session")
def toolchains() -> dict[str, Path]:
    """The interpreters of the backends' environments, made if they are not there."""
    return {name: toolchain.ensure(name).python for name in ("reference", "gguf")}


@pytest.fixture(scope="session")
def published(
    tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path, toolchains: dict[str, Path]
) -> Iterator[Published]:
    """The Hub after one full round. For reading: who wants to change it takes a copy (`copy_of_published`)."""
    root = tmp_path_factory.mktemp("published")
    notes = root / "started.jsonl"
    # Whatever does not go to the Hub goes here, and is never answered.
    elsewhere = socket.create_server(("127.0.0.1", 0))
    proxy = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), proxy)
    proxies |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    # As on a new machine: a library that looks for fonts with a program of the system's does it now.
    proxies["MPLCONFIGDIR"] = str(root / "no-font-cache-yet")
    with World(root / "world", process=True) as world, elsewhere, GoBetween(world.hub.url) as between:
        sha, token = world.release(tiny_phi), world.hub.token(BOT)
        command = [sys.executable, HERE / "audited_phimill.py", notes, "watch", "--once", "--format", "json"]
        process = popen(command, world.env(url=between.url, token=token, **proxies))
        with ChildWatch(process.pid) as watch:
            ran = ended(process)
        assert ran.code == 0, ran.err
        world.__exit__()
        snapshot = copied(world.root, root / "snapshot")
        world.__enter__()
        yield Published(
            world=world,
            sha=sha,
            ran=ran,
            token=token,
            snapshot=snapshot,
            seen=tuple(between.seen),
            children=frozenset(watch.seen),
            started=tuple(map(json.loads, notes.read_text("utf-8").splitlines())),
            knocked_elsewhere=_knocked(elsewhere),
        )


@pytest.fixture(scope="session")
def copy_of_published(
    published: Published, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], World]]:
    """Makes Hubs with the published release on them, and the home it was built in, to be changed at will."""
    running: list[World] = []

    def make(name: str, *, process: bool = False) -> World:
        root = copied(published.snapshot, tmp_path_factory.mktemp(name) / "world")
        running.append(World(root, process=process).__enter__())
        return running[-1]

    yield make
    for world in running:
        world.__exit__()


@pytest.fixture
def pull_env(published: Published, tmp_path: Path) -> dict[str, str]:
    """All that somebody who pulls from the Hub has set."""
    return {
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
        "HF_ENDPOINT": published.world.hub.url,
        "HF_TOKEN": published.world.hub.token(BOT),
        "HF_HOME": str(tmp_path / "hf"),
    }


def _knocked(server: socket.socket) -> bool:
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True
