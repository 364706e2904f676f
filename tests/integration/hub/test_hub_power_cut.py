"""A Hub whose machine loses its power: only what was on the disk by then is left.

The Hub's root lies in a file system of its own, in a file. What that file holds at a moment is what a disk would hold
after a power cut then: a copy of it is mounted, and the Hub goes on from there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hub_writer import REPO, check_whole, connect, write_until
from mounting import command, may_mount

from bot.localhub import RunningHub

CUTS = 3
BYTES = 2**30  # with holes in it; the Hub leaves a part of a disk free
# Nothing reaches the disk by itself within the test: what is there was asked for.
LAZY = "loop,commit=300"


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    command("mount", "-o", LAZY, image, at)
    try:
        yield at
    finally:
        command("umount", at)


def may_mount_a_file() -> bool:
    loop = subprocess.run(["losetup", "--find"], capture_output=True, check=False)
    return may_mount() and loop.returncode == 0 and shutil.which("mkfs.ext4") is not None


def power_cut(hub: RunningHub, image: Path, left: Path) -> Callable[[], None]:
    """Copies the disk as it is at a moment, into `left`; the process is held meanwhile, and then is gone."""

    def cut() -> None:
        os.kill(hub.pid, signal.SIGSTOP)
        while any(psutil.Process(thread.id).status() != psutil.STATUS_STOPPED for thread in threads(hub)):
            time.sleep(0.001)  # one of them waits for the disk
        command("cp", "--sparse=always", image, left)
        hub.kill()

    return cut


def threads(hub: RunningHub) -> list[psutil._common.pthread]:
    return list(psutil.Process(hub.pid).threads())


@pytest.mark.skipif(not may_mount_a_file(), reason="The disk is a file that is mounted, which only root may do.")
def test_after_a_power_cut_every_commit_that_a_client_was_told_of_is_there_and_whole(tmp_path: Path) -> None:
    image, acknowledged = tmp_path / "disk-0", list[str]()
    with image.open("wb") as file:
        file.truncate(BYTES)
    command("mkfs.ext4", "-q", image)
    for life in range(CUTS):
        left = tmp_path / f"disk-{life + 1}"
        with (
            mounted(image, tmp_path / f"mount-{life}") as disk,
            RunningHub(disk / "hub", process=True) as hub,
        ):
            connect(hub).create_repo(REPO, exist_ok=True)
            acknowledged += write_until(power_cut(hub, image, left), hub, tmp_path / "home", life)
        image = left
    with mounted(image, tmp_path / "mounted") as disk, RunningHub(disk / "hub", process=True) as hub:
        check_whole(connect(hub), acknowledged, tmp_path / "cache")
