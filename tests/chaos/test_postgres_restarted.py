"""The Postgres that two workers share is restarted while they build: everything is built, and once.

PHIMILL_TEST_RESTARTS says how often.
"""

from __future__ import annotations

import os
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from mill_world import WORKERS, Fresh, Nursery, calm, end_state, opened, wait_for

from bot.builds import Phase
from bot.liveness import PostgresLeases

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

RESTARTS = int(os.environ.get("PHIMILL_TEST_RESTARTS", "2"))
AWAY_SECONDS = 8.0  # longer than a worker takes to look for dead ones
MODES = cycle(("fast", "immediate"))


def test_a_database_that_is_restarted_under_load_costs_no_build_and_no_worker(
    fresh: Fresh, nursery: Nursery, expected: dict[str, Any], tmp_path: Path
) -> None:
    with postgres.running() as server, opened(fresh, tmp_path / "world", nursery, server.url) as world:
        for name in WORKERS:
            world.start(name)
        begun = dict(world.running)
        restarts = 0
        while restarts < RESTARTS and not world.tagged():
            wait_for("a build", lambda: any(build.phase is Phase.RUNNING for build in world.builds()))
            time.sleep(1.5)
            server.halt(next(MODES))
            time.sleep(AWAY_SECONDS)
            server.start()
            restarts += 1
        assert restarts > 1, "both ways were tried"
        calm(world)
        assert world.running == begun, f"a worker ended: {world.said()}"
        assert {build.phase for build in world.builds()} == {Phase.DONE}, world.said()
        assert end_state(world.api) == expected, world.said()
        world.kill_all()
        wait_for("the end of everything", lambda: not world.alive(), 120)
        assert world.folders() == []


def test_a_lease_is_taken_again_from_a_server_that_was_away() -> None:
    with postgres.running() as server, postgres.new_database(server.url) as url:
        mine = PostgresLeases(url)
        assert mine.take("worker")
        assert mine.settled
        server.halt("fast")
        for _ in range(2):
            with pytest.raises(sa.exc.OperationalError):
                mine.held()
        server.start()
        assert not mine.held(), "nobody else has one"
        theirs = PostgresLeases(url)
        assert not theirs.take("worker")
        assert not mine.settled, "others may not have come back yet"
        for leases in (mine, theirs):
            leases.close()
