"""The Hub dies in the middle of an upload, or answers only every other time. The next run repairs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from go_between import Answer, GoBetween, HungUp, Seen
from hub_world import MODEL, TARGET, Ran, World

pytestmark = pytest.mark.backend

TRIES = 4
Q6_TITLE = "Add 6 bits (Q6_K) (gguf/q6_k)"


def until_it_works(world: World, url: str) -> Ran:
    """Ask again as long as the Hub is said to be unreachable; any other end is the end."""
    for _ in range(TRIES):
        ran = world.convert("gguf/q6_k", url=url)
        if ran.code == 0:
            break
        assert (ran.code, ran.error["code"]) == (5, "hub_unreachable"), ran.err
        assert ran.error["hint"]
    return ran


def check_whole(world: World, ran: Ran, before: dict[str, str]) -> None:
    """It came to one commit and one tag, and what stood before stands."""
    assert ran.code == 0, ran.err
    assert world.commits().count(Q6_TITLE) == 1
    assert world.commits()[-1] == Q6_TITLE
    assert set(world.tags()) == {"v1.0", "v1.1"}
    assert world.files("v1.0") == before
    told = {f["path"]: f["sha256"] for v in world.receipt("v1.1")["variants"] for f in v["files"]}
    assert told.items() <= world.files("v1.1").items()
    assert f"{MODEL}-Q6_K.gguf" in told


class DyingHub:
    """Kills the Hub as the first large upload begins, and again when it has done a commit but not said so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self.deaths: list[str] = []

    def __call__(self, seen: Seen, answered: bool) -> Answer | None:
        with self._lock:
            if not answered and seen.method in ("PUT", "POST") and len(seen.body) > 100_000:
                self._die("upload")
            if answered and seen.method == "POST" and "/commit/" in seen.path:
                self._die("commit")
        return None

    def _die(self, what: str) -> None:
        if what in self.deaths:
            return
        self.deaths.append(what)
        self._world.hub.kill()
        self._world.hub.__enter__()
        raise HungUp


def test_a_hub_that_dies_during_upload_and_commit_ends_up_with_one_commit(
    copy_of_published: Callable[..., World],
) -> None:
    world = copy_of_published("dying", process=True)
    before, plan = world.files("v1.0"), DyingHub(world)
    with GoBetween(world.hub.url, plan) as between:
        ran = until_it_works(world, between.url)
    assert plan.deaths == ["upload", "commit"]
    check_whole(world, ran, before)


class MoodyHub:
    """Refuses the first request of every kind: it is busy, or it limits the rate, or its gateway is gone."""

    MOODS = (Answer(503), Answer(429, ((b"retry-after", b"1"),)), Answer(502), Answer(500))

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.refused: set[tuple[str, str]] = set()

    def __call__(self, seen: Seen, answered: bool) -> Answer | None:
        kind = seen.method, _kind(seen.path)
        with self._lock:
            if answered or kind in self.refused:
                return None
            self.refused.add(kind)
            return self.MOODS[len(self.refused) % len(self.MOODS)]


def _kind(path: str) -> str:
    """`/api/models/a/b/tree/main` is a `tree`, `/api/whoami-v2` a `whoami-v2`."""
    parts = path.strip("/").split("/")
    if parts[0] != "api":
        return parts[2] if len(parts) > 2 else parts[0]
    return parts[4] if len(parts) > 4 else parts[1]


def test_a_hub_that_refuses_every_first_request_gets_the_variant_all_the_same(
    copy_of_published: Callable[..., World],
) -> None:
    world = copy_of_published("moody")
    before, plan = world.files("v1.0"), MoodyHub()
    with GoBetween(world.hub.url, plan) as between:
        ran = world.convert("gguf/q6_k", url=between.url)
    kinds = {kind for _, kind in plan.refused}
    assert {"tree", "resolve", "whoami-v2", "preupload", "commit", "refs", "tag", "collections"} <= kinds
    check_whole(world, ran, before)


@pytest.mark.parametrize("who", ["a person", "the watcher"])
def test_a_version_that_is_complete_but_was_never_tagged_gets_its_tag(
    copy_of_published: Callable[..., World], who: str
) -> None:
    """As if the mill, or the Hub, had died between the last commit and the tag."""
    world = copy_of_published("untagged")
    tags, commits = world.tags(), world.commits()
    world.reader.delete_tag(TARGET, tag="v1.0")
    if who == "a person":
        ran = world.convert("gguf/int8")
        assert ran.code == 0, ran.err
        assert [variant["tag"] for variant in ran.json["variants"]] == ["v1.0"]
    else:
        assert [look["queued"] for look in world.look()] == [[]]
    assert (world.tags(), world.commits()) == (tags, commits)
