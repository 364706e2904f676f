"""A Hub whose process is killed: what was acknowledged is there, what was not is not there in part."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hub_writer import REPO, check_whole, connect, write_until
from huggingface_hub import HfApi

from bot.localhub import HubInUseError, RunningHub
from bot.localhub.hub import Hub


def test_a_kill_during_commits_leaves_whole_commits_only(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    acknowledged: list[str] = []
    for life in range(3):
        with RunningHub(root, process=True) as hub:
            connect(hub).create_repo(REPO, exist_ok=True)
            acknowledged += write_until(hub.kill, hub, tmp_path / "home", life)

    with RunningHub(root, process=True) as hub:
        check_whole(connect(hub), acknowledged, tmp_path / "cache")
        assert not [path for path in (root / "tmp").rglob("*") if path.is_file()]


def test_a_restart_keeps_tokens_repos_and_the_xet_store(tmp_path: Path) -> None:
    content = random.Random(5).randbytes(2_000_000)
    (tmp_path / "w.gguf").write_bytes(content)
    with RunningHub(tmp_path / "hub") as hub:
        token = hub.token("miller")
        api = connect(hub)
        api.create_repo(REPO)
        api.upload_file(path_or_fileobj=tmp_path / "w.gguf", path_in_repo="w.gguf", repo_id=REPO)
    with RunningHub(tmp_path / "hub", port=hub.port) as again:
        api = HfApi(endpoint=again.url, token=token)
        api.create_repo("miller/second")
        # The client knows that it has sent these chunks, and does not send them again.
        api.upload_file(path_or_fileobj=tmp_path / "w.gguf", path_in_repo="w.gguf", repo_id="miller/second")
        path = api.hf_hub_download("miller/second", "w.gguf", cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == content


def test_a_store_that_lost_its_xorbs_takes_a_new_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(6).randbytes(2_000_000)
    (tmp_path / "w.gguf").write_bytes(content)
    with RunningHub(tmp_path / "hub") as hub:
        api = connect(hub)
        api.create_repo(REPO)
        api.upload_file(path_or_fileobj=tmp_path / "w.gguf", path_in_repo="w.gguf", repo_id=REPO)
    monkeypatch.setattr("bot.localhub.xorbs.XORB_BUDGET", 1_000_000)
    with RunningHub(tmp_path / "hub", port=hub.port) as again:
        api = connect(again)
        assert not [path for path in (tmp_path / "hub" / "xorbs").rglob("*") if len(path.name) == 64]
        api.create_repo("miller/second")
        api.upload_file(path_or_fileobj=tmp_path / "w.gguf", path_in_repo="w.gguf", repo_id="miller/second")
        path = api.hf_hub_download("miller/second", "w.gguf", cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == content


def test_a_restart_frees_the_blobs_of_deleted_repos_only(tmp_path: Path) -> None:
    def blobs() -> set[str]:
        return {path.name for path in (tmp_path / "hub" / "blobs").glob("*/*")}

    with RunningHub(tmp_path / "hub") as hub:
        api = connect(hub)
        for name in ("miller/kept", "miller/gone"):
            api.create_repo(name)
            api.upload_file(path_or_fileobj=name.encode(), path_in_repo="a.txt", repo_id=name)
            api.upload_file(path_or_fileobj=b"w" + name.encode(), path_in_repo="w.gguf", repo_id=name)
        kept = {hashlib.sha256(content).hexdigest() for content in (b"miller/kept", b"wmiller/kept")}
        api.delete_repo("miller/gone")
        before = blobs()
    with RunningHub(tmp_path / "hub", port=hub.port) as again:
        assert len(before - blobs()) == 2
        assert blobs() >= kept
        path = connect(again).hf_hub_download("miller/kept", "w.gguf", cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == b"wmiller/kept"


def test_a_root_is_served_by_one_process_only(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.localhub.hub.LOCK_TIMEOUT", 0.1)
    with pytest.raises(HubInUseError, match="already serving"):
        Hub(hub.root)


def test_a_new_root_makes_an_account_and_shows_its_token_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bot.localhub", "--root", str(tmp_path / "hub"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    token = line.split()[-1]
    assert token.startswith("hf_")
    kept = (tmp_path / "hub" / "hub.json").read_text()
    assert token not in kept
    assert (tmp_path / "hub" / "hub.json").stat().st_mode & 0o077 == 0
