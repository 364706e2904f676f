"""Converters that turn hostile in a real build: what they got, how it ended, and that the mill goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hostile_mill
import psutil
import pytest
from hostile_mill import CANARY, Ended, World

from bot import sandbox
from bot.errors import PhimillError

pytestmark = [
    pytest.mark.skipif(not sandbox.probe().full, reason="this kernel has not all the fences"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="raw system call numbers"),
]
MIB = 2**20
SMALL = {"output": 256 * 1024, "file_size": 4 * MIB, "processes": 16, "files": 200}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hostile_mill.working(tmp_path_factory.mktemp("mill")) as world:
        yield world


@pytest.fixture(autouse=True)
def _nothing_got_out(world: World) -> Iterator[None]:
    """After every deed, seen from outside: nothing heard, nothing touched, nobody hurt, nothing left."""
    yield
    assert world.canaries.heard() == []
    assert world.canaries.touched() == []
    assert world.canaries.bystander.poll() is None
    assert psutil.Process(world.canaries.bystander.pid).status() == psutil.STATUS_SLEEPING
    assert world.alive() == []
    assert list((world.settings.home / "work" / "tmp").iterdir()) == []
    assert not [path for path in (Path("/tmp"), Path("/dev/shm"), Path.home()) if (path / "canary-escape").exists()]
    assert world.engine.working_here()


def went_on(ended: Ended) -> None:
    assert ended.good.status == "published", ended.log[-5:]
    assert ended.good.tag == "v1.0"


@pytest.mark.parametrize(
    "deed",
    [
        "reads_the_token_file",
        "reads_the_signing_key",
        "reads_the_environment_of_the_bot",
        "reads_the_databases",
        "looks_into_other_builds",
        "calls_out_by_tcp",
        "calls_out_by_udp",
        "calls_out_by_unix_sockets",
        "calls_out_by_netlink",
        "traces_a_bystander",
        "leaves_its_namespaces",
        "asks_for_io_uring",
        "writes_outside",
        "kills_its_parents",
        "leaves_a_daemon",
    ],
)
def test_a_converter_that_reaches_out_gets_nothing_and_carries_nothing_off(world: World, deed: str) -> None:
    ended = world.grind(deed)
    assert "debug: loot: nothing" in ended.log
    assert ended.deed.status == "published", ended.deed.reason
    files = world.published(ended.deed)
    assert files[f"phi-{deed}.bin"] == f"{deed}: nothing"
    assert CANARY not in ended.said + "".join(files.values())
    assert ended.build.failure is None
    went_on(ended)


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        ("forks_far_beyond_its_limit", r"stopped at \d+ processes"),
        ("writes_a_file_without_end", "stopped at a file of 0.0 GiB"),
        ("makes_files_without_end", "stopped at 200 files"),
        ("makes_files_where_nobody_can_look", "stopped at 200 files|cannot be looked into"),
        ("talks_without_end_in_one_line", "after 0 MiB of output"),
        ("talks_without_end_in_short_lines", "after 0 MiB of output"),
        ("floods_with_events", "after 0 MiB of output"),
    ],
)
def test_a_converter_without_end_is_stopped_at_its_limit(world: World, deed: str, says: str) -> None:
    ended = world.grind(deed, **SMALL)
    check_failed(ended, deed, says)
    assert len(ended.log) < 1500
    assert max(map(len, ended.log)) < 2100
    went_on(ended)


@pytest.mark.parametrize("deed", ["holds_far_more_memory_than_its_limit", "holds_memory_in_many_children"])
def test_a_converter_that_eats_memory_is_stopped_for_good(world: World, deed: str) -> None:
    before = psutil.Process().memory_info().rss
    ended = world.grind(deed, memory=200 * MIB)
    check_failed(ended, deed, "GiB of memory")
    assert psutil.Process().memory_info().rss < before + 150 * MIB, "what it held was not the bot's"
    went_on(ended)


def test_a_converter_that_never_ends_and_hears_no_signal_is_stopped(world: World) -> None:
    ended = world.grind("never_ends", wall=3.0)
    check_failed(ended, "never_ends", "after 3 s, the time it is given")
    went_on(ended)


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        ("ends_without_a_word", "ended without an answer to 'convert'"),
        ("hands_out_links", "named x.bin: No such file"),
        ("hands_out_a_device", "named x.bin: No such file"),
        ("names_another_recipe", "made gguf/ .* when asked for hostile/names_another_recipe"),
        ("names_one_file_for_ever", "named a file twice"),
    ],
)
def test_a_converter_that_lies_about_what_it_made_is_found_out(world: World, deed: str, says: str) -> None:
    ended = world.grind(deed)
    check_failed(ended, deed, says)
    assert "\x1b" not in str(ended.build.failure) + ended.said
    went_on(ended)


def test_figures_that_cannot_be_are_no_proof(world: World) -> None:
    ended = world.grind("measures_what_cannot_be")
    assert ended.deed.status == "gate_failed"
    assert "cannot be" in str(ended.deed.reason)
    went_on(ended)


def test_what_a_converter_says_of_its_work_never_becomes_a_command_on_the_card(world: World) -> None:
    ended = world.grind("puts_commands_into_its_facts")
    went_on(ended)
    card = world.published(ended.deed)["README.md"]
    assert "convert --type f16" in card
    assert "$(" not in card


def check_failed(ended: Ended, deed: str, says: str) -> None:
    """It is one typed failure with a sentence, in the result, on the build and in its log."""
    assert ended.deed.status == "failed"
    failure = ended.build.failure
    assert failure is not None
    assert failure.code == "converter_failed"
    with pytest.raises(PhimillError, match=says):
        raise failure.error()
    assert failure.message.startswith(f"hostile/{deed}: ")
    assert ended.log
