"""A round of one backend on the tiny Phi: how much of it is the converters' own work, and how much the mill adds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from bot import demo

TOOK = re.compile(r"took ([\d.]+) s, ([\d.]+) CPU s, ([\d.]+) GiB")


def measure(folder: Path) -> list[tuple[str, str, str]]:
    with demo.opened(folder, lambda _: None, "") as shown:
        # One backend tells what the mill adds; the whole matrix is measured apart.
        shown.environment["PHIMILL_BACKENDS"] = '["gguf"]'
        setup = [sys.executable, "-m", "bot.cli", "setup", "gguf", "reference"]
        subprocess.run(setup, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        code = shown.bot("watch", "--once")
        wall = time.monotonic() - began
        began = time.monotonic()
        shown.bot("watch", "--once")
        idle = time.monotonic() - began
        lines = _log(folder)
    children = [tuple(map(float, found.groups())) for line in lines if (found := TOOK.search(line))]
    inside, cpu = (sum(child[column] for child in children) for column in (0, 1))
    return [
        ("one release, 7 GGUF variants, from hint to tag", f"{wall:.1f} s", f"exit code {code}"),
        (
            "of which in converters",
            f"{inside:.1f} s",
            f"{len(children)} children, {cpu:.0f} CPU s",
        ),
        ("the mill's share for each variant", f"{(wall - inside) / 7:.1f} s", "queue, sandbox, card, plot, commit"),
        ("most memory of a child", f"{max(g for _, _, g in children):.2f} GiB", "mapped weights not counted"),
        ("the next round, nothing to do", f"{idle:.1f} s", "start of the program included"),
    ]


def _log(folder: Path) -> list[str]:
    from bot.journal import Journal

    journal = Journal(f"sqlite:///{folder / 'home' / 'journal.sqlite'}")
    status = subprocess.run(
        [sys.executable, "-m", "bot.cli", "--format", "json", "status"],
        env={"PHIMILL_HOME": str(folder / "home"), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        check=True,
    )
    builds = json.loads(status.stdout)["builds"]
    try:
        return [line.text for build in builds for line in journal.log(build["id"])]
    finally:
        journal.close()
