"""What the engine's tests stand on: a home on either database, and an engine on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_worker import open_engine

from bot.engine import Engine


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on either database; what works on one works on the other."""
    monkeypatch.delenv("PHIMILL_DATABASE_URL", raising=False)
    if request.param == "postgres":
        monkeypatch.setenv("PHIMILL_DATABASE_URL", request.getfixturevalue("postgres_url"))
    return tmp_path


@pytest.fixture
def engine(home: Path) -> Iterator[Engine]:
    engine, journal = open_engine(home)
    yield engine
    engine.close()
    journal.close()
