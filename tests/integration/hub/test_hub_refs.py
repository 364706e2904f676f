"""Tags, branches and the log."""

from __future__ import annotations

import pytest
from hub_http import Http
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from bot.localhub import RunningHub


def test_a_tag_cannot_be_made_twice(api: HfApi, repo: str) -> None:
    first = api.model_info(repo).sha
    api.create_tag(repo, tag="v1.0")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo)
    with pytest.raises(HfHubHTTPError) as failure:
        api.create_tag(repo, tag="v1.0")
    assert failure.value.response.status_code == 409
    api.create_tag(repo, tag="v1.0", exist_ok=True)
    assert [(tag.name, tag.target_commit) for tag in api.list_repo_refs(repo).tags] == [("v1.0", first)]


def test_a_deleted_tag_is_gone(api: HfApi, repo: str) -> None:
    api.create_tag(repo, tag="v1.0")
    api.delete_tag(repo, tag="v1.0")
    assert api.list_repo_refs(repo).tags == []
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="v1.0")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1.0")


def test_a_branch_grows_apart_from_main(api: HfApi, repo: str) -> None:
    api.create_branch(repo, branch="feature/x")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="only.txt", repo_id=repo, revision="feature/x")
    assert api.file_exists(repo, "only.txt", revision="feature/x")
    assert api.file_exists(repo, "only.txt", revision="refs/heads/feature/x")
    assert not api.file_exists(repo, "only.txt")
    with pytest.raises(HfHubHTTPError) as failure:
        api.create_branch(repo, branch="feature/x")
    assert failure.value.response.status_code == 409
    api.delete_branch(repo, branch="feature/x")
    assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["main"]


def test_main_cannot_be_deleted(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="main"):
        api.delete_branch(repo, branch="main")


@pytest.mark.parametrize("name", ["refs/heads/x", "a..b", "a b", "-x", "a.lock", "0" * 40, "~", ""])
def test_a_name_that_git_would_refuse_is_refused(repo: str, name: str, http_call: Http, hub: RunningHub) -> None:
    answer = http_call("POST", f"/api/models/{repo}/tag/main", {"tag": name}, hub.token("miller"))
    assert answer.status == 400


def test_the_log_is_complete_across_pages_and_newest_first(api: HfApi, repo: str) -> None:
    for number in range(55):
        api.upload_file(
            path_or_fileobj=f"{number}".encode(), path_in_repo="a.txt", repo_id=repo,
            commit_message=f"commit {number}",
        )  # fmt: skip
    titles = [commit.title for commit in api.list_repo_commits(repo)]
    assert titles == [f"commit {number}" for number in reversed(range(55))] + ["initial commit"]


def test_a_commit_is_found_by_the_start_of_its_id(api: HfApi, repo: str) -> None:
    sha = api.model_info(repo).sha
    assert api.model_info(repo, revision=sha[:8]).sha == sha
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="0" * 40)


def test_squashing_keeps_the_files_and_drops_the_log(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo)
    api.super_squash_history(repo, commit_message="one")
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["one"]
    assert api.list_repo_files(repo) == [".gitattributes", "a.txt"]


def test_the_tree_is_paged_and_tells_the_last_change(api: HfApi, repo: str) -> None:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(f"d/{number:03}.txt", b"x") for number in range(120)]
    api.create_commit(repo, operations, commit_message="many")
    api.upload_file(path_or_fileobj=b"y", path_in_repo="d/007.txt", repo_id=repo, commit_message="one")
    found = {item.path: item for item in api.list_repo_tree(repo, recursive=True, expand=True)}
    assert len(found) == 122
    assert found["d/006.txt"].last_commit.title == "many"
    assert found["d/007.txt"].last_commit.title == "one"
    assert found["d"].last_commit.title == "one"
    assert [item.path for item in api.list_repo_tree(repo)] == [".gitattributes", "d"]
