"""A Space by one command: deployed to a Hub, downloaded from there, and run as a Space runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uv
from hub_world import BOT, PATIENCE, SOURCE, Ran, World, ended, popen, run
from huggingface_hub import snapshot_download
from huggingface_hub.utils import get_session
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.backend

SPACE = "phimill/mill"
SECRET = "between the Hub and the Space"


@dataclass(frozen=True)
class Deployed:
    """A Hub with a release and a Space on it, and how both deployments went."""

    world: World
    first: Ran
    second: Ran
    between: tuple[Any, ...]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path) -> Iterator[Deployed]:
    with World(tmp_path_factory.mktemp("space") / "world") as world:
        world.release(tiny_phi)
        command = ["space", "deploy", SPACE, "--secret", "HF_TOKEN=MILL_TOKEN", "--secret", "PHIMILL_WEBHOOK_SECRET"]
        command += ["--variable", 'PHIMILL_BACKENDS=["gguf"]', "--format", "json"]
        env = {"MILL_TOKEN": world.hub.token(BOT), "PHIMILL_WEBHOOK_SECRET": SECRET}
        first = world.phimill(*command, **env)
        between = record(world)
        yield Deployed(world, first, world.phimill(*command, **env), between)


def record(world: World) -> tuple[Any, ...]:
    """All that the Hub knows of the Space."""
    api = world.reader
    info = api.space_info(SPACE)
    commits = [commit.commit_id for commit in api.list_repo_commits(SPACE, repo_type="space")]
    asked = (info.runtime, api.get_space_variables(SPACE), api.get_space_secrets(SPACE))
    return (info.sha, info.last_modified, commits, *asked)


def test_deploying_twice_leaves_the_hub_as_it_was(deployed: Deployed) -> None:
    assert deployed.first.code == 0, deployed.first.err
    assert deployed.second.code == 0, deployed.second.err
    assert len(deployed.first.json["changes"]) == 6, deployed.first.out
    assert deployed.second.json["changes"] == []
    assert record(deployed.world) == deployed.between
    said = f"{deployed.first}{deployed.second}"
    assert SECRET not in said
    assert deployed.world.hub.token(BOT) not in said


def test_the_deployed_folder_serves_the_page_and_converts(
    deployed: Deployed, tmp_path: Path, toolchains: dict[str, Path]
) -> None:
    world = deployed.world
    folder = Path(snapshot_download(SPACE, repo_type="space", local_dir=tmp_path / "app", endpoint=world.hub.url))
    python = clean_environment(tmp_path / "venv", folder / "requirements.txt")
    with space(world, folder, python, tmp_path) as (process, url):
        wait_for("the page", process, lambda: answer(url, "/") == 200)
        wait_for("the mill to be ready", process, lambda: answer(url, "/readyz") == 200)
        assert "phimill" in get_session().get(url).text
        assert get_session().post(f"{url}/webhook", json={}).status_code == 401
        wait_for("the release", process, lambda: world.published() and "v1.0" in world.tags())
        wait_for("the end of the build", process, lambda: measured(url)["phimill_builds_running"] == 0)
        assert world.receipt("v1.0")["source"] == SOURCE
        seen = measured(url)
        assert seen["phimill_build_seconds_count"] == 1
        assert seen["phimill_hub_answers_total"] > 10
    ran = ended(process)
    assert "Traceback" not in ran.err, ran.err
    assert ran.code == 0


def clean_environment(folder: Path, requirements: Path) -> Path:
    """A new environment with what the Space's requirements name and nothing else; its interpreter."""
    env = dict(os.environ)
    if offers := env.get("UV_FIND_LINKS") or env.get("PIP_FIND_LINKS"):
        env["UV_FIND_LINKS"] = offers
    python = folder / "bin" / "python"
    for command in (["venv", "--python", sys.executable, folder], ["pip", "sync", "--python", python, requirements]):
        ran = run([uv.find_uv_bin(), *command], env)
        assert ran.code == 0, ran.err
    return python


@contextmanager
def space(world: World, folder: Path, python: Path, home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The app, started with what a Space sets: variables, secrets, its name. The Hub and the address are ours."""
    port = free_port()
    variables = {name: found.value for name, found in world.reader.get_space_variables(SPACE).items()}
    env = {
        **variables,
        "HF_TOKEN": world.hub.token(BOT),
        "PHIMILL_WEBHOOK_SECRET": SECRET,
        "SPACE_ID": SPACE,
        "SPACE_HOST": "phimill-mill.hf.space",
        "SPACE_AUTHOR_NAME": "phimill",
        "HOME": str(home),
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "HF_ENDPOINT": world.hub.url,
        "PHIMILL_TOOLCHAINS": os.environ["PHIMILL_TOOLCHAINS"],
        "PHIMILL_HOST": "127.0.0.1",
        "PHIMILL_PORT": str(port),
        "PHIMILL_LOG_LEVEL": "warning",  # its pipe is not read before it ends
    }
    process = popen([python, "app.py"], env, cwd=folder)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)


def wait_for(what: str, process: subprocess.Popen[str], look: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert process.poll() is None, f"the app ended: {process.communicate()}"
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def answer(url: str, path: str) -> int:
    try:
        return int(get_session().get(f"{url}{path}").status_code)
    except httpx2.TransportError:
        return 0


def measured(url: str) -> dict[str, float]:
    """Every sample of the app's metrics by its name, summed over labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(get_session().get(f"{url}/metrics").text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found
