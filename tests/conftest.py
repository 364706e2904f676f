"""What every test stands on: its own home and caches, no token and no Hub but one it starts itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import postgres
import pytest

from bot.settings import Settings

# Made once and shared by every test and every process that a test starts, whatever home that has.
os.environ.setdefault("PHIMILL_TOOLCHAINS", str(Settings().toolchains))

# Always the same made-up examples, so that no change is refused for what another one broke: whoever looks for new ones
# says how many. That a machine is slow is no finding.
EXAMPLES = os.environ.get("PHIMILL_TEST_EXAMPLES")
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=EXAMPLES is None, max_examples=int(EXAMPLES or 100),
)  # fmt: skip
hypothesis.settings.load_profile("patient")

MODELS = Path(__file__).parent / "models"
LONG = ("chaos", "backend", "browser")  # marks, the longest first


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take long go first, so that of two processes none is left alone with one at the end."""
    rank: dict[Path, int] = {}
    for item in items:
        marked = [place for place, mark in enumerate(LONG) if item.get_closest_marker(mark)]
        rank[item.path] = min([*marked, rank.get(item.path, len(LONG))])
    items.sort(key=lambda item: rank[item.path])


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("PHIMILL_", "HF_")) and n != "PHIMILL_TOOLCHAINS"]:
        if not name.startswith("PHIMILL_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="session")
def tiny_phi() -> Path:
    """A tiny trained Phi with the real shape (tests/models)."""
    return MODELS / "tiny-phi-3.5-instruct"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real Postgres: PHIMILL_TEST_DATABASE_URL, or one started for this test run."""
    if url := os.environ.get("PHIMILL_TEST_DATABASE_URL"):
        yield url
        return
    with postgres.running() as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of its own on the Postgres server."""
    with postgres.new_database(postgres_server) as url:
        yield url
