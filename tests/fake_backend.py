"""A backend whose code each test writes: a real child, run by the interpreter of the tests."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from bot import converter, sandbox
from bot.settings import Settings

PRELUDE = """
import json, os, sys
request = json.loads(sys.stdin.readline())
def say(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)
"""


class Bench:
    """One fake backend, `fake`, whose code each test writes, run by the interpreter of the tests."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "src" / "converters"
        self.out = tmp_path / "out"
        self.work = tmp_path / "work"
        for folder in (self.root / "fake", self.out, self.work):
            folder.mkdir(parents=True)
        (self.root / "__init__.py").touch()
        (self.root / "fake" / "__init__.py").touch()
        (self.root / "fake" / "requirements.txt").touch()
        self.settings = Settings(home=tmp_path / "home", toolchains=tmp_path / "chains")
        self.logs: list[tuple[str, str]] = []
        self.progress: list[tuple[str, float, float, str]] = []

    def call(self, code: str, verb: str = "convert", **limits: Any) -> converter.Reply:
        self.program(code)
        return converter.call(
            "fake",
            {"verb": verb, "out": str(self.out)},
            read=[],
            write=[self.out],
            work=self.work,
            limits=sandbox.Limits(**({"memory": 2**30, "wall": 30.0} | limits)),
            on_progress=lambda *values: self.progress.append(values),
            on_log=lambda level, text: self.logs.append((level, text)),
            settings=self.settings,
        )

    def program(self, code: str) -> None:
        """Make this the backend's program; `request` and `say` are there already."""
        (self.root / "fake" / "__main__.py").write_text(PRELUDE + textwrap.dedent(code))
