"""The world in which the corpus is tried: a real Hub with every case on it, a lying proxy, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hostile_hub import Shelf
from hostile_listings import ANSWERS
from hostile_repos import Case, every_case
from huggingface_hub import HfApi
from lying_proxy import LyingProxy

from bot.localhub import RunningHub

HERE = Path(__file__).parent
BUILD_SECONDS = 1500.0  # only a build that hangs takes so long, however busy the machine
# Nothing else is made for it: it is its own baseline.
QUICKEST = ("--recipe", "gguf/fp16", "--format", "json")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Said:
    """How one command ended: its exit code (-1 when it was stopped at its limit), its words, the time it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The last error explained with --format json; empty texts where none was."""
        lines = [line for line in self.err.splitlines() if line.startswith('{"error"')]
        return dict(json.loads(lines[-1])["error"]) if lines else {"code": "", "message": "", "hint": ""}


class Prompt:
    """A process that runs command lines, one after the other, against one Hub."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "hostile_commands.py"],
            env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, seconds: float, *arguments: str) -> Said:
        """Run one command line for so many seconds at most."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([seconds, arguments]), file=self._process.stdin, flush=True)
        return Said(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


class HostileWorld:
    """A Hub for the whole corpus: each case is a repo of eve's. What runs, runs inside the `with` block."""

    def __init__(self, root: Path) -> None:
        self.canary, self._root = root / "canary", root
        self.hub = RunningHub(root / "hub")
        for name in ("eve", "millbot"):
            self.hub.config.add_user(name)
        self.hub.config.add_org("phimill", {"millbot": "admin"})
        lies = {case.repo: ANSWERS[case.name] for case in every_case() if case.name in ANSWERS}
        self.proxy = LyingProxy(self.hub.url, lies)
        self._put: set[str] = set()
        self._prompts: dict[str, Prompt] = {}

    def __enter__(self) -> HostileWorld:
        self.hub.__enter__()
        self.proxy.__enter__()
        self.shelf = Shelf(self._root / "hub")
        return self

    def __exit__(self, *_: object) -> None:
        for prompt in self._prompts.values():
            prompt.close()
        self.shelf.close()
        self.proxy.__exit__()
        self.hub.__exit__(None, None, None)

    @cached_property
    def api(self) -> HfApi:
        """The bot's client, to look at what was published."""
        return HfApi(endpoint=self.hub.url, token=self.hub.token("millbot"))

    def published(self) -> set[str]:
        return {model.id for model in self.api.list_models(author="phimill")}

    def ask(self, case: Case, command: str, *options: str) -> Said:
        """What the command line says about a case. One whose Hub lies is asked for through the proxy."""
        if case.name not in self._put:
            self.shelf.put(case.repo, case.make(self.canary))
            self._put.add(case.name)
        url = self.proxy.url if case.name in ANSWERS else self.hub.url
        seconds = BUILD_SECONDS if command == "convert" else case.seconds
        return self._prompt(url).ask(seconds, command, case.repo, *options)

    def check(self, repo: str) -> Said:
        """What `phimill check` says about one repo."""
        return self._prompt(self.hub.url).ask(180.0, "check", repo, "--format", "json")

    def convert(self, repo: str) -> Said:
        """How `phimill convert` of one repo ends."""
        return self._prompt(self.hub.url).ask(BUILD_SECONDS, "convert", repo, *QUICKEST)

    def _prompt(self, url: str) -> Prompt:
        if url not in self._prompts:
            self._prompts[url] = Prompt(self._env(url))
        return self._prompts[url]

    def _env(self, url: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PHIMILL_TOOLCHAINS",) if name in os.environ}
        return {
            **kept,
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HF_ENDPOINT": url,
            "HF_TOKEN": self.hub.token("millbot"),
            "HF_HOME": str(self._root / "hf-home"),
            "PHIMILL_HOME": str(self._root / "home"),
            "PHIMILL_NAMESPACE": "phimill",
            "PHIMILL_BACKENDS": '["gguf"]',
        }
