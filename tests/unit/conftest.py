"""What several of the unit tests use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_backend import Bench

from bot import toolchain


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    tools = toolchain.Toolchain("fake", Path(sys.prefix), Path(sys.executable), "0" * 64, {"fake": "1"})
    monkeypatch.setattr(toolchain, "converters_root", lambda: bench.root)
    monkeypatch.setattr(toolchain, "ensure", lambda *_, **__: tools)
    return bench
