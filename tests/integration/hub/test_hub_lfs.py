"""The git-lfs way in: what the client falls back to without Xet."""

from __future__ import annotations

import hashlib
import io
import random
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hub_http import Http, wait_for
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError

from bot.localhub import RunningHub
from bot.localhub.routes import lfs

# The client hands file objects to its HTTP library in a way that the library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def ask(http_call: Http, hub: RunningHub, repo: str, content: bytes) -> dict[str, Any]:
    """Ask where to upload `content`; return the batch answer for it."""
    oid = hashlib.sha256(content).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
    answer = http_call("POST", f"/{repo}.git/info/lfs/objects/batch", body, hub.token("miller"))
    return dict(answer.json()["objects"][0])


def target(item: dict[str, Any], action: str = "upload") -> str:
    parts = urlsplit(item["actions"][action]["href"])
    return f"{parts.path}?{parts.query}"


def test_a_file_object_goes_up_in_one_put(api: HfApi, repo: str, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(5_000_000)
    api.upload_file(path_or_fileobj=io.BytesIO(content), path_in_repo="a.gguf", repo_id=repo)
    assert Path(api.hf_hub_download(repo, "a.gguf", cache_dir=tmp_path)).read_bytes() == content


def test_a_large_file_object_goes_up_in_parts(api: HfApi, repo: str, hub: RunningHub, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(lfs.MULTIPART_FROM + 1)
    with open(tmp_path / "w", "w+b") as file:
        file.write(content)
        file.seek(0)
        api.upload_file(path_or_fileobj=file, path_in_repo="a.gguf", repo_id=repo)
    (info,) = api.get_paths_info(repo, ["a.gguf"])
    assert info.lfs.sha256 == hashlib.sha256(content).hexdigest()
    assert not list((hub.root / "tmp" / "parts").iterdir())


def test_an_object_that_the_repo_has_needs_no_upload(api: HfApi, repo: str, http_call: Http, hub: RunningHub) -> None:
    api.upload_file(path_or_fileobj=io.BytesIO(b"known"), path_in_repo="a.gguf", repo_id=repo)
    assert "actions" not in ask(http_call, hub, repo, b"known")


def test_knowing_a_hash_does_not_give_another_repos_content(api: HfApi, eve: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, visibility="private")
    api.upload_file(path_or_fileobj=io.BytesIO(b"secret weights"), path_in_repo="a.gguf", repo_id=repo)
    thief = f"eve/{repo.partition('/')[2]}"
    eve.create_repo(thief)
    operation = CommitOperationAdd("a.gguf", b"secret weights")
    operation._upload_mode = "lfs"
    operation._is_uploaded = True  # claim it, as a thief who knows only the hash would
    with pytest.raises(BadRequestError, match="has not been uploaded to this repo"):
        eve.create_commit(thief, [operation], commit_message="steal")


def test_content_that_is_not_what_was_announced_is_refused(http_call: Http, hub: RunningHub, repo: str) -> None:
    item = ask(http_call, hub, repo, b"announced")
    answer = http_call("PUT", target(item), b"different")
    assert answer.status == 400
    assert "SHA-256" in answer.json()["error"]
    assert "actions" in ask(http_call, hub, repo, b"announced")


def test_more_bytes_than_announced_are_refused(http_call: Http, hub: RunningHub, repo: str) -> None:
    item = ask(http_call, hub, repo, b"short")
    assert http_call("PUT", target(item), b"short and then some").status == 413
    assert http_call("PUT", target(item), b"shor").status == 400


def test_a_changed_upload_url_is_refused(http_call: Http, hub: RunningHub, repo: str) -> None:
    item = ask(http_call, hub, repo, b"content")
    url = target(item)
    assert http_call("PUT", url.replace("size=7", "size=8"), b"content!").status == 403
    assert http_call("PUT", url.partition("?")[0], b"content").status == 403
    assert http_call("POST", target(item, "verify"), {}).status == 404
    assert http_call("PUT", url, b"content").status == 200
    assert http_call("POST", target(item, "verify"), {}).status == 200
    assert http_call("POST", target(item, "verify").partition("?")[0], {}).status == 403


def test_an_upload_url_expires(http_call: Http, hub: RunningHub, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = target(ask(http_call, hub, repo, b"content"))
    late = time.time() + lfs.URL_TTL + 1
    monkeypatch.setattr("bot.localhub.signing.time.time", lambda: late)
    assert http_call("PUT", url, b"content").status == 403


def test_an_upload_that_breaks_off_leaves_nothing(hub: RunningHub, http_call: Http, repo: str) -> None:
    url = target(ask(http_call, hub, repo, b"x" * 5_000_000))
    with socket.create_connection(("127.0.0.1", hub.port)) as connection:
        connection.sendall(f"PUT {url} HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n".encode())
        connection.sendall(b"x" * 2_000_000)
        wait_for(lambda: uploads(hub))
    wait_for(lambda: not uploads(hub))


def uploads(hub: RunningHub) -> list[Path]:
    return [path for path in (hub.root / "tmp").iterdir() if path.is_file()]


def test_a_malformed_batch_is_refused(http_call: Http, hub: RunningHub, repo: str) -> None:
    path = f"/{repo}.git/info/lfs/objects/batch"
    for item in ({}, {"oid": "../../etc/passwd", "size": 1}, {"oid": "a" * 64, "size": -1}, None, 3):
        body = {"operation": "upload", "objects": [item]}
        assert http_call("POST", path, body, hub.token("miller")).status == 400


def test_an_object_larger_than_the_disk_is_refused_before_it_is_sent(
    http_call: Http, hub: RunningHub, repo: str
) -> None:
    body = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 10**17}]}
    answer = http_call("POST", f"/{repo}.git/info/lfs/objects/batch", body, hub.token("miller"))
    assert "disk" in answer.json()["objects"][0]["error"]["message"]


def test_large_files_are_given_to_another_repo_by_who_may_read_and_write(
    api: HfApi, eve: HfApi, repo: str, http_call: Http, hub: RunningHub
) -> None:
    api.upload_file(path_or_fileobj=io.BytesIO(b"shared"), path_in_repo="a.gguf", repo_id=repo)
    other = f"{repo}-copy"
    api.create_repo(other)
    sha256 = hashlib.sha256(b"shared").hexdigest()
    body = {"target": {"type": "model", "name": other}, "files": [{"sha256": sha256}, {"sha256": "0" * 64}]}
    path = f"/api/models/{repo}/lfs-files/duplicate"
    assert http_call("POST", path, body, hub.token("eve")).status == 403
    answer = http_call("POST", path, body, hub.token("miller")).json()
    assert [item["sha256"] for item in answer["failed"]] == ["0" * 64]
    assert "actions" not in ask(http_call, hub, other, b"shared")
