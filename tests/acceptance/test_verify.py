"""`phimill verify` and `explain` on a published release: what is as recorded, what is not, and who sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Published
from hub_world import BIN, MODEL, SOURCE, TARGET, Ran, World, run

from bot.errors import NotAsRecorded, NotOurs, RepoUnavailable

pytestmark = pytest.mark.backend

WEIGHTS = f"{MODEL}-Q4_K_M.gguf"
DOCUMENTS = ("README.md", "phimill.json", "provenance.intoto.jsonl")


def phimill(world: World, *words: str) -> Ran:
    """Run the command line as somebody who has no token."""
    env = {name: value for name, value in world.env().items() if name != "HF_TOKEN"}
    return run([BIN / "phimill", *words], env)


def wrong(ran: Ran) -> list[dict[str, Any]]:
    return [finding for finding in ran.json["findings"] if not finding["warning"]]


@pytest.fixture(scope="module")
def changeable(copy_of_published: Callable[..., World]) -> World:
    return copy_of_published("changeable")


@pytest.fixture
def changed(changeable: World) -> Iterator[Callable[[str], Ran]]:
    """Publishes a file with one byte in its middle changed, and verifies that commit; afterwards it is as before."""
    before: dict[str, bytes] = {}
    api = changeable.api()

    def change(path: str) -> Ran:
        before[path] = changeable.read(path, "v1.0")
        data = bytearray(before[path])
        middle = len(data) // 2
        data[middle] = ord("7") if data[middle] != ord("7") else ord("8")
        commit = api.upload_file(path_or_fileobj=bytes(data), path_in_repo=path, repo_id=TARGET)
        return phimill(changeable, "verify", f"{TARGET}@{commit.oid}", "--format", "json")

    yield change
    for path, data in before.items():
        api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=TARGET)


def test_what_the_mill_published_is_as_recorded(published: Published) -> None:
    ran = phimill(published.world, "verify", TARGET, "--format", "json")
    assert ran.code == 0, ran.err
    answer = ran.json
    assert (answer["ok"], answer["revision"], answer["source_sha"]) == (True, "v1.0", published.sha)
    assert answer["files"] == len(published.world.files("v1.0"))
    assert wrong(ran) == []


@pytest.mark.parametrize("path", [WEIGHTS, *DOCUMENTS])
def test_one_changed_byte_is_caught_and_named(changed: Callable[[str], Ran], path: str) -> None:
    ran = changed(path)
    assert ran.code == NotAsRecorded.exit_code, ran.err
    assert any(path in f"{finding['file']} {finding['what']}" for finding in wrong(ran))
    assert ran.error["code"] == "not_as_recorded"


def test_a_file_that_nobody_lists_and_one_that_is_gone_are_named(changeable: World) -> None:
    api = changeable.api()
    api.upload_file(path_or_fileobj=b"print()", path_in_repo="extra.py", repo_id=TARGET)
    commit = api.delete_file(WEIGHTS, TARGET)
    ran = phimill(changeable, "verify", f"{TARGET}@{commit.oid}")
    assert ran.code == NotAsRecorded.exit_code
    assert "wrong: extra.py: neither phimill.json nor provenance.intoto.jsonl lists it" in ran.out
    assert f"wrong: {WEIGHTS}: it is missing" in ran.out


def test_that_the_source_is_gone_is_a_note(copy_of_published: Callable[..., World]) -> None:
    world = copy_of_published("sourceless")
    world.api("satya").delete_repo(SOURCE)
    ran = phimill(world, "verify", f"{TARGET}@v1.0", "--format", "json")
    assert ran.code == 0, ran.err
    assert any("the source cannot be compared" in finding["what"] for finding in ran.json["findings"])


def test_it_is_explained_in_plain_words(published: Published) -> None:
    ran = phimill(published.world, "explain", TARGET)
    assert ran.code == 0, ran.err
    for said in (SOURCE, published.sha, "apache-2.0", "gguf/int4", "llama", "not audited", "phimill verify"):
        assert said in ran.out


@pytest.mark.parametrize("command", ["verify", "explain"])
@pytest.mark.parametrize(("repo", "error"), [("phimill/nothing", RepoUnavailable), (SOURCE, NotOurs)])
def test_what_phimill_did_not_publish_is_an_error_that_says_so(
    published: Published, command: str, repo: str, error: type[NotOurs]
) -> None:
    ran = phimill(published.world, command, repo, "--format", "json")
    assert (ran.code, ran.error["code"]) == (error.exit_code, error.code)
    assert "Traceback" not in ran.err
