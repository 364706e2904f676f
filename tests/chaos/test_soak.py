"""Months in minutes: release after release through the real mill, on a real Hub. Only the converter is not real.

PHIMILL_TEST_SOAK says how many releases (a thousand take about half an hour); PHIMILL_TEST_SOAK_OUT where to write
what was counted after each round, as JSON lines.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import phi_repos
import press
import psutil
import pytest
from huggingface_hub import HfApi

from bot.builds import Phase
from bot.localhub import RunningHub
from bot.mill import Mill
from bot.workspace import Workspace

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

RELEASES = int(os.environ.get("PHIMILL_TEST_SOAK", "40"))
ROUND = 10  # releases that come at once
WARM = 2  # rounds until everything that is made once is there
# By how much what is held may waver: connections to the Hub and to the databases come and go, with their files.
SLACK = {"handles": 12, "threads": 4, "children": 1, "files": 5}
REPOS = ("twin", "twin-web")  # of each release
MADE = ("twin/fp32", "twin/int4", "twin/web-fp32", "twin/web-int4")


class Count(NamedTuple):
    """What a process holds. Bytes, and numbers of things."""

    memory: int
    handles: int
    threads: int
    children: int
    files: int


class World(NamedTuple):
    mill: Mill
    made: press.Press
    hub: RunningHub
    folder: Path

    def release(self, name: str) -> None:
        phi_repos.upload(self.hub.url, self.hub.token("microsoft"), f"microsoft/{name}", self.folder)

    def round(self, number: int) -> None:
        """Some releases come, the watcher looks, everything is made, and then nobody needs its folders any longer."""
        for each in range(number * ROUND, min((number + 1) * ROUND, RELEASES)):
            self.release(f"phi-{each}")
        self.mill.reconcile()
        self.mill.drain()
        Workspace(self.mill.settings).sweep(retention=0)

    def count(self) -> Count:
        own = psutil.Process()
        folders = (Path(tempfile.gettempdir()), self.mill.settings.home)
        files = sum(1 for folder in folders for _ in folder.rglob("*"))
        children = len(own.children(recursive=True))
        return Count(own.memory_info().rss, own.num_fds(), own.num_threads(), children, files)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = press.install(monkeypatch)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with RunningHub(tmp_path / "hub", process=True) as hub, press.working(tmp_path, monkeypatch, hub) as mill:
        yield World(mill, made, hub, phi_repos.write("phi35_mini", tmp_path / "phi"))


def published(api: HfApi, names: list[str]) -> dict[str, tuple[list[str], int]]:
    """The tags of each repo, and how many commits it took."""
    found = {}
    for name in names:
        tags = [ref.name for ref in api.list_repo_refs(name).tags]
        found[name] = (tags, len(api.list_repo_commits(name)))
    return found


def test_many_releases_leave_nothing_behind_and_none_is_made_twice_or_lost(world: World) -> None:
    counts = []
    for number in range(-(-RELEASES // ROUND)):
        world.round(number)
        counts.append(world.count())
        _note(number, counts[-1])
    names = [f"phimill/phi-{each}-{kind}" for each in range(RELEASES) for kind in REPOS]
    api = HfApi(endpoint=world.hub.url, token=False)
    assert sorted(model.id for model in api.list_models(author="phimill")) == sorted(names)
    there = published(api, names)
    assert {tuple(tags) for tags, _ in there.values()} == {("v1.0",)}
    assert len({commits for _, commits in there.values()}) == 1, "every repo took the same commits"
    assert Counter(world.made.converted()) == dict.fromkeys(MADE, RELEASES)
    assert {build.phase for build in world.mill.builds(RELEASES)} == {Phase.DONE}
    assert world.mill.reconcile() == (), "nothing is left to do"
    assert published(api, names) == there
    settled = counts[WARM:]
    for kind, slack in SLACK.items():
        held = [getattr(count, kind) for count in settled]
        assert max(held) - held[0] <= slack, f"{kind} grew: {held}"


def _note(number: int, count: Count) -> None:
    if out := os.environ.get("PHIMILL_TEST_SOAK_OUT"):
        said: dict[str, Any] = {"releases": (number + 1) * ROUND, **count._asdict()}
        with Path(out).open("a") as file:
            file.write(json.dumps(said) + "\n")
