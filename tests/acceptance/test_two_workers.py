"""Two workers, each with a home of its own, on one Postgres: one is killed in a build, the other finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from huggingface_hub import HfApi

from bot import demo

pytestmark = [pytest.mark.backend, pytest.mark.chaos, pytest.mark.timeout(3600)]

PATIENCE = 1500.0  # seconds; only a hang takes so long, however busy the machine


class Workers:
    """Running workers by name, each with a home and a log of its own under `root`."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self._root, self._environment = root, environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self._root / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "bot.cli", "watch"],
                env={**self._environment, "PHIMILL_HOME": str(self._root / name), "PHIMILL_POLL_SECONDS": "5"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def converting(self) -> str | None:
        """The worker that has a GGUF converter running."""
        for name, process in self._running.items():
            with suppress(psutil.Error):  # one has ended meanwhile
                children = psutil.Process(process.pid).children(recursive=True)
                if any("converters.gguf" in " ".join(child.cmdline()) for child in children):
                    return name
        return None

    def wait_for(self, what: str, look: Callable[[], Any]) -> Any:
        """What `look` finds. A worker that has ended would be waited for in vain, and says why in its log."""
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            assert not ended, f"{ended} ended before there was {what}\n{self._logs()}"
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self._logs()}"
            time.sleep(0.2)
        return found

    def _logs(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in sorted(self._root.glob("*.log")))


@contextmanager
def two_workers(root: Path, environment: dict[str, str]) -> Iterator[Workers]:
    """Both started at the same moment, on a database that is new to both."""
    workers = Workers(root, environment)
    try:
        for name in ("one", "other"):
            workers.start(name)
        yield workers
    finally:
        workers.kill_all()


def test_when_one_of_two_workers_is_killed_in_a_build_the_other_finishes_it(tmp_path: Path, postgres_url: str) -> None:
    with demo.opened(tmp_path, lambda _: None, "") as shown:
        api = HfApi(endpoint=shown.hub, token=False)

        def tagged() -> bool:
            return any(tag.name == demo.VERSION for tag in api.list_repo_refs(demo.TARGET).tags)

        # What is taken over is a build; one backend's is enough for that.
        surroundings = {"PHIMILL_DATABASE_URL": postgres_url, "PHIMILL_BACKENDS": '["gguf"]'}
        with two_workers(tmp_path, {**shown.environment, **surroundings}) as workers:
            workers.wait_for("a first variant", lambda: api.repo_exists(demo.TARGET))
            workers.kill(workers.wait_for("a converter", workers.converting))
            assert not tagged(), "the kill came too late to leave anything to the other"
            workers.wait_for("a tag", tagged)
        titles = [commit.title for commit in api.list_repo_commits(demo.TARGET)]
        assert len(titles) == len(set(titles)) == 8, "the repo's first commit, and one for each variant"
