"""Folders that a converter writes to: how much it may take of the disk, and how they are taken away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bot.errors import ConverterStopped, NotEnoughRoom
from bot.settings import GIB


def check_room(folders: Iterable[str], floor: int) -> None:
    """Make sure that `floor` bytes are free on every disk that is written to.

    Raises:
        NotEnoughRoom: fewer are.
    """
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < floor:
            raise NotEnoughRoom(
                f"Only {free / GIB:.1f} GiB of disk are left; {floor / GIB:.1f} must stay.",
                "Free some disk, or lower PHIMILL_DISK_FLOOR.",
            )


def check_count(folders: Iterable[str], most: int) -> None:
    """Make sure that the folders hold no more than `most` files and folders: a disk can run out of names too.

    Raises:
        ConverterStopped: they hold more, or something that cannot be counted.
    """
    pending, found = list(folders), 0
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    found += 1
                    if found > most:
                        raise ConverterStopped(f"The converter was stopped at {most} files.")
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it is at work, and has just taken it away
        except OSError as error:
            raise ConverterStopped(
                f"The converter was stopped at a folder that cannot be looked into: {error.strerror}."
            ) from None


def remove(path: Path) -> bool:
    """Delete a tree that may be read-only, closed, and deeper than Python's stack. False if some of it stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    env = {"PATH": os.environ.get("PATH", os.defpath)}  # no child is given the bot's own environment
    for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        with suppress(OSError):
            subprocess.run([*command, "--", str(path)], env=env, check=False, stderr=subprocess.DEVNULL)
    return not path.exists()
