"""Months in minutes: release after release through the real mill, on a real Hub. Only the converter is not real.

What a look at the Hub takes grows with the repos that are there. So that any other growth is seen, there are always as
many: old releases are taken from the Hub, with what was made of them, once that was found to be right.

PHIMILL_TEST_SOAK says how many releases (a thousand take about half an hour); PHIMILL_TEST_SOAK_OUT where to write
what was counted after each round, as JSON lines.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import phi_repos
import press
import psutil
import pytest
from huggingface_hub import HfApi

from bot import hub
from bot.builds import Phase
from bot.localhub import RunningHub
from bot.mill import Mill
from bot.workspace import Workspace

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

RELEASES = int(os.environ.get("PHIMILL_TEST_SOAK", "40"))
ROUND = 10  # releases that come at once
WARM = 2  # rounds until everything that is made once is there
STAY = 3  # rounds for which releases are on the Hub
# What is remembered on purpose: in this test so little that it is full after a few rounds, and the rest can be seen.
REMEMBERED = {"bytes": 2**20, "chunks": 64}
# A mill's memory may grow by so many bytes a release: hf_xet keeps a record of each file that it has sent, 10 KiB for
# the eight of a release. Measured over the later half of many, as it wavers by 2 MiB.
GROWTH, MANY = 20 * 2**10, 800
# By how much what is held may waver: connections to the Hub and to the databases come and go, with their files.
# Of Python's objects there may be some that a library remembers, a few for each release: no more than that.
SLACK = {"objects": 3000, "handles": 12, "threads": 4, "children": 1, "files": 5}
REPOS = ("twin", "twin-web")  # of each release
MADE = ("twin/fp32", "twin/int4", "twin/web-fp32", "twin/web-int4")

# Tuples, which the garbage collector need not follow: what the test itself keeps is not counted among the objects.
Published = dict[str, tuple[tuple[str, ...], int]]


class Count(NamedTuple):
    """What a process holds. Bytes, and numbers of things."""

    memory: int
    objects: int
    handles: int
    threads: int
    children: int
    files: int


class World(NamedTuple):
    """The mill, the press that it converts with, its Hub, and the release that comes again and again."""

    mill: Mill
    made: press.Press
    hub: RunningHub
    folder: Path

    def round(self, number: int) -> None:
        """Some releases come, the watcher looks, everything is made, and then nobody needs its folders any longer."""
        for name in came(number):
            phi_repos.upload(self.hub.url, self.hub.token("microsoft"), f"microsoft/{name}", self.folder)
        self.mill.reconcile()
        self.mill.drain()
        Workspace(self.mill.settings).sweep(retention=0)

    def forget(self, number: int) -> None:
        """Take a round's releases, and what was made of them, from the Hub."""
        gone = {"microsoft": [f"microsoft/{name}" for name in came(number)], "millbot": made_in(number)}
        for owner, repos in gone.items():
            api = HfApi(endpoint=self.hub.url, token=self.hub.token(owner))
            for repo in repos:
                api.delete_repo(repo)

    def count(self) -> Count:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps in reserve is not held
        own = psutil.Process()
        folders = (Path(tempfile.gettempdir()), self.mill.settings.home)
        files = sum(1 for folder in folders for _ in folder.rglob("*"))
        children = len(own.children(recursive=True))
        return Count(own.memory_info().rss, len(gc.get_objects()), own.num_fds(), own.num_threads(), children, files)


def came(number: int) -> list[str]:
    """The names of a round's releases."""
    return [f"phi-{each}" for each in range(max(0, number * ROUND), min((number + 1) * ROUND, RELEASES))]


def made_in(*rounds: int) -> list[str]:
    """The repos that are made of these rounds' releases."""
    return [f"phimill/{name}-{kind}" for number in rounds for name in came(number) for kind in REPOS]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = press.install(monkeypatch)
    monkeypatch.setattr(hub, "CACHE_BYTES", REMEMBERED["bytes"])
    monkeypatch.setenv("HF_XET_SHARD_CHUNK_INDEX_TABLE_MAX_SIZE", str(REMEMBERED["chunks"]))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with RunningHub(tmp_path / "hub", process=True) as running, press.working(tmp_path, monkeypatch, running) as mill:
        yield World(mill, made, running, phi_repos.write("phi35_mini", tmp_path / "phi"))


def listed(world: World) -> list[str]:
    """Every repo of the mill's that is on the Hub now."""
    return sorted(model.id for model in HfApi(endpoint=world.hub.url, token=False).list_models(author="phimill"))


def published(world: World, names: list[str]) -> Published:
    """The tags of each repo, and how many commits it took."""
    api, found = HfApi(endpoint=world.hub.url, token=False), {}
    for name in names:
        tags = tuple(ref.name for ref in api.list_repo_refs(name).tags)
        found[name] = (tags, len(api.list_repo_commits(name)))
    return found


@contextmanager
def forgotten(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Without pytest's own log: it keeps every record until the test has ended, and hides what the mill keeps."""
    root, kind = logging.getLogger(), type(caplog.handler)
    kept = [handler for handler in root.handlers if isinstance(handler, kind)]
    root.handlers = [handler for handler in root.handlers if handler not in kept]
    try:
        yield
    finally:
        root.handlers += kept


def test_many_releases_leave_nothing_behind_and_none_is_made_twice_or_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with forgotten(caplog):
        counts, there = lived(world)
    assert len(there) == RELEASES * len(REPOS)
    assert {tags for tags, _ in there.values()} == {("v1.0",)}
    assert len({commits for _, commits in there.values()}) == 1, "every repo took the same commits"
    assert Counter(world.made.converted()) == dict.fromkeys(MADE, RELEASES)
    assert {build.phase for build in world.mill.builds(RELEASES)} == {Phase.DONE}
    assert world.mill.reconcile() == (), "nothing is left to do"
    left = listed(world)
    assert published(world, left) == {name: there[name] for name in left}
    settled = counts[WARM:]
    for kind, slack in SLACK.items():
        held = [getattr(count, kind) for count in settled]
        assert max(held) - held[0] <= slack, f"{kind} grew: {held}"
    if RELEASES >= MANY:
        assert growth([count.memory for count in counts[len(counts) // 2 :]]) <= GROWTH


def lived(world: World) -> tuple[list[Count], Published]:
    """What was held after each round, and what was published."""
    counts: list[Count] = []
    there: Published = {}
    for number in range(-(-RELEASES // ROUND)):
        world.round(number)
        counts.append(world.count())
        _note(number, counts[-1])
        assert listed(world) == sorted(made_in(*range(number - STAY + 1, number + 1))), (
            "nothing else, and nothing less"
        )
        there |= published(world, made_in(number))
        world.forget(number - STAY + 1)
    return counts, there


def growth(memory: list[int]) -> float:
    """Bytes a release, as the slope of a straight line through what was held after each round."""
    slope, _ = statistics.linear_regression(range(len(memory)), memory)
    return slope / ROUND


def _note(number: int, count: Count) -> None:
    if out := os.environ.get("PHIMILL_TEST_SOAK_OUT"):
        said: dict[str, Any] = {"releases": (number + 1) * ROUND, **count._asdict()}
        with Path(out).open("a") as file:
            file.write(json.dumps(said) + "\n")
