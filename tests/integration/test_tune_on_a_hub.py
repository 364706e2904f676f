"""Tuning for real: a tiny trained Phi on a Hub, llama.cpp, three candidates; interrupted, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import phi_repos
import pytest
from huggingface_hub import HfApi

from bot import candidates, tune
from bot.hub import Hub
from bot.localhub import RunningHub
from bot.mill import Mill
from bot.models import Precision
from bot.settings import Settings

pytestmark = [pytest.mark.backend, pytest.mark.timeout(1800)]

SOURCE = "microsoft/Phi-3.5-tiny-instruct"
FINER = "gguf/iq4_xs+emb-q6_k"
TRIED = ["gguf/int4", "gguf/int4-cookbook", FINER]
COMMAND = ["tune", SOURCE, "--backend", "gguf", "--candidate", "gguf/int4", "--candidate", FINER, "--format", "json"]
PATIENCE = 900.0  # seconds; the machine may be busy with other things


@dataclass(frozen=True)
class Tuned:
    """A tuning that was stopped after its first candidate, and begun again."""

    home: Path
    url: str
    sha: str
    stopped: tuple[int, str, str]
    kept: frozenset[str]
    again: tuple[int, str, str]

    @property
    def folder(self) -> Path:
        return tune.folder(Settings(home=self.home), SOURCE, self.sha)

    @property
    def evidence(self) -> dict[str, Any]:
        return dict(json.loads(self.again[1]))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path) -> Iterator[Tuned]:
    root = tmp_path_factory.mktemp("tuned")
    with RunningHub(root / "hub", process=True) as hub:
        hub.config.add_user("microsoft")
        sha = phi_repos.upload(hub.url, hub.token("microsoft"), SOURCE, tiny_phi)
        # Nobody is logged in: what is never published needs no token.
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hf")}
        env |= {"PHIMILL_HOME": str(root / "home"), "PHIMILL_TOOLCHAINS": os.environ["PHIMILL_TOOLCHAINS"]}
        measured = tune.folder(Settings(home=root / "home"), SOURCE, sha) / "measured"
        process = begun(env)
        end = time.monotonic() + PATIENCE
        while len(names(measured)) < 2 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        stopped, kept = ended(process), frozenset(names(measured))
        yield Tuned(root / "home", hub.url, sha, stopped, kept, ended(begun(env)))


def begun(env: dict[str, str]) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("phimill")), *COMMAND]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


def test_sigterm_stops_it_at_once_and_says_how_to_go_on(tuned: Tuned) -> None:
    code, out, err = tuned.stopped
    assert code == 143, err
    assert out == ""
    assert "Nothing is lost" in err
    assert len(tuned.kept) == 2, "the unquantized export and the first candidate"


def test_begun_again_it_goes_on_with_what_is_missing(tuned: Tuned) -> None:
    code, _, err = tuned.again
    assert code == 0, err
    assert err.count("was measured before") == 2
    assert "reference took" not in err, "the source's own log-probabilities are kept as well"
    assert tuned.kept < names(tuned.folder / "measured")


def test_every_candidate_is_measured_and_one_is_chosen_by_the_rule(tuned: Tuned) -> None:
    found = tuned.evidence
    rows = {row["recipe"]: row for row in found["candidates"]}
    assert sorted(rows) == TRIED
    assert {row["status"] for row in rows.values()} == {"measured"}
    sizes = [row["bytes"] for row in found["candidates"]]
    assert sizes == sorted(sizes)
    largest = 1.05 * rows["gguf/int4-cookbook"]["bytes"]
    assert found["chosen"] == min((r for r in rows.values() if r["bytes"] <= largest), key=lambda r: r["kl"])["recipe"]
    assert rows[found["candidates"][0]["recipe"]]["front"], "nothing is smaller than the smallest"
    assert all(0 < row["kl"] == row["fidelity"]["kl_mean"] < 0.15 for row in rows.values())
    assert (found["source"], found["source_sha"]) == (SOURCE, tuned.sha)


def test_evidence_picture_and_recipe_are_written(tuned: Tuned) -> None:
    assert json.loads((tuned.folder / "gguf-INT4.json").read_text()) == tuned.evidence
    assert (tuned.folder / "gguf-INT4.png").read_bytes().startswith(b"\x89PNG")
    recipe = tomllib.loads((tuned.folder / "gguf-INT4.toml").read_text())["recipe"][0]
    assert recipe["id"] == tuned.evidence["chosen"]
    assert recipe["options"] == tuned.evidence["recipe"]["options"]


def test_nothing_is_published_and_nothing_large_is_left(tuned: Tuned) -> None:
    assert [model.id for model in HfApi(endpoint=tuned.url, token=False).list_models()] == [SOURCE]
    assert list((tuned.home / "work").rglob("*.gguf*")) == []
    assert list((tuned.home / "work" / "tmp").iterdir()) == []


class Heard:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, build: str, level: str, stage: str, text: str) -> None:
        self.lines.append(f"{level}: {text}")

    def set_progress(self, *_: object) -> None: ...


def test_a_candidate_that_llama_cpp_refuses_is_listed_and_the_rest_goes_on(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    finer = next(r for r in candidates.extra("gguf") if r.id == FINER)
    odd = finer.model_copy(update={"id": "gguf/odd", "file": "{m}-odd.gguf", "options": {"type": "Q9_K"}})
    monkeypatch.setattr(candidates, "extra", lambda backend: (odd, finer))
    mill, ear = Mill(Settings(home=tuned.home)), Heard()
    mill.hub = Hub(tuned.url)
    try:
        found = tune.tune(mill, ear, SOURCE, "gguf", Precision.INT4, [*TRIED, "gguf/odd"])
    finally:
        mill.close()
    assert [row.recipe for row in found.candidates][-1] == "gguf/odd"
    assert found.candidates[-1].status == "failed"
    assert "llama.cpp has no quantization 'Q9_K'" in (found.candidates[-1].reason or "")
    assert found.chosen == tuned.evidence["chosen"]
    assert sum("was measured before" in line for line in ear.lines) == len(TRIED) + 1
