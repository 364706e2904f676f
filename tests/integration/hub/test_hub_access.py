"""Who may see, download and change what."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hub_http import Http
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from bot.localhub import RunningHub


def status(failure: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return failure.value.response.status_code


def test_a_private_repo_does_not_exist_for_others(
    api: HfApi, eve: HfApi, anonymous: HfApi, repo: str, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)
    api.update_repo_settings(repo, visibility="private")
    for stranger, expected in ((eve, 404), (anonymous, 401)):
        for ask in (
            partial(stranger.model_info, repo),
            partial(stranger.list_repo_files, repo),
            partial(stranger.hf_hub_download, repo, "a.txt", cache_dir=tmp_path),
            partial(stranger.auth_check, repo),
            partial(stranger.create_tag, repo, tag="x"),
        ):
            with pytest.raises(RepositoryNotFoundError) as failure:
                ask()
            assert status(failure) == expected
        assert repo not in [model.id for model in stranger.list_models(author="phimill")]
    assert api.model_info(repo).private


def test_a_private_and_a_missing_repo_answer_alike(api: HfApi, repo: str, http_call: Http, hub: RunningHub) -> None:
    api.update_repo_settings(repo, visibility="private")
    for token in (None, hub.token("eve")):
        hidden, missing = (http_call("GET", f"/api/models/{name}", None, token) for name in (repo, "phimill/none"))
        assert (hidden.status, hidden.body) == (missing.status, missing.body)


def test_a_member_with_the_reader_role_sees_but_does_not_write(api: HfApi, hub: RunningHub, repo: str) -> None:
    api.update_repo_settings(repo, visibility="private")
    ada = HfApi(endpoint=hub.url, token=hub.token("ada"))
    assert ada.model_info(repo).id == repo
    with pytest.raises(HfHubHTTPError, match="rights to write") as failure:
        ada.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)
    assert status(failure) == 403


def test_a_read_token_writes_nothing(api: HfApi, hub: RunningHub, repo: str) -> None:
    reader = HfApi(endpoint=hub.url, token=hub.token("miller", "read"))
    assert reader.whoami()["auth"]["accessToken"]["role"] == "read"
    for attempt in (
        lambda: reader.create_repo("miller/x"),
        lambda: reader.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo),
        lambda: reader.create_tag(repo, tag="v1"),
        lambda: reader.delete_repo(repo),
        lambda: reader.create_collection("title", namespace="miller"),
        lambda: reader.auth_check(repo, write=True),
    ):
        with pytest.raises(HfHubHTTPError, match="role 'read'") as failure:
            attempt()
        assert status(failure) == 403


def test_a_stranger_writes_nothing_in_a_public_repo(
    eve: HfApi, anonymous: HfApi, repo: str, http_call: Http, hub: RunningHub
) -> None:
    for path, method in (
        (f"/api/models/{repo}/commit/main", "POST"),
        (f"/api/models/{repo}/preupload/main", "POST"),
        (f"/api/models/{repo}/xet-write-token/main", "GET"),
        (f"/api/models/{repo}/tag/main", "POST"),
        (f"/api/models/{repo}/branch/b", "POST"),
        (f"/api/models/{repo}/settings", "PUT"),
        (f"/api/models/{repo}/super-squash/main", "POST"),
        (f"/{repo}.git/info/lfs/objects/batch", "POST"),
    ):
        body = {"tag": "v", "files": [], "operation": "upload", "objects": []}
        assert http_call(method, path, body, hub.token("eve")).status == 403, path
        assert http_call(method, path, body).status == 401, path
    with pytest.raises(HfHubHTTPError):
        eve.create_repo("phimill/mine")
    assert eve.auth_check(repo) is None


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_a_gated_repo_shows_its_metadata_and_keeps_its_files(
    api: HfApi, eve: HfApi, anonymous: HfApi, repo: str, tmp_path: Path, gated: str
) -> None:
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)
    api.update_repo_settings(repo, gated=gated)
    assert eve.model_info(repo).gated == gated
    assert "a.txt" in anonymous.list_repo_files(repo)
    for stranger, expected in ((eve, 403), (anonymous, 401)):
        with pytest.raises(GatedRepoError) as failure:
            stranger.hf_hub_download(repo, "a.txt", cache_dir=tmp_path / "stranger")
        assert status(failure) == expected
        with pytest.raises(GatedRepoError):
            stranger.auth_check(repo)
    assert Path(api.hf_hub_download(repo, "a.txt", cache_dir=tmp_path)).read_bytes() == b"x"


def test_a_wrong_token_is_told_so(hub: RunningHub, repo: str) -> None:
    wrong = HfApi(endpoint=hub.url, token="hf_wrong")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as failure:
        wrong.model_info(repo)
    assert status(failure) == 401
    assert not isinstance(failure.value, RepositoryNotFoundError)


def test_a_repo_is_created_once(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as failure:
        api.create_repo(repo)
    assert status(failure) == 409
    assert api.create_repo(repo, exist_ok=True).repo_id == repo
    with pytest.raises(HfHubHTTPError):
        api.create_repo(repo.upper().replace("PHIMILL", "phimill"))


def test_a_moved_repo_keeps_its_id_history_and_files(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)
    before = api.model_info(repo)
    target = f"miller/{repo.partition('/')[2]}-moved"
    api.move_repo(repo, target)
    after = api.model_info(target)
    assert (after.sha, after.created_at) == (before.sha, before.created_at)
    assert not api.repo_exists(repo)


def test_a_deleted_repo_is_gone_and_its_name_is_free(api: HfApi, repo: str) -> None:
    first = api.model_info(repo)
    api.delete_repo(repo)
    api.delete_repo(repo, missing_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo)
    api.create_repo(repo)
    assert api.model_info(repo).sha != first.sha


@pytest.mark.parametrize("name", ["a b", "-a", "a--b", "a..b", "a.git", "x" * 97, "", ".", "ä"])
def test_a_name_that_the_hub_forbids_is_refused(http_call: Http, hub: RunningHub, name: str) -> None:
    body = {"name": name, "organization": "phimill", "type": "model"}
    assert http_call("POST", "/api/repos/create", body, hub.token("miller")).status == 400


def test_datasets_and_spaces_are_kept_apart_from_models(api: HfApi, repo: str, tmp_path: Path) -> None:
    api.create_repo(repo, repo_type="dataset")
    api.create_repo(repo, repo_type="space", space_sdk="gradio")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="d.txt", repo_id=repo, repo_type="dataset")
    path = api.hf_hub_download(repo, "d.txt", repo_type="dataset", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"1"
    assert not api.file_exists(repo, "d.txt")
    assert repo in [found.id for found in api.list_datasets(author="phimill")]
    assert repo in [found.id for found in api.list_spaces(author="phimill")]
    assert api.space_info(repo).sdk == "gradio"


def test_an_unknown_address_is_a_json_404(http_call: Http) -> None:
    for path in ("/api/agent-harnesses", "/api/nothing", "/a/b/c/d", "/gpt2", "/%00", "/%ff%fe/x"):
        answer = http_call("GET", path)
        assert answer.status in (401, 404), path
        assert answer.json()["error"]
    assert http_call("PATCH", "/api/whoami-v2").status == 405


def test_an_id_without_an_owner_is_a_missing_repo(api: HfApi, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("gpt2")
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("gpt2", "config.json", cache_dir=tmp_path)
