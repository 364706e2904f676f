"""The verdict over the real protocol, with the tokenizer loaded by a sandboxed child."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import phi_repos
import pytest
from phi_repos import FolderHub, put

from bot import catalog, preflight, pretokenizer, recipes
from bot.errors import SourceCorrupt
from bot.hub import Hub
from bot.localhub import RunningHub
from bot.models import RepoRef, Status
from bot.settings import Settings

REF = RepoRef(repo="microsoft/phi")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", disk_floor=0)


def probe(folder: Path, settings: Settings, text: str = "Hello 123 world") -> pretokenizer.Probed:
    hub = FolderHub(folder)
    return pretokenizer.probe(catalog.release(hub, REF), text, hub, settings)


def test_the_whole_verdict_costs_less_than_a_hundredth_of_the_weights(
    tmp_path: Path, tiny_phi: Path, settings: Settings
) -> None:
    with RunningHub(tmp_path / "hub") as running:
        running.config.add_user("microsoft")
        phi_repos.upload(running.url, running.token("microsoft"), "microsoft/tiny", tiny_phi)
        hub = Hub(running.url)
        release = catalog.release(hub, RepoRef(repo="microsoft/tiny"))
        found = preflight.verdicts(release, recipes.all_recipes(), hub, settings)
    assert {v.status for v in found if v.recipe != "mlx/fp32"} == {Status.CAVEAT}
    assert hub.bytes_read < release.weight_bytes / 100
    # The verdict asks for one thing that the release did not read already: where the chat template is.
    assert len(hub.calls) == 7


def test_the_probe_hashes_as_llama_cpp_does(tmp_path: Path, settings: Settings) -> None:
    """sha256 of `str(ids)`: here worked out by hand for a vocabulary without merges, one token per byte."""
    from hashlib import sha256

    from tokenizers import Tokenizer

    folder = phi_repos.write("phi4", tmp_path / "repo")
    probed = probe(folder, settings)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("Hello 123 world").ids
    assert len(ids) == len("Hello 123 world")
    assert probed == pretokenizer.Probed(sha256=sha256(str(ids).encode()).hexdigest(), highest=319)


def test_an_unknown_pre_tokenizer_is_refused_and_a_known_one_is_not(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FolderHub(phi_repos.write("phi4", tmp_path / "repo"))
    release = catalog.release(hub, REF)
    wanted = recipes.by_id(["gguf/int8"])
    (unknown,) = preflight.verdicts(release, wanted, hub, settings)
    assert unknown.status is Status.UNSUPPORTED
    assert "pre-tokenizer" in unknown.reasons[0]
    gguf = recipes.backends()["gguf"]
    assert gguf.pretokenizers is not None
    known = {pretokenizer.probe(release, gguf.pretokenizers.probe_text, hub, settings).sha256: "phi"}
    made = gguf.model_copy(update={"pretokenizers": gguf.pretokenizers.model_copy(update={"hashes": known})})
    monkeypatch.setattr(recipes, "backends", lambda: {"gguf": made})
    assert preflight.verdicts(release, wanted, hub, settings)[0].status is Status.SUPPORTED


def test_a_token_beyond_the_vocabulary_is_found(tmp_path: Path, settings: Settings) -> None:
    assert probe(phi_repos.write("token_beyond_vocabulary", tmp_path / "repo"), settings).highest == 320


def bomb(kind: str) -> str:
    made: dict[str, Any] = json.loads(phi_repos.bpe_json())
    if kind == "grows":
        # Each step makes every character a thousand.
        step = {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 1000}
        made["normalizer"] = {"type": "Sequence", "normalizers": [step] * 4}
    elif kind == "deep":
        inner: dict[str, Any] = {"type": "NFC"}
        for _ in range(100):
            inner = {"type": "Sequence", "normalizers": [inner]}
        made["normalizer"] = inner
        return json.dumps(made).replace('{"type": "NFC"}', "[" * 50_000)
    elif kind == "negative":
        made["model"]["vocab"] = {"a": -1}
    elif kind == "other":
        return '"a text"'
    return json.dumps(made)


@pytest.mark.parametrize("kind", ["grows", "deep", "negative", "other"])
def test_a_tokenizer_bomb_ends_as_a_corrupt_source(
    kind: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretokenizer, "SECONDS", 10.0)
    monkeypatch.setattr(pretokenizer, "MEMORY", 512 * 1024**2)
    folder = phi_repos.write("phi4", tmp_path / "repo")
    put(folder, "tokenizer.json", bomb(kind))
    with pytest.raises(SourceCorrupt, match=r"tokenizer\.json"):
        probe(folder, settings)


def test_an_oversized_tokenizer_is_not_even_loaded(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretokenizer, "MAX_TOKENIZER", 1000)
    folder = phi_repos.write("phi4", tmp_path / "repo")
    with RunningHub(tmp_path / "hub") as running:
        running.config.add_user("microsoft")
        phi_repos.upload(running.url, running.token("microsoft"), "microsoft/phi", folder)
        hub = Hub(running.url)
        release = catalog.release(hub, REF)
        with pytest.raises(SourceCorrupt, match="larger than 1000"):
            pretokenizer.probe(release, "x", hub, settings)
