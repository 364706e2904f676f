"""A small disk of its own for the mill's home, which fills up, cannot be written to, or takes its time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from mounting import command, may_mount

BYTES = 64 * 2**20  # many times what a build needs
SLOW = 0.02  # seconds for each change of a name


class FaultyDisk:
    """Mounted at a folder for as long as the `with` block lasts. Where we may not mount, it is a plain folder."""

    def __init__(self, at: Path) -> None:
        self._at, self._ballast = at, at / "ballast"
        self._pause = 0.0
        self.mounted = may_mount()
        self.struck = 0

    def __enter__(self) -> FaultyDisk:
        self._at.mkdir(parents=True)
        if self.mounted:
            command("mount", "-t", "tmpfs", "-o", f"size={BYTES}", "phimill-test", self._at)
        return self

    def __exit__(self, *_: object) -> None:
        # Whatever is left in it goes with it, a lock that somebody still holds too.
        if self.mounted:
            command("umount", "--lazy", self._at)

    def fill(self, left: int) -> None:
        """Leave so many bytes, in whole pages."""
        self.calm()
        room = os.statvfs(self._at)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(room.f_bavail * room.f_frsize - left, 1))
        self.struck += 1

    def protect(self) -> None:
        """From now on nothing can be written."""
        self.calm()
        command("mount", "-o", "remount,ro", self._at)
        self.struck += 1

    def slow_down(self) -> None:
        """From now on every new name takes its time."""
        self.calm()
        self._pause = SLOW
        self.struck += 1

    def calm(self) -> None:
        """It is well again."""
        self._pause = 0.0
        if self.mounted:
            command("mount", "-o", "remount,rw", self._at)
        self._ballast.unlink(missing_ok=True)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this process wait where the disk is slow."""
        for name in ("replace", "rename", "mkdir", "fsync"):
            monkeypatch.setattr(os, name, self._waiting(getattr(os, name)))

    def _waiting(self, call: Any) -> Any:
        def waiting(*arguments: Any, **options: Any) -> Any:
            time.sleep(self._pause)
            return call(*arguments, **options)

        return waiting
