"""What the tests with workers of a whole mill stand on: a Hub to copy, and how it looks after an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import phi_repos
import pytest
from mill_world import RELEASES, REPOS, Fresh, Nursery, calm, end_state, opened
from ports import free_port

from bot.localhub import RunningHub


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """The root of a Hub with the releases on it and nothing built, and the port it is known by."""
    root, port = tmp_path_factory.mktemp("fresh"), free_port()
    with RunningHub(root / "hub", port=port) as hub:
        for name in ("microsoft", "millbot"):
            hub.config.add_user(name)
        hub.config.add_org("phimill", {"millbot": "admin"})
        folder = phi_repos.write("phi35_mini", root / "phi")
        for name in RELEASES:
            phi_repos.upload(hub.url, hub.token("microsoft"), f"microsoft/{name}", folder)
    return Fresh(root, port)


@pytest.fixture(scope="session")
def expected(fresh: Fresh, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How the Hub looks after two workers whom nobody disturbed."""
    with opened(fresh, tmp_path_factory.mktemp("calm") / "world", nursery, None) as undisturbed:
        calm(undisturbed)
        found = end_state(undisturbed.api)
    assert sorted(found["repos"]) == sorted(REPOS)
    assert {tuple(repo["tags"]) for repo in found["repos"].values()} == {("v1.0",)}
    assert {title: len(items) for title, items in found["collections"].items()} == {
        f"{name}, converted": 3 for name in RELEASES
    }
    return found
