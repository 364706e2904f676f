"""Deploying to a Space of a real Hub, with the stock client."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from pydantic import SecretStr

from bot import hub_http
from bot.cli.entry import run
from bot.errors import HubError, NotOurs, UsageError
from bot.localhub import RunningHub
from bot.space import CHECKOUT, FILES, Deployment, deploy, space_files
from bot.space_wish import Wish, checked

SPACE = "phimill/mill"
TOKEN = "hf_canaryofthespace0123456789"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    with RunningHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token("miller"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which only the code is cut short: a commit of all of it takes seconds."""
    copy = tmp_path / "checkout"
    kept = [*FILES.values(), "bot/mill.py", "bot/plot.py", "bot/devices.toml", "converters/base.py"]
    for name in kept:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, copy / name)
    return copy


def wish(**more: Any) -> Wish:
    return Wish(space=SPACE, **more)


WHOLE = wish(
    private=True,
    hardware="cpu-upgrade",
    sleep=3600,
    secrets={"HF_TOKEN": SecretStr(TOKEN), "PHIMILL_WEBHOOK_SECRET": SecretStr("w")},
    variables={"PHIMILL_WATCH": '["microsoft"]'},
)


def commits(api: HfApi) -> list[str]:
    return [commit.title for commit in api.list_repo_commits(SPACE, repo_type="space")]


def calls(action: Callable[[], Deployment]) -> tuple[Deployment, set[str]]:
    """What an action answers, and the methods of the calls that it made."""
    made: deque[str] = deque()
    with hub_http.counted(made):
        done = action()
    return done, {call.split()[0] for call in made}


def test_a_space_is_made_with_all_that_it_needs(api: HfApi, checkout: Path) -> None:
    done = deploy(api, WHOLE, checkout=checkout)
    info = api.space_info(SPACE)
    assert (info.private, info.sdk, done.url) == (True, "gradio", f"{api.endpoint}/spaces/{SPACE}")
    assert info.card_data is not None
    assert info.card_data["hf_oauth"] is True
    runtime = api.get_space_runtime(SPACE)
    assert (runtime.requested_hardware, runtime.sleep_time) == ("cpu-upgrade", 3600)
    variables = {key: found.value for key, found in api.get_space_variables(SPACE).items()}
    assert variables == {"PHIMILL_NAMESPACE": "phimill", "PHIMILL_WATCH": '["microsoft"]'}
    assert set(api.get_space_secrets(SPACE)) == {"HF_TOKEN", "PHIMILL_WEBHOOK_SECRET"}
    assert len(commits(api)) == 2, "the Hub's own and ours"


def test_deploying_twice_changes_nothing(api: HfApi, checkout: Path) -> None:
    deploy(api, WHOLE, checkout=checkout)
    before = (commits(api), api.get_space_variables(SPACE), api.get_space_secrets(SPACE))
    done, methods = calls(lambda: deploy(api, WHOLE, checkout=checkout))
    assert (done.changes, methods) == ((), {"GET"})
    assert (commits(api), api.get_space_variables(SPACE), api.get_space_secrets(SPACE)) == before


def test_a_dry_run_tells_the_same_and_changes_nothing(api: HfApi, checkout: Path) -> None:
    told, methods = calls(lambda: deploy(api, WHOLE, dry_run=True, checkout=checkout))
    assert methods == {"GET"}
    with pytest.raises(RepositoryNotFoundError):
        api.space_info(SPACE)
    assert told.changes == deploy(api, WHOLE, checkout=checkout).changes


def test_what_no_wish_names_stays_as_it_is(api: HfApi, checkout: Path) -> None:
    deploy(api, WHOLE, checkout=checkout)
    api.add_space_variable(SPACE, "THEIRS", "1")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="notes.txt", repo_id=SPACE, repo_type="space")
    assert deploy(api, wish(), checkout=checkout).changes == ()
    assert api.space_info(SPACE).private
    assert api.get_space_variables(SPACE)["THEIRS"].value == "1"


def test_only_what_differs_is_committed_and_what_is_gone_is_deleted(api: HfApi, checkout: Path) -> None:
    deploy(api, wish(), checkout=checkout)
    (checkout / "bot" / "new.py").write_text("# new\n")
    (checkout / "bot" / "plot.py").unlink()
    done, _ = calls(lambda: deploy(api, wish(), checkout=checkout))
    assert done.changes == ("Commit 1 new or changed files, and delete 1.",)
    files = set(api.list_repo_files(SPACE, repo_type="space"))
    assert "bot/new.py" in files
    assert "bot/plot.py" not in files


def test_a_new_value_of_a_secret_is_noticed_without_reading_the_old_one(api: HfApi, checkout: Path) -> None:
    deploy(api, WHOLE, checkout=checkout)
    changed = {"HF_TOKEN": SecretStr(f"{TOKEN}x"), "PHIMILL_WEBHOOK_SECRET": SecretStr("w")}
    assert deploy(api, wish(secrets=changed), checkout=checkout).changes == ("Set the secret HF_TOKEN.",)
    api.add_space_secret(SPACE, "HF_TOKEN", "by hand", description="ours: abcd")
    assert deploy(api, wish(secrets=changed), checkout=checkout).changes == ("Set the secret HF_TOKEN.",)


