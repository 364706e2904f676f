"""Searching, on a Hub of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import phi_repos
import pytest
from huggingface_hub import HfApi

from bot.hub import Hub
from bot.localhub import RunningHub
from bot.search import Search


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningHub]:
    with RunningHub(tmp_path / "hub") as running:
        for owner in ("microsoft", "ann"):
            running.config.add_user(owner)
        folder = phi_repos.write("phi35_mini", tmp_path / "phi")
        for repo in ("microsoft/Phi-first", "microsoft/Phi-second", "ann/my-phi-first"):
            phi_repos.upload(running.url, running.token(repo.split("/")[0]), repo, folder)
        (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
        phi_repos.upload(running.url, running.token("ann"), "ann/first-llama", folder)
        yield running


@pytest.fixture
def hub(running: RunningHub) -> Hub:
    return Hub(running.url)


def found(search: Search, text: str) -> list[tuple[str, bool]]:
    return [(one.repo, one.release) for one in search(text)]


def test_releases_come_first_and_only_phis_come_at_all(hub: Hub) -> None:
    search = Search(hub, ("microsoft",))
    assert found(search, "FIRST phi") == [("microsoft/Phi-first", True), ("ann/my-phi-first", False)]
    assert sorted(found(search, "")) == [("microsoft/Phi-first", True), ("microsoft/Phi-second", True)]
    assert found(search, "nobody has this") == []


def test_the_same_letters_are_asked_for_once(hub: Hub) -> None:
    search = Search(hub, ("microsoft",))
    first = found(search, "first")
    calls = len(hub.calls)
    assert found(search, " First ") == first
    assert len(hub.calls) == calls


def test_a_card_that_the_client_cannot_take_does_not_spoil_the_search(running: RunningHub, tmp_path: Path) -> None:
    card = tmp_path / "phi" / "README.md"
    card.write_text("---\nself: me\n---\n# Hello\n")
    api = HfApi(running.url, token=running.token("ann"))
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="ann/my-phi-first")
    search = Search(Hub(running.url), ("microsoft",))
    assert found(search, "first") == [("microsoft/Phi-first", True), ("ann/my-phi-first", False)]
