"""A real Hub on loopback and the real, unmodified client."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_http import Http, request

# The client reads these once, at import: they must stand before the first test module is loaded.
_home = tempfile.TemporaryDirectory()
atexit.register(_home.cleanup)
os.environ["HF_HOME"] = _home.name
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_DISABLE_XET"):
    os.environ.pop(_name, None)

from huggingface_hub import HfApi  # noqa: E402

from bot.localhub import RunningHub  # noqa: E402


def make_people(hub: RunningHub) -> None:
    """Add the people the tests speak of: `ada` is in `phimill` as a reader, `eve` is nobody's."""
    for name in ("ada", "eve"):
        hub.config.add_user(name)
    hub.config.add_org("phimill", {"miller": "admin", "ada": "read"})
    hub.config.add_org("microsoft", {"miller": "admin"})


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One Hub for all tests: each works in repositories of its own."""
    with RunningHub(tmp_path_factory.mktemp("hub")) as running:
        make_people(running)
        yield running


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    """The client of `miller`, who may write in `phimill`."""
    return HfApi(endpoint=hub.url, token=hub.token("miller"))


@pytest.fixture
def eve(hub: RunningHub) -> HfApi:
    """The client of somebody with a write token and no rights."""
    return HfApi(endpoint=hub.url, token=hub.token("eve"))


@pytest.fixture
def anonymous(hub: RunningHub) -> HfApi:
    """A client without a token."""
    return HfApi(endpoint=hub.url, token=False)


@pytest.fixture
def http_call(hub: RunningHub) -> Http:
    """Raw requests to the shared Hub."""
    return lambda method, path, *args, **kwargs: request(hub, method, path, *args, **kwargs)


@pytest.fixture
def new_id() -> Callable[[], str]:
    """Makes repository ids that no other test uses."""
    return lambda: f"phimill/m-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def repo(api: HfApi, new_id: Callable[[], str]) -> str:
    """A fresh public model repository."""
    name = new_id()
    api.create_repo(name)
    return name


@pytest.fixture
def run_hf(hub: RunningHub, tmp_path: Path) -> Callable[..., str]:
    """Runs the `hf` command as a stranger would: with HF_ENDPOINT and HF_TOKEN, and nothing else set."""

    def run(*arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "HF_HOME": str(tmp_path / "hf-home"),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token("miller"),
        }
        command = [str(Path(sys.executable).with_name("hf")), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