def test_other_hardware_and_visibility_are_single_calls(api: HfApi, checkout: Path) -> None:
    deploy(api, WHOLE, checkout=checkout)
    done = deploy(api, wish(private=False, hardware="cpu-basic"), checkout=checkout)
    assert done.changes == ("Make the Space public.", "Move it to cpu-basic.")
    with pytest.raises(UsageError, match="48 hours"):
        deploy(api, wish(sleep=60), checkout=checkout)


def test_somebody_else_s_app_is_left_alone(api: HfApi, checkout: Path) -> None:
    api.create_repo(SPACE, repo_type="space", space_sdk="gradio")
    api.upload_file(path_or_fileobj=b"print()", path_in_repo="app.py", repo_id=SPACE, repo_type="space")
    with pytest.raises(NotOurs):
        deploy(api, wish(), checkout=checkout)
    assert len(commits(api)) == 2


def test_who_may_not_write_changes_nothing(api: HfApi, hub: RunningHub, checkout: Path) -> None:
    hub.config.add_user("eve")
    deploy(api, wish(), checkout=checkout)
    before = commits(api)
    with pytest.raises(HubError):
        deploy(HfApi(endpoint=hub.url, token=hub.token("eve")), wish(variables={"A": "1"}), checkout=checkout)
    assert commits(api) == before
    assert "A" not in api.get_space_variables(SPACE)


def test_a_space_holds_what_the_mill_needs_and_nothing_else() -> None:
    files = space_files(CHECKOUT)
    assert {path.split("/")[0] for path in files} == {
        "app.py", "bot", "converters", "LICENSE", "README.md", "requirements.txt", "packages.txt",
    }  # fmt: skip
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "bot", "converters"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {path for path in files if "/" in path} <= {*tracked.stdout.splitlines()}
    assert all(len(data) < 10 * 2**20 and b"\0" not in data for data in files.values()), "none of them is LFS"


def test_without_a_checkout_there_is_nothing_to_deploy(api: HfApi, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a checkout"):
        deploy(api, wish(), checkout=tmp_path)


def test_the_front_matter_and_the_requirements_name_one_gradio() -> None:
    files = space_files(CHECKOUT)
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert f"\ngradio=={front['sdk_version']}\n" in files["requirements.txt"].decode()
    assert front["hf_oauth_scopes"] == ["contribute-repos"]
    assert front["app_file"] in files
    assert len(front["short_description"]) <= 60


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"space": "nonsense"}, "repo id"),
        ({"space": f"{SPACE}@v1"}, "revision"),
        ({"variables": {"HF_TOKEN": TOKEN}}, "Everybody can read"),
        ({"variables": {"PHIMILL_WEBHOOK_SECRET": TOKEN}}, "Everybody can read"),
        ({"variables": {"PHIMILL_DATABASE_URL": "postgresql://a:b@c/d"}}, "Everybody can read"),
        ({"variables": {"PHIMILL_NAMESPCE": "x"}}, "no setting"),
        ({"variables": {"PHIMILL_BACKENDS": "gguf"}}, "cannot have this value"),
        ({"variables": {"PHIMILL_POLL_SECONDS": "-1"}}, "cannot have this value"),
        ({"secrets": {"PHIMILL_PORT": SecretStr(TOKEN)}}, "cannot have this value"),
        ({"variables": {"A": "1"}, "secrets": {"A": SecretStr("1")}}, "as a secret and as a variable"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_in_words(bad: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as refusal:
        checked(Wish(**{"space": SPACE, **bad}), "https://huggingface.co")
    assert TOKEN not in str(refusal.value)


def test_a_wish_takes_a_space_s_address_and_every_kind_of_setting() -> None:
    variables = {
        "PHIMILL_BACKENDS": '["gguf"]', "PHIMILL_POLL_SECONDS": "60", "PHIMILL_NAMESPACE": "me", "OTHER": "anything",
    }  # fmt: skip
    found = checked(
        Wish(space=f"https://huggingface.co/spaces/{SPACE}", variables=variables), "https://huggingface.co"
    )
    assert found == wish(variables=variables)


def test_the_command_deploys_twice_and_never_shows_a_secret(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token("miller"))
    monkeypatch.setenv("MILL_TOKEN", TOKEN)
    command = ["space", "deploy", SPACE, "--secret", "HF_TOKEN=MILL_TOKEN", "--variable", "PHIMILL_THREADS=2"]
    assert run([*command, "--dry-run"]) == 0
    assert "would be changed" in capsys.readouterr().out
    first, second = ((run([*command, "--format", "json"]), capsys.readouterr()) for _ in range(2))
    assert (first[0], second[0]) == (0, 0)
    assert "Set the secret HF_TOKEN." in json.loads(first[1].out)["changes"]
    assert json.loads(second[1].out)["changes"] == []
    assert run(command) == 0
    assert "is as it should be" in capsys.readouterr().out
    assert TOKEN not in f"{first[1]}{second[1]}"


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (["--secret", f"HF_TOKEN={TOKEN}"], "no value for the secret HF_TOKEN"),
        (["--variable", "A"], "sets no variable"),
    ],
)
def test_the_command_says_what_is_wrong_with_an_option(
    option: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["space", "deploy", SPACE, *option]) == UsageError.exit_code
    said = capsys.readouterr().err
    assert why in said
    assert TOKEN not in said
