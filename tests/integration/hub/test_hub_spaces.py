"""Spaces, as the stock client makes and configures them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

import pytest
from hub_http import Http
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError

from bot.localhub import RunningHub


@pytest.fixture
def space(api: HfApi) -> str:
    name = f"phimill/s-{uuid.uuid4().hex[:12]}"
    api.create_repo(name, repo_type="space", space_sdk="gradio")
    return name


def test_a_space_is_made_with_all_that_is_said_of_it(api: HfApi) -> None:
    name = f"phimill/s-{uuid.uuid4().hex[:12]}"
    api.create_repo(
        name,
        repo_type="space",
        space_sdk="gradio",
        private=True,
        space_hardware="cpu-upgrade",
        space_sleep_time=3600,
        space_secrets=[{"key": "HF_TOKEN", "value": "hf_x", "description": "the mill's"}],
        space_variables=[{"key": "PHIMILL_NAMESPACE", "value": "phimill"}],
    )
    info = api.space_info(name)
    assert (info.sdk, info.private) == ("gradio", True)
    assert info.runtime is not None
    assert (info.runtime.requested_hardware, info.runtime.sleep_time) == ("cpu-upgrade", 3600)
    assert api.get_space_secrets(name)["HF_TOKEN"].description == "the mill's"
    assert {key: found.value for key, found in api.get_space_variables(name).items()} == {
        "PHIMILL_NAMESPACE": "phimill"
    }


def test_variables_are_set_changed_and_forgotten(api: HfApi, anonymous: HfApi, space: str) -> None:
    api.add_space_variable(space, "A", "1", description="first")
    found = api.add_space_variable(space, "A", "2")
    assert (found["A"].value, found["A"].description) == ("2", None)
    assert found["A"].updated_at is not None
    assert anonymous.get_space_variables(space)["A"].value == "2"
    assert api.delete_space_variable(space, "A") == {}


def test_a_secret_s_value_is_told_to_nobody_and_kept_nowhere(
    api: HfApi, eve: HfApi, anonymous: HfApi, space: str, http_call: Http, hub: RunningHub
) -> None:
    api.add_space_secret(space, "HF_TOKEN", "hf_canary_5309", description="a description")
    answer = http_call("GET", f"/api/spaces/{space}/secrets", None, hub.token("miller"))
    assert b"HF_TOKEN" in answer.body
    assert b"canary" not in answer.body
    assert not [path for path in hub.root.rglob("*") if path.is_file() and b"canary_5309" in path.read_bytes()]
    for stranger in (eve, anonymous):
        with pytest.raises(HfHubHTTPError) as failure:
            stranger.get_space_secrets(space)
        assert failure.value.response.status_code in (401, 403)
    api.delete_space_secret(space, "HF_TOKEN")
    assert api.get_space_secrets(space) == {}


def test_hardware_and_sleep_time_are_kept_and_other_hardware_forgets_the_sleep_time(api: HfApi, space: str) -> None:
    assert api.get_space_runtime(space).requested_hardware == "cpu-basic"
    assert api.request_space_hardware(space, "cpu-upgrade", sleep_time=900).sleep_time == 900
    assert api.set_space_sleep_time(space, -1).sleep_time == -1
    assert api.request_space_hardware(space, "cpu-upgrade").sleep_time == -1
    changed = api.request_space_hardware(space, "t4-small")
    assert (changed.requested_hardware, changed.sleep_time) == ("t4-small", None)


def test_the_stage_says_that_there_is_no_app_that_it_does_not_run_and_that_it_is_paused(
    api: HfApi, space: str
) -> None:
    assert api.get_space_runtime(space).stage == "NO_APP_FILE"
    api.upload_file(path_or_fileobj=b"print()\n", path_in_repo="app.py", repo_id=space, repo_type="space")
    assert api.get_space_runtime(space).stage == "STOPPED"
    assert api.pause_space(space).stage == "PAUSED"
    assert api.restart_space(space, factory_reboot=True).stage == "STOPPED"


def test_a_space_lives_on_when_it_is_renamed_and_is_forgotten_when_it_is_deleted(api: HfApi, space: str) -> None:
    api.add_space_variable(space, "A", "1")
    api.move_repo(space, f"{space}-new", repo_type="space")
    assert "A" in api.get_space_variables(f"{space}-new")
    api.delete_repo(f"{space}-new", repo_type="space")
    api.create_repo(space, repo_type="space", space_sdk="static")
    assert api.get_space_variables(space) == {}
    with pytest.raises(BadRequestError, match="static"):
        api.pause_space(space)


def changes(who: HfApi, space: str) -> list[Callable[[], object]]:
    return [
        partial(who.add_space_secret, space, "A", "1"),
        partial(who.delete_space_secret, space, "A"),
        partial(who.add_space_variable, space, "A", "1"),
        partial(who.delete_space_variable, space, "A"),
        partial(who.request_space_hardware, space, "cpu-upgrade"),
        partial(who.set_space_sleep_time, space, 300),
        partial(who.pause_space, space),
        partial(who.restart_space, space),
    ]


def test_only_those_who_may_write_change_how_a_space_runs(api: HfApi, hub: RunningHub, space: str) -> None:
    reader = HfApi(endpoint=hub.url, token=hub.token("ada"))
    weak = HfApi(endpoint=hub.url, token=hub.token("miller", "read"))
    before = (api.get_space_runtime(space), api.get_space_variables(space), api.get_space_secrets(space))
    for who in (reader, weak):
        for change in changes(who, space):
            with pytest.raises(HfHubHTTPError) as failure:
                change()
            assert failure.value.response.status_code == 403
    assert (api.get_space_runtime(space), api.get_space_variables(space), api.get_space_secrets(space)) == before


def test_a_private_space_does_not_exist_for_others(api: HfApi, eve: HfApi, space: str) -> None:
    api.update_repo_settings(space, repo_type="space", visibility="private")
    looks = [partial(look, space) for look in (eve.get_space_runtime, eve.get_space_variables, eve.space_info)]
    for ask in [*looks, *changes(eve, space)]:
        with pytest.raises(RepositoryNotFoundError):
            ask()


@pytest.mark.parametrize("key", ["", "1A", "A B", "A=B", "Ä", "A" * 300])
def test_a_name_that_no_environment_takes_is_refused(api: HfApi, space: str, key: str) -> None:
    for put in (api.add_space_variable, api.add_space_secret):
        with pytest.raises(BadRequestError, match="Invalid key"):
            put(space, key, "1")


def test_a_name_is_a_secret_or_a_variable_and_not_both(api: HfApi, space: str) -> None:
    api.add_space_secret(space, "A", "1")
    with pytest.raises(BadRequestError, match="secret"):
        api.add_space_variable(space, "A", "1")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("hardware", {"flavor": 7}),
        ("hardware", {"flavor": "../x"}),
        ("sleeptime", {"seconds": "soon"}),
        ("sleeptime", {"seconds": True}),
        ("sleeptime", {"seconds": -2}),
        ("variables", {"key": "A"}),
        ("variables", {"key": "A", "value": "x" * 70_000}),
        ("secrets", {"key": ["A"], "value": "x"}),
    ],
)
def test_nonsense_is_refused_in_words(http_call: Http, hub: RunningHub, space: str, path: str, body: object) -> None:
    answer = http_call("POST", f"/api/spaces/{space}/{path}", body, hub.token("miller"))
    assert answer.status == 400
    assert b"error" in answer.body
