"""Commits: whole, in order, checked, and never lost."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hub_http import Answer, Http
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import RunningHub


def line(key: str, **value: Any) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


def text(path: str, content: bytes = b"x") -> bytes:
    return line("file", path=path, content=base64.b64encode(content).decode(), encoding="base64")


HEADER = line("header", summary="title", description="")


def send(http_call: Http, hub: RunningHub, repo: str, *lines: bytes) -> Answer:
    return http_call("POST", f"/api/models/{repo}/commit/main", b"".join(lines), hub.token("miller"))


def test_a_stale_parent_is_refused_and_the_head_stays(api: HfApi, repo: str) -> None:
    stale = api.model_info(repo).sha
    head = api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo).oid
    with pytest.raises(HfHubHTTPError) as failure:
        api.create_commit(repo, [CommitOperationAdd("b.txt", b"2")], commit_message="late", parent_commit=stale)
    assert failure.value.response.status_code == 412
    assert head in str(failure.value)
    assert api.model_info(repo).sha == head
    api.create_commit(repo, [CommitOperationAdd("b.txt", b"2")], commit_message="again", parent_commit=head)


def test_operations_are_applied_in_order(api: HfApi, http_call: Http, hub: RunningHub, repo: str) -> None:
    answer = send(
        http_call, hub, repo,
        HEADER, text("d/a.txt"), text("d/b.txt"), line("deletedFolder", path="d/"), text("d/c.txt", b"last"),
    )  # fmt: skip
    assert answer.status == 200
    assert api.list_repo_files(repo) == [".gitattributes", "d/c.txt"]


def test_a_commit_with_one_bad_operation_changes_nothing(
    api: HfApi, http_call: Http, hub: RunningHub, repo: str
) -> None:
    before = api.model_info(repo).sha
    absent = line("lfsFile", path="w.gguf", algo="sha256", oid="0" * 64, size=3)
    for bad in (
        absent,
        line("deletedFile", path="none.txt"),
        line("deletedFolder", path="none"),
        b"{broken\n",
    ):
        assert send(http_call, hub, repo, HEADER, text("good.txt"), bad).status == 400
    assert api.model_info(repo).sha == before
    assert not api.file_exists(repo, "good.txt")


def test_a_commit_that_changes_nothing_returns_the_head(
    api: HfApi, http_call: Http, hub: RunningHub, repo: str
) -> None:
    head = send(http_call, hub, repo, HEADER, text("a.txt")).json()["commitOid"]
    assert send(http_call, hub, repo, HEADER, text("a.txt")).json()["commitOid"] == head
    assert api.model_info(repo).sha == head


def test_sixteen_commits_at_once_are_all_there(api: HfApi, repo: str) -> None:
    def commit(number: int) -> str:
        content = f"{number}".encode()
        return str(api.upload_file(path_or_fileobj=content, path_in_repo=f"{number}.txt", repo_id=repo).oid)

    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(commit, range(16)))

    assert len(made) == 16
    assert {commit.commit_id for commit in api.list_repo_commits(repo)} >= made
    assert {f"{number}.txt" for number in range(16)} <= set(api.list_repo_files(repo))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../up.txt", "a/../../up.txt", "a//b.txt", "./a.txt", "a/.", "", "a\\b.txt",
        "C:/a.txt", "a\0b", "a\nb", ".git/config", "a/.GIT/hooks", "x" * 256, "a/" * 600 + "b", "end/",
    ],
)  # fmt: skip
def test_a_path_that_could_leave_the_repo_is_refused(
    api: HfApi, http_call: Http, hub: RunningHub, repo: str, path: str
) -> None:
    for operation in (text(path), line("lfsFile", path=path, algo="sha256", oid="0" * 64)):
        answer = send(http_call, hub, repo, HEADER, operation)
        assert answer.status == 400
        assert "path" in answer.json()["error"]
    assert api.list_repo_files(repo) == [".gitattributes"]


def test_half_a_character_is_refused_wherever_it_stands(
    api: HfApi, http_call: Http, hub: RunningHub, repo: str
) -> None:
    for operation in (text("\ud800.txt"), line("lfsFile", path="\ud800.txt", algo="sha256", oid="0" * 64)):
        answer = send(http_call, hub, repo, HEADER, operation)
        assert (answer.status, answer.json()["error"]) == (400, "The request body is not valid Unicode.")


def test_a_path_cannot_be_a_file_and_a_folder(http_call: Http, hub: RunningHub, repo: str) -> None:
    answer = send(http_call, hub, repo, HEADER, text("a"), text("a/b.txt"))
    assert answer.status == 400
    assert "both a file and a folder" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n\n", b"[]\n", text("a.txt"), HEADER + line("move", path="a"), HEADER + b'{"key": "file"}\n',
        HEADER + line("file", path="a.txt", content="not base64!", encoding="base64"),
        HEADER + line("file", path=3), line("header"), line("header", summary="\ud800"),
        b'{"key":"header","value":{"summary":NaN}}\n',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_commit_is_a_plain_400(http_call: Http, hub: RunningHub, repo: str, body: bytes) -> None:
    answer = send(http_call, hub, repo, body)
    assert answer.status == 400
    assert answer.json()["error"]


def test_a_large_file_cannot_be_sent_inline(http_call: Http, hub: RunningHub, repo: str) -> None:
    answer = send(http_call, hub, repo, HEADER, text("big.txt", b"x" * 12_000_000))
    assert answer.status == 413
    assert "LFS" in answer.json()["error"]


def test_pull_requests_are_refused_with_a_reason(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="no pull requests"):
        api.create_commit(repo, [CommitOperationAdd("a.txt", b"x")], commit_message="pr", create_pr=True)


def test_a_file_has_the_object_id_that_git_gives_it(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"hello\n", path_in_repo="hello.txt", repo_id=repo)
    (info,) = api.get_paths_info(repo, ["hello.txt"])
    assert info.blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
