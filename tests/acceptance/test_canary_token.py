"""The bot's token is a canary: where it is found besides the Authorization header, something leaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from published import Published

pytestmark = pytest.mark.backend


def files_below(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_no_program_that_it_started_was_given_the_token(published: Published) -> None:
    assert published.started, "the audit saw no program start"
    given = [note["argv"] for note in published.started if published.token in str(note["env"])]
    assert not given
    assert not [note["argv"] for note in published.started if published.token in str(note["argv"])]


def test_the_kernel_shows_the_token_in_no_child(published: Published) -> None:
    commands = [command for command, _ in published.children]
    for module in (b"converters.gguf", b"converters.reference"):
        assert any(module in command for command in commands), f"{module!r} was never seen"
    token = published.token.encode()
    assert not [command for command, environment in published.children if token in environment + command]


def test_children_know_of_no_hub(published: Published) -> None:
    converters = [env for command, env in published.children if b"converters." in command and env]
    assert converters
    for environment in converters:
        names = {entry.partition(b"=")[0] for entry in environment.split(b"\0")}
        assert not names & {b"HF_TOKEN", b"HF_ENDPOINT", b"HUGGING_FACE_HUB_TOKEN"}
        assert b"HF_HUB_OFFLINE=1" in environment.split(b"\0")


def test_the_token_is_in_no_file_that_the_mill_or_the_hub_keeps(published: Published) -> None:
    token, looked = published.token.encode(), 0
    for path in files_below(published.snapshot):
        looked += 1
        assert token not in path.read_bytes(), path
    assert looked > 20


def test_the_token_is_in_nothing_that_was_printed(published: Published) -> None:
    assert published.token not in published.ran.out + published.ran.err


def test_the_token_travels_in_the_authorization_header_and_nowhere_else(published: Published) -> None:
    token, carried = published.token.encode(), 0
    for seen in published.seen:
        assert token not in seen.target.encode()
        assert token not in seen.body
        for name, value in seen.headers:
            if token in value:
                assert (name.lower(), value) == (b"authorization", b"Bearer " + token)
                carried += 1
    assert carried


def test_nobody_but_the_hub_was_spoken_to(published: Published) -> None:
    assert not published.knocked_elsewhere
