"""A source in which one matrix suffers more from being quantized than its siblings: it is published, and said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_world import TARGET, Ran, World
from planted import PLANTED, plant

pytestmark = pytest.mark.backend

RECIPES = ("gguf/int4", "gguf/int8", "gguf/fp16")


@dataclass(frozen=True)
class Planted:
    world: World
    ran: Ran

    def weights(self, recipe: str) -> dict[str, Any]:
        """What the receipt says about a variant's weights."""
        [variant] = [v for v in self.world.receipt("v1.0")["variants"] if v["recipe"] == recipe]
        return dict(variant["fidelity"]["weights"])


@pytest.fixture(scope="module")
def planted(
    tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path, toolchains: dict[str, Path]
) -> Iterator[Planted]:
    root = tmp_path_factory.mktemp("planted")
    with World(root / "world") as world:
        world.release(plant(tiny_phi, root / "source"))
        yield Planted(world, world.convert(*RECIPES))


def test_it_is_reported_and_not_held_against_the_variant(planted: Planted) -> None:
    assert planted.ran.code == 0, planted.ran.err
    assert {v["recipe"] for v in planted.world.receipt("v1.0")["variants"]} == set(RECIPES)


@pytest.mark.parametrize(("recipe", "kind"), [("gguf/int4", "Q4_K"), ("gguf/int8", "Q8_0")])
def test_the_receipt_names_it_with_its_error_and_the_usual_one(planted: Planted, recipe: str, kind: str) -> None:
    found = planted.weights(recipe)
    assert (found["stand_out"], found["not_found"]) == (1, 0)
    [outlier] = found["outliers"]
    assert (outlier["tensor"], outlier["kind"]) == (PLANTED, kind)
    assert outlier["error"] > 1.5 * outlier["usual"] > 0


def test_where_nothing_is_quantized_nothing_stands_out(planted: Planted) -> None:
    found = planted.weights("gguf/fp16")
    assert (found["compared"], found["stand_out"]) == (24, 0)


def test_the_card_the_log_and_the_explanation_name_it(planted: Planted) -> None:
    card = planted.world.read("README.md", "v1.0").decode()
    assert "### Weights that stand out" in card
    assert f"| `{PLANTED}` | Q4_K |" in card
    assert "The source's weights were not audited" in card
    [build] = planted.world.phimill("status", "--format", "json").json["builds"]
    log = planted.world.phimill("logs", build["id"], "--format", "json").out.splitlines()
    assert [line for line in log if PLANTED in line and '"warning"' in line]
    assert f"{PLANTED} (Q4_K)" in " ".join(planted.world.phimill("explain", TARGET).out.split())
