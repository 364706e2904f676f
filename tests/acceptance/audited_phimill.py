"""Runs phimill's command line, and notes every program that it starts with the environment that it gives it.

    python audited_phimill.py NOTES ARGUMENT...

The notes come from Python's own audit events, so that not even the shortest-lived child is missed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

STARTING = {"subprocess.Popen": (1, 3), "os.posix_spawn": (1, 2), "os.exec": (1, 2), "os.spawn": (2, 3)}


def listen(path: str) -> None:
    """Append a line to `path` for every program that this process starts from now on."""
    notes = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - open for as long as we run

    def hear(event: str, details: tuple[Any, ...]) -> None:
        if event in STARTING:
            argv, env = (details[place] for place in STARTING[event])
            given = dict(os.environ if env is None else env)
            words = argv if isinstance(argv, (str, bytes)) else [os.fsdecode(word) for word in argv]
            told = {os.fsdecode(key): os.fsdecode(value) for key, value in given.items()}
            notes.write(json.dumps({"event": event, "argv": words, "env": told}, default=repr) + "\n")
        elif event == "os.system":
            notes.write(json.dumps({"event": event, "argv": str(details), "env": dict(os.environ)}) + "\n")

    sys.addaudithook(hear)


def main() -> None:
    listen(sys.argv.pop(1))
    from bot.cli import main as phimill

    phimill()


if __name__ == "__main__":
    main()
