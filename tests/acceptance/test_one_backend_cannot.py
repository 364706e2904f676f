"""A release that one backend cannot do: it is refused before a weight is downloaded, and for that one alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import phi_repos
import pytest
from hub_world import MICROSOFT, World

pytestmark = [pytest.mark.backend, pytest.mark.timeout(1200)]

NAME = "Phi-new-words"
SOURCE = f"microsoft/{NAME}"


def with_unknown_words(tiny_phi: Path, folder: Path) -> Path:
    """The tiny Phi with a byte-pair tokenizer that llama.cpp has no name for; it splits text as nobody else does."""
    shutil.copytree(tiny_phi, folder)
    (folder / "tokenizer.model").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    del config["legacy"]
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture
def world(tmp_path: Path, tiny_phi: Path) -> Iterator[World]:
    with World(tmp_path / "world") as world:
        world.release(with_unknown_words(tiny_phi, tmp_path / "source"), SOURCE)
        yield world


def test_an_unknown_tokenizer_is_refused_for_gguf_before_any_weight_is_downloaded(world: World) -> None:
    ran = world.phimill("convert", SOURCE, "--recipe", "gguf/int4", "--format", "json")
    assert ran.code == 3, ran.err
    [variant] = ran.json["variants"]
    assert (variant["status"], variant["repo"]) == ("refused", None)
    assert "tokenizer" in variant["reason"]
    assert not list((world.home / "work").glob("source/*/*.safetensors"))


def test_a_mixture_of_experts_is_refused_for_onnx_alone(world: World, tmp_path: Path) -> None:
    repo = "microsoft/Phi-of-experts"
    world.release(phi_repos.write("phi35_moe", tmp_path / "moe"), repo, MICROSOFT)
    ran = world.phimill("check", repo, "--format", "json")
    assert ran.code == 0, ran.err
    verdicts = {verdict["recipe"]: verdict for verdict in ran.json["verdicts"]}
    onnx = [verdict for recipe, verdict in verdicts.items() if recipe.startswith("onnx/")]
    assert {verdict["status"] for verdict in onnx} <= {"unsupported", "known_broken"}
    assert all("expert" in " ".join(verdict["reasons"]) for verdict in onnx)
    assert any(verdict["status"] in ("supported", "caveat") for verdict in verdicts.values())


def test_what_gguf_cannot_do_the_other_backends_publish(world: World) -> None:
    possible = {"mlx/int8-short-context", "openvino/int8", "onnx/int8"}
    ran = world.convert(
        "gguf/int4", *sorted(possible), repo=SOURCE, PHIMILL_BACKENDS='["gguf", "mlx", "onnx", "openvino"]'
    )
    variants = {variant["recipe"]: variant for variant in ran.json["variants"]}
    assert {name for name, variant in variants.items() if variant["status"] == "published"} == possible, ran.err
    assert variants["gguf/int4"]["status"] == "refused"
    published = world.published()
    assert {variant["repo"] for name, variant in variants.items() if name in possible} == set(published)
    assert not any("GGUF" in repo for repo in published)
