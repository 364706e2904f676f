"""A worker process for the engine's tests, and what those tests share.

    python engine_worker.py HOME

Takes builds whose steps note themselves and wait until there is a file HOME/go. With PHIMILL_DATABASE_URL set it
works on that Postgres.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bot.builds import BuildRequest, Target, VariantResult
from bot.engine import Engine
from bot.journal import Journal
from bot.settings import Settings
from bot.steps import Outcome, Runner, Steps

STEPS = ("fetch", "convert", "prove", "publish")
PATIENCE = 300.0  # seconds; only a hang takes so long, however busy the machine


def open_engine(home: Path) -> tuple[Engine, Journal]:
    settings = Settings(home=home)
    journal = Journal(settings.database_url or f"sqlite:///{home / 'journal.sqlite'}")
    return Engine(settings, journal), journal


def request(number: int = 1, *recipes: str, backend: str = "gguf", version: str = "v1.0") -> BuildRequest:
    made = recipes or (f"{backend}/int4",)
    return BuildRequest(
        repo=f"microsoft/Phi-{number}", sha="1" * 40, backend=backend, namespace="phimill", toolchain="t",
        targets=(Target(repo=f"phimill/Phi-{number}-{backend}", version=version, recipes=made),),
    )  # fmt: skip


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def runner(home: Path) -> Runner:
    def run(request: BuildRequest, steps: Steps) -> Outcome:
        for name in STEPS:
            steps.run(name, partial(_act, steps, name, home / "go"))
        return Outcome(results=(VariantResult(recipe=request.recipes[0], status="published"),))

    return run


def _act(steps: Steps, name: str, go: Path) -> str:
    steps.journal.write(steps.build, "info", name, "begun")
    wait_until(go.exists)
    steps.journal.write(steps.build, "info", name, "ended")
    return name


if __name__ == "__main__":
    home = Path(sys.argv[1])
    engine, _ = open_engine(home)
    with engine.working(runner(home)):
        print("working", flush=True)
        time.sleep(600)
