"""A runtime that computes something else than the source is found out before anything is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_world import Ran, World

pytestmark = pytest.mark.backend


@dataclass(frozen=True)
class Mismatch:
    world: World
    ran: Ran


@pytest.fixture(scope="module")
def mismatch(
    tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path, toolchains: dict[str, Path]
) -> Iterator[Mismatch]:
    """transformers reads `hidden_act` from config.json; llama.cpp's Phi-3 always computes SiLU."""
    root = tmp_path_factory.mktemp("mismatch")
    source = shutil.copytree(tiny_phi, root / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    with World(root / "world") as world:
        world.release(source)
        yield Mismatch(world, world.watch_once())


def test_a_runtime_that_differs_from_the_source_fails_the_gate(mismatch: Mismatch) -> None:
    assert mismatch.ran.code == 4, mismatch.ran.err
    assert mismatch.ran.error["code"] == "gate_failed"
    (build,) = mismatch.ran.json["builds"]
    assert {result["status"] for result in build["results"]} == {"gate_failed"}
    assert all(result["reason"].startswith("Runtime error: ") for result in build["results"])


def test_it_publishes_nothing_and_keeps_its_reasons(mismatch: Mismatch) -> None:
    assert mismatch.world.published() == set()
    assert list(mismatch.world.reader.list_collections(owner="phimill")) == []
    rows = mismatch.ran.json["releases"]
    assert {row["state"] for row in rows} == {"failed"}


def test_it_is_not_tried_again_by_the_clock(mismatch: Mismatch) -> None:
    assert [look["queued"] for look in mismatch.world.look(2)] == [[], []]
