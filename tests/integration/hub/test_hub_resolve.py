"""Downloading: ranges, entity tags, and headers that keep a browser safe."""

from __future__ import annotations

import hashlib

import pytest
from hub_http import Http
from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def path(api: HfApi, repo: str) -> str:
    """The address of a large file."""
    api.upload_file(path_or_fileobj=CONTENT, path_in_repo="w.gguf", repo_id=repo)
    return f"/{repo}/resolve/main/w.gguf"


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=1279990-", 1279990, 1280000),
     ("bytes=-5", -5, None)],
)  # fmt: skip
def test_a_range_is_sent_alone(http_call: Http, path: str, header: str, start: int, stop: int | None) -> None:
    answer = http_call("GET", path, Range=header)
    assert answer.status == 206
    assert answer.body == CONTENT[start:stop]
    first = start % len(CONTENT)
    last = first + len(answer.body) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_a_range_beyond_the_end_is_refused(http_call: Http, path: str) -> None:
    answer = http_call("GET", path, Range="bytes=1280000-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */1280000"


@pytest.mark.parametrize("header", ["bytes=a-b", "bytes=5-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-", ""])
def test_a_range_that_makes_no_sense_is_ignored(http_call: Http, path: str, header: str) -> None:
    answer = http_call("GET", path, Range=header)
    assert (answer.status, answer.body) == (200, CONTENT)


def test_a_head_tells_size_hash_and_commit(api: HfApi, repo: str, http_call: Http, path: str) -> None:
    answer = http_call("HEAD", path, Accept_Encoding="gzip")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["X-Repo-Commit"] == api.model_info(repo).sha
    assert answer.headers["X-Linked-Etag"] == answer.headers["ETag"] == f'"{sha256}"'
    assert answer.headers["X-Linked-Size"] == answer.headers["Content-Length"] == str(len(CONTENT))
    # With either of these the client would look for a Xet read side, which there is not.
    assert not {"X-Xet-Hash", "Link", "Content-Encoding"} & set(answer.headers)


def test_a_regular_file_is_tagged_with_its_git_hash(api: HfApi, repo: str, http_call: Http) -> None:
    api.upload_file(path_or_fileobj=b"hello\n", path_in_repo="a b#?.txt", repo_id=repo)
    answer = http_call("GET", f"/{repo}/resolve/main/a%20b%23%3F.txt")
    assert answer.body == b"hello\n"
    assert answer.headers["ETag"] == '"ce013625030ba8dba906f756967f9e9ca394464a"'
    again = http_call("GET", f"/{repo}/resolve/main/a%20b%23%3F.txt", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def test_a_missing_file_names_the_commit_it_is_missing_from(api: HfApi, repo: str, http_call: Http) -> None:
    answer = http_call("HEAD", f"/{repo}/resolve/main/none.txt")
    assert answer.status == 404
    assert answer.headers["X-Error-Code"] == "EntryNotFound"
    assert answer.headers["X-Repo-Commit"] == api.model_info(repo).sha
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "none"))
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, ".gitattributes"))


def test_a_revision_with_slashes_is_one_segment(api: HfApi, repo: str, http_call: Http) -> None:
    api.create_branch(repo, branch="a/b")
    assert http_call("GET", f"/{repo}/resolve/a%2Fb/.gitattributes").status == 200
    assert http_call("GET", f"/{repo}/resolve/refs%2Fheads%2Fa%2Fb/.gitattributes").status == 200
    assert http_call("GET", f"/{repo}/resolve/a/b/.gitattributes").status == 404


@pytest.mark.parametrize(
    "trick",
    ["../../../../hub.json", "..%2F..%2Fhub.json", "%2Fetc%2Fpasswd", "%00", "%ff", "..%5c..%5chub.json",
     "a" * 5000],
)  # fmt: skip
def test_no_path_leads_out_of_the_repo(http_call: Http, repo: str, trick: str) -> None:
    answer = http_call("GET", f"/{repo}/resolve/main/{trick}")
    assert answer.status == 404


def test_a_file_can_not_run_in_a_browser(api: HfApi, repo: str, http_call: Http) -> None:
    for name, kind in (
        ("x.html", "text/plain; charset=utf-8"),
        ("x.js", "text/plain; charset=utf-8"),
        ("x.svg", "image/svg+xml"),
        ("x.xhtml", "application/octet-stream"),
    ):
        api.upload_file(path_or_fileobj=b"<script>1</script>", path_in_repo=name, repo_id=repo)
        headers = http_call("GET", f"/{repo}/resolve/main/{name}").headers
        assert headers["Content-Type"] == kind
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]


def test_the_empty_file_is_a_file(api: HfApi, repo: str, http_call: Http) -> None:
    api.upload_file(path_or_fileobj=b"", path_in_repo="empty.txt", repo_id=repo)
    answer = http_call("GET", f"/{repo}/resolve/main/empty.txt")
    assert (answer.status, answer.body) == (200, b"")
    assert http_call("GET", f"/{repo}/resolve/main/empty.txt", Range="bytes=0-").status == 416
