"""Disks of a test's own: whether this machine lets us mount one, and the commands that do."""

from __future__ import annotations

import subprocess


def may_mount() -> bool:
    """Only root may, and a container's root may be refused. Tried where nobody else sees it."""
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "phimill-test", "/tmp"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def command(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
