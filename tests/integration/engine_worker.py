"""A worker process for the engine's tests: takes builds whose steps note themselves and sleep.

    python engine_worker.py HOME SECONDS_PER_STEP

With PHIMILL_DATABASE_URL set it works on that Postgres.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bot.engine import Engine
from bot.journal import Journal
from bot.models import BuildRequest, VariantResult
from bot.settings import Settings
from bot.steps import Outcome, Runner, Steps

STEPS = ("fetch", "convert", "prove", "publish")


def open_engine(home: Path) -> tuple[Engine, Journal]:
    settings = Settings(home=home)
    journal = Journal(settings.database_url or f"sqlite:///{home / 'journal.sqlite'}")
    return Engine(settings, journal), journal


def runner(seconds: float) -> Runner:
    def run(request: BuildRequest, steps: Steps) -> Outcome:
        for name in STEPS:
            steps.run(name, lambda name=name: _act(steps, name, seconds))
        return Outcome(results=(VariantResult(recipe=request.recipes[0], status="published"),))

    return run


def _act(steps: Steps, name: str, seconds: float) -> str:
    steps.journal.write(steps.build, "info", name, "begun")
    time.sleep(seconds)
    steps.journal.write(steps.build, "info", name, "ended")
    return name


if __name__ == "__main__":
    engine, _ = open_engine(Path(sys.argv[1]))
    with engine.working(runner(float(sys.argv[2]))):
        print("working", flush=True)
        time.sleep(600)
