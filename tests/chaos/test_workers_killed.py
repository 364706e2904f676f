"""Two workers on one database, killed again and again: the Hub ends as if nothing had happened, and nothing is left.

Real are the watcher, the engine, the steps, the sandbox, the publisher and the Hub; the converter needs no model.
PHIMILL_TEST_KILLS says how many kills there are on each database, PHIMILL_TEST_SEED repeats those of another run.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import mill_worker
import pytest
from mill_world import WORKERS, Fresh, Nursery, World, calm, end_state, opened, wait_for

from bot.builds import Phase

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("PHIMILL_TEST_KILLS", "6"))
SEED = int(os.environ.get("PHIMILL_TEST_SEED", random.SystemRandom().randrange(2**32)))
# A step that brought its worker down five times in a row is poison. Whoever is at a third try is left alone.
SPARED = 3
LATEST = 6.0  # seconds; by then a worker has begun something


class Storm:
    """Kills workers at moments that follow from a seed."""

    def __init__(self, seed: int) -> None:
        self._moments = random.Random(seed)
        self.struck: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        return self.struck.total() >= KILLS

    def strike(self, world: World) -> None:
        """Start the workers that do not run, and kill one or both. Some die by themselves before that."""
        spared = world.tries() >= SPARED
        for name in sorted(set(WORKERS) - set(world.running)):
            world.start(name, *self._fate(spared=spared))
        victims = self._moments.choice([("one",), ("other",), WORKERS])
        moment = time.monotonic() + self._moments.uniform(0.3, LATEST)
        while time.monotonic() < moment or world.tries() >= SPARED:
            for name in world.dead():
                world.fallen(name)
                self.struck["at a boundary"] += 1
                return
            if world.done():
                return
            time.sleep(0.3)
        for name in victims:
            world.kill(name)
            self.struck["at a moment"] += 1
        if not world.running:
            wait_for("the end of what they had begun", lambda: not world.alive(), 120)

    def _fate(self, *, spared: bool) -> tuple[str | None, int]:
        fate, after = self._moments.choice((None, *mill_worker.FATES)), self._moments.randrange(12)
        return (None, 0) if spared else (fate, after)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_however_often_two_workers_are_killed_the_hub_ends_as_if_nobody_had_been(
    database: str, fresh: Fresh, nursery: Nursery, expected: dict[str, Any], tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    server = request.getfixturevalue("postgres_server") if database == "postgres" else None
    print(f"moments from seed {SEED}")
    storm, worlds = Storm(SEED), 0
    while not storm.over:
        worlds += 1
        root = tmp_path / f"stormy-{worlds}"
        with opened(fresh, root, nursery, server) as stormy:
            while not storm.over and not stormy.done():
                storm.strike(stormy)
            calm(stormy)
            where = f"seed {SEED}, world {worlds}, {dict(storm.struck)}"
            assert {build.phase for build in stormy.builds()} == {Phase.DONE}, f"{where}: {stormy.said()}"
            found = end_state(stormy.api)
            assert found == expected, f"{where}: {stormy.said()}"
            stormy.kill_all()
            wait_for("the end of everything", lambda: not stormy.alive(), 120)
            assert stormy.folders() == [], where
        shutil.rmtree(root)
        print(where)
