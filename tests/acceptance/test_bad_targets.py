"""Places that may not be published to, machines that are too small, and a Hub that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_world import BOT, MODEL, SOURCE, STRANGER, World
from published import Published

pytestmark = pytest.mark.backend

HUGE = str(10**18)


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """A home of one's own, so that nothing is remembered from one test to the next."""
    return {"PHIMILL_HOME": str(tmp_path / "home")}


def everything(world: World) -> object:
    return world.commits(), world.tags(), world.files(), world.published()


@pytest.mark.parametrize("who", ["a reader", "a stranger", "nobody", "an impostor"])
def test_who_may_not_write_is_told_before_anything_is_built(
    published: Published, own: dict[str, str], who: str
) -> None:
    world = published.world
    tokens = {
        "a reader": world.hub.token(BOT, "read"),
        "a stranger": world.hub.token(STRANGER),
        "nobody": "",
        "an impostor": "hf_thistokendoesnotexist",
    }
    before = everything(world)
    ran = world.convert("gguf/q6_k", **own, HF_TOKEN=tokens[who])
    assert ran.code == 5, ran.err
    assert ran.error["code"] == "access_denied"
    assert ran.error["hint"]
    assert tokens[who] == "" or tokens[who] not in ran.out + ran.err
    assert everything(world) == before
    assert not list((Path(own["PHIMILL_HOME"]) / "work").glob("source/*"))


@pytest.mark.parametrize("namespace", ["microsoft", "nobody-has-this-name"])
def test_a_namespace_of_others_is_refused(published: Published, own: dict[str, str], namespace: str) -> None:
    arguments = ("convert", SOURCE, "--recipe", "gguf/q6_k", "--to", namespace, "--format", "json")
    ran = published.world.phimill(*arguments, **own)
    assert (ran.code, ran.error["code"]) == (5, "access_denied"), ran.err
    assert namespace in ran.error["message"]
    assert BOT in ran.error["hint"]


def test_a_repo_that_the_mill_did_not_make_is_never_written_to(
    published: Published, own: dict[str, str], tmp_path: Path
) -> None:
    world, repo = published.world, f"{BOT}/{MODEL}-GGUF"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: mit\n---\n# Made by hand\n")
    sha = world.release(tmp_path / "theirs", repo, BOT)
    try:
        arguments = ("convert", SOURCE, "--recipe", "gguf/int8", "--to", BOT, "--format", "json")
        ran = world.phimill(*arguments, **own)
        assert (ran.code, ran.error["code"]) == (5, "not_ours"), ran.err
        assert repo in ran.error["message"]
        assert world.reader.model_info(repo).sha == sha
    finally:
        world.reader.delete_repo(repo)


@pytest.mark.parametrize(
    ("too_small", "word"),
    [({"PHIMILL_MEMORY_BUDGET": "100000000"}, "memory"), ({"PHIMILL_DISK_FLOOR": HUGE}, "disk")],
)
def test_a_machine_that_is_too_small_says_so_first(
    published: Published, own: dict[str, str], too_small: dict[str, str], word: str
) -> None:
    before = everything(published.world)
    ran = published.world.convert("gguf/q6_k", **own, **too_small)
    assert (ran.code, ran.error["code"]) == (6, "not_enough_room"), ran.err
    assert word in ran.error["message"]
    assert everything(published.world) == before


def test_a_hub_that_is_not_there_is_told_apart_from_one_that_says_no(
    published: Published, own: dict[str, str]
) -> None:
    ran = published.world.phimill("check", SOURCE, "--format", "json", url="http://127.0.0.1:9", **own)
    assert (ran.code, ran.error["code"]) == (5, "hub_unreachable"), ran.err
    assert "HF_ENDPOINT" in ran.error["hint"]
