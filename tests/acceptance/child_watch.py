"""Looks at the command line and the environment of every descendant of a process, many times a second."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

TICK = 0.02


class ChildWatch:
    """Watches while the `with` block lasts. `seen` holds (command line, environment) as the kernel shows them."""

    def __init__(self, pid: int) -> None:
        self._parent = psutil.Process(pid)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: set[tuple[bytes, bytes]] = set()

    def __enter__(self) -> ChildWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(TICK):
            try:
                children = self._parent.children(recursive=True)
            except psutil.Error:
                continue
            own = _read(self._parent.pid, "cmdline")  # looked up anew: at first it is a fork of ours itself
            for child in children:
                command = _read(child.pid, "cmdline")
                # Until it has become another program, a fork shows its parent's own memory.
                if command and command != own:
                    self.seen.add((command, _read(child.pid, "environ")))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
