"""The Hub is the truth: what the mill remembers may be lost at any time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hub_world import copied
from published import Published

pytestmark = pytest.mark.backend


def test_an_idle_look_costs_at_most_two_calls(published: Published, tmp_path: Path) -> None:
    home = copied(published.snapshot / "home", tmp_path / "home")
    _, second, third = published.world.look(3, PHIMILL_HOME=str(home))
    assert [second["queued"], third["queued"]] == [[], []]
    assert len(second["calls"]) <= 2
    assert len(third["calls"]) <= 2


@pytest.mark.parametrize("lost", ["the database", "the whole home"])
def test_a_look_without_its_memory_builds_and_commits_nothing(published: Published, tmp_path: Path, lost: str) -> None:
    world = published.world
    before = world.commits(), world.tags(), world.files()
    home = copied(published.snapshot / "home", tmp_path / "home")
    if lost == "the whole home":
        shutil.rmtree(home)
    for database in home.glob("*.sqlite*"):
        database.unlink()
    rounds = world.look(2, PHIMILL_HOME=str(home))
    assert [look["queued"] for look in rounds] == [[], []]
    assert len(rounds[1]["calls"]) <= 2
    assert (world.commits(), world.tags(), world.files()) == before


def test_without_its_memory_it_still_knows_what_is_published(published: Published, tmp_path: Path) -> None:
    ran = published.world.phimill("watch", "--once", "--format", "json", PHIMILL_HOME=str(tmp_path / "new"))
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["builds"] == []
    assert {(row["state"], row["tag"]) for row in told["releases"]} == {("published", "v1.0")}
