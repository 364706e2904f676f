"""What people (and webhooks) call a repo never leads anywhere but to a repo of the configured Hub."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import InvalidRepoId
from bot.models import RepoRef

TRICKS = [
    "",
    "phi",
    "a/b/c",
    "../etc/passwd",
    "microsoft/..",
    "microsoft/.phi",
    "microsoft/phi..4",
    "microsoft/phi--4",
    "microsoft/phi.git",
    "microsoft\\phi",
    "microsoft/phi 4",
    "microsoft/phi\n",
    "microsoft/phi\x00",
    "microsoft/phi%2f..",
    "microsoft%2fphi",
    "micrоsoft/phi-4",  # a Cyrillic o
    "microsoft/phi-４",  # a full-width 4
    "ｍicrosoft/phi",
    "microsoft/phi\u200b",
    "microsoft/phi\u202e4",
    "microsoft/phi@",
    "microsoft/phi@..",
    "microsoft/phi@a//b",
    "microsoft/phi@main@evil",
    "microsoft/phi@-delete",
    "microsoft/phi@ref?x=1",
    "microsoft/phi?revision=x",
    "microsoft/phi#x",
    "/microsoft/phi",
    "~/phi",
    "-x/phi",
    "http://huggingface.co/microsoft/phi",
    "https://huggingface.co@evil.example/microsoft/phi",
    "https://huggingface.co:pass@evil.example/microsoft/phi",
    "https://huggingface.co.evil.example/microsoft/phi",
    "https://huggingface.co:8443/microsoft/phi",
    "https://huggingface.com/microsoft/phi",
    "https://hugging\u200bface.co/microsoft/phi",
    "https://evil.example/https://huggingface.co/microsoft/phi",
    "https://huggingface.co/../microsoft/phi",
    "https://huggingface.co//microsoft/phi",
    "https://huggingface.co/microsoft/phi/resolve/main/x",
    "https://huggingface.co/microsoft/phi?x=https://evil.example",
    "https://[::1]/microsoft/phi",
    "file:///etc/passwd",
    "git@huggingface.co:microsoft/phi",
    "a" * 60 + "/" + "b" * 60,
]


@pytest.mark.parametrize("text", TRICKS)
def test_a_trick_is_refused(text: str) -> None:
    if text == "microsoft/phi\n":
        assert RepoRef.parse(text).repo == "microsoft/phi"  # a pasted line break is no trick
        return
    with pytest.raises(InvalidRepoId):
        RepoRef.parse(text)


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("microsoft/Phi-4-mini-instruct", "microsoft/Phi-4-mini-instruct", None),
        (" microsoft/phi_1.5 ", "microsoft/phi_1.5", None),
        ("microsoft/phi-4@v1.0", "microsoft/phi-4", "v1.0"),
        ("microsoft/phi-4@refs/pr/1", "microsoft/phi-4", "refs/pr/1"),
        ("hf://microsoft/phi-4", "microsoft/phi-4", None),
        ("https://huggingface.co/microsoft/phi-4", "microsoft/phi-4", None),
        ("https://huggingface.co/microsoft/phi-4/", "microsoft/phi-4", None),
        ("https://huggingface.co/microsoft/phi-4/tree/main", "microsoft/phi-4", "main"),
    ],
)
def test_what_people_paste_is_understood(text: str, repo: str, revision: str | None) -> None:
    ref = RepoRef.parse(text)
    assert (ref.repo, ref.revision) == (repo, revision)
    assert RepoRef.parse(str(ref)) == ref


def test_a_url_is_one_of_the_configured_hub_only() -> None:
    own = "http://127.0.0.1:8077"
    assert RepoRef.parse(f"{own}/a/b", own).repo == "a/b"
    with pytest.raises(InvalidRepoId):
        RepoRef.parse("http://127.0.0.1:80771/a/b", own)
    with pytest.raises(InvalidRepoId):
        RepoRef.parse("https://huggingface.co/a/b", own)


pieces = st.sampled_from(
    ["microsoft", "phi", "/", "@", "..", ".", "-", "%2f", "\\", "://", "https", "?", "#", " ", "о"]
)


@given(st.lists(pieces | st.text(max_size=3), max_size=8).map("".join))
def test_whatever_is_accepted_is_a_plain_owner_and_name(text: str) -> None:
    try:
        ref = RepoRef.parse(text)
    except InvalidRepoId:
        return
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", ref.repo, re.ASCII)
    assert ".." not in ref.repo
    assert ref.revision is None or re.fullmatch(r"[A-Za-z0-9._/-]+", ref.revision, re.ASCII)
