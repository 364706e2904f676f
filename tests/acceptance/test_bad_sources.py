"""Sources that cannot be converted: each gets its error, its exit code, and a sentence on what to do."""

from __future__ import annotations

import json
import math
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import phi_repos
import pytest
from hub_world import BOT, HERE, MODEL, STRANGER, Ran, World, run

pytestmark = pytest.mark.backend

OTHER_HOST = f"https://huggingface.co.example/microsoft/{MODEL}"
# What is asked for, the exit code, and the error's code ("" where the verdict itself is the answer).
REFUSED = {
    "unknown": ("microsoft/Phi-17", 5, "repo_unavailable"),
    "private to somebody else": ("eve/Phi-private", 5, "repo_unavailable"),
    "gated without consent": ("eve/Phi-gated", 5, "gated"),
    "a revision that is not there": ("eve/Phi-plain@v9.9", 5, "repo_unavailable"),
    "a commit that is not there": (f"eve/Phi-plain@{'0' * 40}", 5, "repo_unavailable"),
    "a path": ("../../etc/passwd", 2, "invalid_repo_id"),
    "a path behind a name": ("microsoft/../eve", 2, "invalid_repo_id"),
    "another host": (OTHER_HOST, 2, "invalid_repo_id"),
    "a look-alike": ("micr\u043esoft/Phi-4", 2, "invalid_repo_id"),
    "an escaped slash": ("microsoft%2fPhi-4", 2, "invalid_repo_id"),
    "an escaped path": ("microsoft/%2e%2e", 2, "invalid_repo_id"),
    "empty": ("eve/Phi-empty", 3, "refused"),
    "pickles only": ("eve/Phi-pickles", 3, ""),
    "a header that overlaps itself": ("eve/Phi-overlapping", 3, "source_corrupt"),
    "truncated": ("eve/Phi-truncated", 3, "source_corrupt"),
}


def tiny(folder: Path, tiny_phi: Path, weights: bytes | None = None) -> Path:
    """The tiny Phi, with other weights if there are any."""
    shutil.copytree(tiny_phi, folder)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def with_nan(weights: bytes) -> bytes:
    """One weight of many that is no number, as an overflow in training leaves it."""
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + length])
    at = 8 + length + int(header["model.layers.3.mlp.down_proj.weight"]["data_offsets"][0]) + 2000
    # The upper half of a float32 is its bfloat16.
    return weights[:at] + struct.pack("<f", math.nan)[2:] + weights[at + 2 :]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path, toolchains: dict[str, Path]) -> Iterator[World]:
    root = tmp_path_factory.mktemp("bad-sources")
    good = (tiny_phi / "model.safetensors").read_bytes()
    with World(root / "world") as world:
        api = world.api(STRANGER)
        for name, kind in {"plain": "phi3_mini_4k", "private": "phi3_mini_4k", "gated": "phi3_mini_4k",
                           "pickles": "pickles_only", "overlapping": "overlapping_tensors"}.items():  # fmt: skip
            world.release(phi_repos.write(kind, root / name), f"eve/Phi-{name}", STRANGER)
        for name, weights in {"truncated": good[:-1000], "3-nan": with_nan(good), "3-damaged": good}.items():
            world.release(tiny(root / name, tiny_phi, weights), f"eve/Phi-{name}", STRANGER)
        api.create_repo("eve/Phi-empty")
        api.update_repo_settings("eve/Phi-private", private=True)
        api.update_repo_settings("eve/Phi-gated", gated="manual")
        yield world


@pytest.fixture(scope="module")
def answers(world: World) -> dict[str, Ran]:
    """What `phimill convert` says to each of them, asked one after the other."""
    lines = [["convert", text, "--recipe", "gguf/fp16", "--format", "json"] for text, _, _ in REFUSED.values()]
    ran = run([sys.executable, HERE / "many_commands.py"], world.env(), json.dumps(lines))
    assert ran.code == 0, ran.err
    return {name: Ran(**answer) for name, answer in zip(REFUSED, ran.json, strict=True)}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_own_error_and_exit_code(answers: dict[str, Ran], name: str) -> None:
    _, exit_code, error_code = REFUSED[name]
    answer = answers[name]
    assert answer.code == exit_code, answer
    if error_code:
        assert answer.error["code"] == error_code
        assert answer.error["message"].endswith((".", "?"))
        assert "Traceback" not in answer.err
    else:
        (variant,) = answer.json["variants"]
        assert variant["status"] == "refused"
        assert "never loaded" in variant["reason"]


def test_what_is_private_to_somebody_else_looks_as_if_it_were_not_there(answers: dict[str, Ran]) -> None:
    private, unknown = (answers[name].error for name in ("private to somebody else", "unknown"))
    assert private["message"].replace("eve/Phi-private", "X") == unknown["message"].replace("microsoft/Phi-17", "X")


def test_weights_that_are_no_numbers_stop_the_build_and_publish_nothing(world: World) -> None:
    ran = world.convert("gguf/fp16", repo="eve/Phi-3-nan")
    assert ran.code == 3, ran.err
    assert ran.error["code"] == "source_corrupt"
    assert "model.layers.3.mlp.down_proj.weight" in ran.error["message"]
    assert "phimill/Phi-3-nan-GGUF" not in world.published()


def test_damaged_bytes_are_noticed_and_the_next_run_on_good_ones_repairs(world: World, tiny_phi: Path) -> None:
    entry = next(f for f in world.reader.list_repo_tree("eve/Phi-3-damaged") if f.path == "model.safetensors")
    (blob,) = (world.root / "hub").rglob(f"*{entry.lfs.sha256}")
    good = (tiny_phi / "model.safetensors").read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    ran = world.convert("gguf/fp16", repo="eve/Phi-3-damaged")
    assert (ran.code, ran.error["code"]) == (3, "source_corrupt"), ran.err
    assert "model.safetensors" in ran.error["message"]
    assert "phimill/Phi-3-damaged-GGUF" not in world.published()
    blob.write_bytes(good)
    ran = world.convert("gguf/fp16", repo="eve/Phi-3-damaged")
    assert ran.code == 0, ran.err
    assert ran.json["variants"][0]["tag"] == "v1.0"


def test_nothing_of_them_was_published(world: World, answers: dict[str, Ran]) -> None:
    assert answers
    assert world.published() <= {"phimill/Phi-3-damaged-GGUF"}
    assert not [model.id for model in world.reader.list_models(author=BOT)]
