"""Workers with the whole mill in them, whose converter is `stone.py`, and what ends them.

    python mill_worker.py

Reads orders from stdin, one JSON object a line, and forks a worker for each: what takes time to import is imported
once. Answers with the worker's process id, which is that of its group too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx2 as httpx
import stone
from two_repos import ARCHITECTURES, DATA

from bot import recipes, toolchain, worker
from bot.mill import Mill
from bot.models import digest
from bot.settings import Settings

POLL_SECONDS = 2.0
SOLO = DATA.split('[[recipe]]\nid = "twin/web')[0].replace("twin", "solo").replace("Twin", "Solo")
BACKENDS = {"twin": DATA, "solo": SOLO}
# What a worker can be at when it dies by itself. `unsaved`: the step is done, and nobody has noted that.
FATES = ("before a step", "in an unsaved step", "after a step", "before a write", "after a write")


def install(root: Path) -> None:
    """Have two backends and no other, run by the interpreter of the tests."""
    converters = root / "src" / "converters"
    if not converters.exists():
        _write(converters)
    found = {name: recipes.load(converters / name) for name in BACKENDS}
    tools = toolchain.Toolchain("stone", Path(sys.prefix), Path(sys.executable), "0" * 64, {"stone": "1"})
    patched: dict[Any, dict[str, Any]] = {
        recipes: {"backends": lambda: found},
        toolchain: {
            "converters_root": lambda: converters,
            "ensure": lambda *_, **__: tools,
            "named_versions": lambda *_, **__: {"stone": "1"},
            "lock_digest": lambda name: digest("lock", name),
        },
    }
    for module, values in patched.items():
        for name, value in values.items():
            setattr(module, name, value)


def _write(converters: Path) -> None:
    for name in (*BACKENDS, "reference"):
        folder = converters / name
        folder.mkdir(parents=True)
        for empty in ("__init__.py", "requirements.txt"):
            (folder / empty).touch()
        (folder / "__main__.py").write_text(Path(stone.__file__).read_text())
    for name, data in BACKENDS.items():
        (converters / name / "recipes.toml").write_text(data)
        (converters / name / "architectures.toml").write_text(ARCHITECTURES)
    (converters / "__init__.py").touch()
    (converters / "text").mkdir()
    for text in ("calibration.txt", "evaluation.txt"):
        (converters / "text" / text).write_text("Text.")


def doom(fate: str, after: int) -> None:
    """Die at the n-th such moment, with all that is in the process group."""
    left = count(after, -1)

    def strike(moment: str) -> None:
        if moment == fate and next(left) == 0:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    durably, send = worker._durably, httpx.HTTPTransport.handle_request

    def step(name: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        def act() -> dict[str, Any]:
            kept = action()
            strike("in an unsaved step")
            return kept

        strike("before a step")
        kept = durably(name, act)
        strike("after a step")
        return kept

    def ask(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        writes = request.method not in ("GET", "HEAD")
        if writes:
            strike("before a write")
        answer = send(transport, request)
        if writes:
            strike("after a write")
        return answer

    worker._durably = step
    httpx.HTTPTransport.handle_request = ask  # type: ignore[method-assign]


def settings(root: Path, home: str) -> Settings:
    return Settings(
        home=root / home, toolchains=root / "chains", namespace="phimill", watch=("microsoft",),
        poll_seconds=POLL_SECONDS, disk_floor=0, threads=1, memory_budget=2**34,
    )  # fmt: skip


def work(root: Path, home: str, hub: str, token: str, database: str | None, fate: str | None, after: int) -> None:
    """Be a worker until killed."""
    # A cache of its own: what it remembers to have sent is on this world's Hub and on no other at the same address.
    os.environ |= {"HF_TOKEN": token, "HF_HOME": str(root / home / "huggingface")}
    if database:
        os.environ["PHIMILL_DATABASE_URL"] = database
    Settings.endpoint = hub  # type: ignore[method-assign, assignment]  # that of huggingface_hub is read at its import
    if fate is not None:
        doom(fate, after)
    mill = Mill(settings(root, home))
    with mill.working(), mill.watching():
        time.sleep(3600)


def _fork(root: Path, order: dict[str, Any]) -> int:
    if pid := os.fork():
        return pid
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(root / order.pop("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(log, standard)
    try:
        work(root, **order)
    finally:
        os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        order = json.loads(line)
        root = Path(order.pop("root"))
        install(root)
        print(_fork(root, order), flush=True)
