"""Fixtures for tests that run converters in their own environments."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from conv_mill import MODEL, Mill

from bot.toolchain import ensure


@cache
def python_of(backend: str) -> Path:
    """The backend's interpreter: one given by the environment, or the mill's own toolchain."""
    given = os.environ.get(f"PHIMILL_TEST_{backend.upper()}_PYTHON")
    return Path(given) if given else ensure(backend).python


@pytest.fixture(scope="session")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    return Mill(python_of, tmp_path_factory.mktemp("converters"))


@pytest.fixture(scope="session")
def reference(mill: Mill) -> Path:
    folder = mill.work / "reference"
    answer = mill.reference(folder)
    assert answer.code == 0, answer.last
    return folder


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[int, bytes], Path]:
    """Copy the model and overwrite its weights from some byte on; with nothing to write, cut them there."""

    def make(place: int, content: bytes) -> Path:
        folder = tmp_path / "damaged"
        folder.mkdir()
        for file in MODEL.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        weights = folder / "model.safetensors"
        raw = bytearray(weights.read_bytes())
        if content:
            raw[place : place + len(content)] = content
        else:
            del raw[place:]
        weights.write_bytes(raw)
        return folder

    return make
