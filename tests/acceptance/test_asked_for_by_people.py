"""Conversions that people ask for by name, from a full disk to a new upstream version."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_world import MICROSOFT, MODEL, SOURCE, TARGET, Ran, World, ended, weights

pytestmark = pytest.mark.backend

Q6, Q8 = f"{MODEL}-Q6_K.gguf", f"{MODEL}-Q8_0.gguf"


@dataclass(frozen=True)
class Asked:
    """A Hub with one release, before and after people asked for INT8 of it."""

    world: World
    no_room: Ran
    published_without_room: set[str]
    both: tuple[Ran, Ran]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path, toolchains: dict[str, Path]) -> Iterator[Asked]:
    with World(tmp_path_factory.mktemp("asked") / "world") as world:
        world.release(tiny_phi)
        no_room = world.watch_once(PHIMILL_DISK_FLOOR=str(10**18))
        left = world.published()
        arguments = ("convert", SOURCE, "--recipe", "gguf/int8", "--format", "json")
        two = [world.start(*arguments) for _ in range(2)]
        yield Asked(world, no_room, left, (ended(two[0]), ended(two[1])))


def test_a_disk_that_fills_up_ends_the_build_and_publishes_nothing(asked: Asked) -> None:
    assert (asked.no_room.code, asked.no_room.error["code"]) == (6, "not_enough_room"), asked.no_room.err
    assert "disk" in asked.no_room.error["message"]
    assert asked.published_without_room == set()


def test_two_people_who_ask_at_once_get_one_build(asked: Asked) -> None:
    first, second = asked.both
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert len({ran.json["build"] for ran in asked.both} - {None}) == 1
    for ran in asked.both:
        (variant,) = ran.json["variants"]
        assert (variant["recipe"], variant["repo"], variant["tag"]) == ("gguf/int8", TARGET, "v1.0")
    builds = json.loads(asked.world.phimill("status", "--format", "json").out)["builds"]
    asked_for = [target for build in builds for target in build["request"]["targets"]]
    assert asked_for.count({"repo": TARGET, "version": "v1.0", "recipes": ["gguf/int8"]}) == 1


def test_what_they_asked_for_was_committed_once(asked: Asked) -> None:
    world = asked.world
    tagged = {path for path in weights(world.files("v1.0")) if "imatrix" not in path}
    assert tagged == {Q8}
    assert world.commits()[:2] == ["initial commit", "Add INT8 (Q8_0) (gguf/int8)"]


@pytest.fixture(scope="module")
def retrained(asked: Asked) -> Ran:
    """The same again after one weight changed in its last bit upstream."""
    api = asked.world.api(MICROSOFT)
    path = Path(api.hf_hub_download(SOURCE, "model.safetensors", cache_dir=asked.world.root / "before"))
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    data[8 + length + header["model.norm.weight"]["data_offsets"][0]] ^= 1
    api.upload_file(path_or_fileobj=bytes(data), path_in_repo="model.safetensors", repo_id=SOURCE)
    return asked.world.convert("gguf/int8")


def test_new_weights_are_the_next_major_version(asked: Asked, retrained: Ran) -> None:
    assert retrained.code == 0, retrained.err
    assert retrained.json["variants"][0]["tag"] == "v2.0"
    assert set(asked.world.tags()) == {"v1.0", "v2.0"}
    assert asked.world.receipt("v2.0")["source_sha"] == retrained.json["release"]["sha"]


def test_the_old_version_still_pulls_the_old_bytes(asked: Asked, retrained: Ran) -> None:
    world = asked.world
    old, new = world.files("v1.0"), world.files("v2.0")
    assert old[Q8] != new[Q8]
    told = {f["path"]: f["sha256"] for v in world.receipt("v1.0")["variants"] for f in v["files"]}
    assert told == {Q8: old[Q8]}
    assert world.read(Q8, "v1.0") != world.read(Q8, "v2.0")


@dataclass(frozen=True)
class Added:
    """A release that was published, and to which somebody had a recipe added, twice."""

    world: World
    before: dict[str, str]
    first: Ran
    commits: list[str]
    again: Ran


@pytest.fixture(scope="module")
def added(copy_of_published: Callable[..., World]) -> Added:
    world = copy_of_published("added")
    before = world.files("v1.0")
    first = world.convert("gguf/q6_k")
    return Added(world, before, first, world.commits(), world.convert("gguf/q6_k"))


def test_a_recipe_added_to_a_release_is_the_next_minor_version(added: Added) -> None:
    assert added.first.code == 0, added.first.err
    (variant,) = added.first.json["variants"]
    assert (variant["status"], variant["tag"], variant["files"]) == ("published", "v1.1", [Q6])
    assert added.world.files("v1.1").keys() - added.before.keys() == {Q6}


def test_adding_a_recipe_leaves_the_others_and_their_tag_alone(added: Added) -> None:
    assert added.world.files("v1.0") == added.before
    assert weights(added.before).items() <= weights(added.world.files("v1.1")).items()
    assert [title for title in added.commits if "Q6_K" in title] == [added.commits[-1]]


def test_asking_again_is_answered_at_once(added: Added) -> None:
    assert added.again.code == 0, added.again.err
    (variant,) = added.again.json["variants"]
    assert (variant["status"], variant["tag"]) == ("already_published", "v1.1")
    assert added.again.json["build"] is None
    assert added.world.commits() == added.commits


def test_what_people_added_is_not_the_watchers_business(added: Added) -> None:
    assert [look["queued"] for look in added.world.look(2)] == [[], []]
