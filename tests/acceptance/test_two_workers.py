"""Two workers, each with a home of its own, on one Postgres: one is killed in a build, the other finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from huggingface_hub import HfApi

from bot import demo

pytestmark = [pytest.mark.backend, pytest.mark.chaos]


def wait_for(what: str, look: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


def worker(root: Path, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (root / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bot.cli", "watch"],
            env={**environment, "PHIMILL_HOME": str(root / name), "PHIMILL_POLL_SECONDS": "5"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def converting(workers: dict[str, subprocess.Popen[bytes]]) -> str | None:
    """The worker that has a GGUF converter running."""
    for name, process in workers.items():
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if "converters.gguf" in " ".join(child.cmdline()):
                    return name
            except psutil.Error:
                continue
    return None


def test_when_one_of_two_workers_is_killed_in_a_build_the_other_finishes_it(tmp_path: Path, postgres_url: str) -> None:
    with demo.opened(tmp_path, lambda _: None, "") as shown:
        environment = {**shown.environment, "PHIMILL_DATABASE_URL": postgres_url}
        workers = {name: worker(tmp_path, name, environment) for name in ("one", "other")}
        api = HfApi(endpoint=shown.hub, token=False)

        def tagged() -> bool:
            return any(tag.name == demo.VERSION for tag in api.list_repo_refs(demo.TARGET).tags)

        try:
            wait_for("the first variant", lambda: api.repo_exists(demo.TARGET))
            victim = wait_for("a converter", lambda: converting(workers))
            os.killpg(workers[victim].pid, signal.SIGKILL)
            workers.pop(victim).wait()
            [survivor] = workers
            wait_for("the survivor to take over", lambda: converting(workers) == survivor, 60)
            wait_for("the tag", tagged)
        finally:
            for process in workers.values():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        titles = [commit.title for commit in api.list_repo_commits(demo.TARGET)]
        assert len(titles) == len(set(titles)) == 8, "the repo's first commit, and one for each variant"
