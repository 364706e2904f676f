"""Programs and agents call the real server by name: a real mill, engine and Hub; only the converter is not real."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import phi_repos
import pytest
import two_repos
import uvicorn
from engine_worker import wait_until
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import CallToolResult
from press import Press
from two_repos import DESK, MODEL, WEB

from bot import converter, toolchain
from bot.api import create_app
from bot.localhub import RunningHub
from bot.mill import Mill
from bot.settings import Settings

ROOT = Path(__file__).parents[2]
# Gradio's own count of events, in the thread of the server.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
NAMES = {"check", "convert", "status", "advise", "cancel"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    """A Hub with a release, and a mill's token on it."""
    with RunningHub(tmp_path / "hub") as running:
        for name in ("microsoft", "millbot"):
            running.config.add_user(name)
        running.config.add_org("phimill", {"millbot": "admin"})
        phi_repos.upload(
            running.url, running.token("microsoft"), MODEL, phi_repos.write("phi35_mini", tmp_path / "phi")
        )
        monkeypatch.setenv("HF_TOKEN", running.token("millbot"))
        yield running


@pytest.fixture
def server(hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that works, with a backend whose converter needs no model."""
    two_repos.install(tmp_path / "twin", monkeypatch)
    monkeypatch.setattr(converter, "call", Press())
    monkeypatch.setattr(toolchain, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(toolchain, "named_versions", lambda *_, **__: {"press": "1.0"})
    monkeypatch.setattr(toolchain, "code_path", lambda **_: ROOT)
    monkeypatch.setattr(Settings, "endpoint", hub.url)
    settings = Settings(home=tmp_path / "home", namespace="phimill", backends=("twin",), disk_floor=0, threads=2)
    mill = Mill(settings)
    with mill.working(), serving(mill) as url:
        yield url
    mill.close()


@contextmanager
def serving(mill: Any) -> Iterator[str]:
    """The server of a mill in a thread. The page is made in its event loop: Gradio leaves one behind elsewhere."""
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        settings = uvicorn.Config(create_app(mill), log_level="error", timeout_graceful_shutdown=2)
        servers.append(uvicorn.Server(settings))
        await servers[0].serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: bool(servers) and servers[0].started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        servers[0].should_exit = True
        thread.join()
        listener.close()


def client(url: str, **headers: str) -> Client:
    return Client(url, verbose=False, analytics_enabled=False, headers=headers)


def agent(url: str, *calls: tuple[str, dict[str, Any]], **headers: str) -> list[CallToolResult]:
    """What an agent is told that calls these tools, one after the other."""

    async def session() -> list[CallToolResult]:
        address = f"{url}/gradio_api/mcp/"
        async with (
            create_mcp_http_client(headers) as http,
            streamable_http_client(address, http_client=http) as (read, write, _),
            ClientSession(read, write) as server,
        ):
            await server.initialize()
            return [await server.call_tool(name, given) for name, given in calls]

    return asyncio.run(session())


def answer(result: CallToolResult) -> Any:
    [content] = result.content
    assert content.type == "text"
    assert not result.isError, content.text
    return json.loads(content.text)


def built(ask: Any) -> dict[str, Any]:
    """The build when it is over, as `ask` tells it."""
    deadline = time.monotonic() + 300
    while (build := ask())["phase"] in ("waiting", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return dict(build)


def test_a_script_checks_converts_follows_and_asks_for_advice(server: str) -> None:
    api = client(server)
    report = api.predict(repo=MODEL, api_name="/check")
    assert {v["recipe"]: v["status"] for v in report["verdicts"]}["twin/int4"] in ("supported", "caveat")
    assert report["published"] == {}
    assert report["release"]["files"]["config.json"] > 0

    begun = api.predict(repo=MODEL, recipes=["twin/int4"], namespace="", api_name="/convert")
    [build] = begun["builds"]
    assert begun["release"] == {"repo": MODEL, "sha": report["release"]["sha"]}
    done = built(lambda: api.predict(build=build["id"], limit=1, api_name="/status")["builds"][0])
    assert done["phase"] == "done", done["failure"]
    assert [(r["recipe"], r["status"], r["repo"]) for r in done["results"]] == [("twin/int4", "published", DESK)]

    assert api.predict(repo=MODEL, api_name="/check")["published"] == {"twin/int4": "v1.0"}
    again = api.predict(repo=MODEL, recipes=["twin/int4"], api_name="/convert")
    assert again["builds"] == []
    assert {v["status"] for v in again["variants"]} == {"already_published"}
    advice = api.predict(repo=MODEL, device="laptop", memory="16GB", context=4096, api_name="/advise")
    assert advice["device"] == "laptop"
    assert advice["why"]


def test_an_agent_checks_converts_follows_and_asks_for_advice(server: str) -> None:
    asked = {"repo": MODEL, "recipes": ["twin/web-int4"]}
    report, begun, advice = agent(
        server, ("check", {"repo": MODEL}), ("convert", asked), ("advise", {"repo": MODEL, "device": "laptop"})
    )
    assert answer(report)["release"]["repo"] == MODEL
    assert answer(advice)["why"]
    [build] = answer(begun)["builds"]
    done = built(lambda: answer(agent(server, ("status", {"build": build["id"]}))[0])["builds"][0])
    assert {r["repo"] for r in done["results"] if r["status"] == "published"} == {WEB}


def test_the_example_of_the_documentation_runs(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.M | re.S)
    assert example
    ours = {"http://127.0.0.1:7860": server, "microsoft/Phi-4-mini-instruct": MODEL, "gguf/int4": "twin/int4"}
    code = example[1]
    for theirs, mine in ours.items():
        code = code.replace(theirs, mine)
    exec(compile(code, "docs/api.md", "exec"), {})
    assert f"twin/int4 published {DESK}" in capsys.readouterr().out


def test_strangers_may_look_and_not_convert(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "phimill/mill")
    api = client(server)
    assert api.predict(repo=MODEL, api_name="/check")["release"]["repo"] == MODEL
    assert api.predict(api_name="/status")["builds"] == []
    with pytest.raises(AppError, match="Only who has signed in may convert here"):
        api.predict(repo=MODEL, api_name="/convert")
    with pytest.raises(AppError, match="is not a build"):
        api.predict(build="1", api_name="/cancel")
    refused = agent(server, ("convert", {"repo": MODEL}), Authorization="Bearer hf_of_nobody")
    assert refused[0].isError
    assert api.predict(api_name="/status")["builds"] == []


def test_a_token_converts_into_its_owner_s_account_and_strangers_see_nothing_of_it(
    hub: RunningHub, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "phimill/mill")
    hub.config.add_user("ada")
    token = hub.token("ada")
    asked = {"repo": MODEL, "recipes": ["twin/int4"], "namespace": "ada", "private": True}
    [begun] = agent(server, ("convert", asked), Authorization=f"Bearer {token}")
    [build] = answer(begun)["builds"]
    assert client(server).predict(api_name="/status")["builds"] == []
    ada = client(server, Authorization=f"Bearer {token}")
    done = built(lambda: ada.predict(build=build["id"], api_name="/status")["builds"][0])
    assert {r["repo"] for r in done["results"] if r["status"] == "published"} == {"ada/phi-twin"}
    assert HfApi(hub.url, token=token).model_info("ada/phi-twin").private
