"""What programs and agents are told when it does not go as they asked, and what else they can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fake_mill import FakeMill, build
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from test_endpoints import NAMES, agent, client, serving

from bot.builds import Phase
from bot.errors import HubUnreachable

# Gradio's own count of events, in the thread of the server.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def mill() -> FakeMill:
    return FakeMill()


@pytest.fixture(scope="module")
def server(mill: FakeMill) -> Iterator[str]:
    with serving(mill) as url:
        yield url


@pytest.fixture(autouse=True)
def _afresh(mill: FakeMill) -> None:
    mill.error, mill.known = None, [build("a" * 32, Phase.RUNNING)]


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("status", {"build": "9"}, "'9' is not a build"),
    ("status", {"limit": 0}, "limit: Input should be greater than or equal to 1"),
    ("check", {"repo": "x" * 301}, "repo: String should have at most 300 characters"),
    ("advise", {"repo": "microsoft/Phi-4", "device": "toaster"}, "toaster"),
    ("advise", {"repo": "microsoft/Phi-4", "device": "laptop", "memory": "a lot"}, "is no amount of memory"),
    ("convert", {"repo": "microsoft/Phi-4", "recipes": "gguf"}, "valid"),
]


@pytest.mark.parametrize(("name", "given", "said"), BAD)
def test_a_wrong_call_is_answered_with_a_sentence(server: str, name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(AppError) as error:
        client(server).predict(**given, api_name=f"/{name}")
    assert said in str(error.value)
    [refused] = agent(server, (name, given))
    assert refused.isError
    assert said in refused.content[0].text
    assert "Traceback" not in refused.content[0].text


def test_a_hub_that_is_away_is_a_sentence_with_what_to_do(server: str, mill: FakeMill) -> None:
    mill.error = HubUnreachable("The Hub does not answer.", "Try again later.")
    with pytest.raises(AppError, match=r"The Hub does not answer\. Try again later\."):
        client(server).predict(repo="microsoft/Phi-4", api_name="/check")


def test_a_mistake_of_ours_tells_no_secrets(server: str, mill: FakeMill, caplog: pytest.LogCaptureFixture) -> None:
    mill.known = [None]  # type: ignore[list-item]
    [refused] = agent(server, ("status", {}))
    assert refused.content[0].text == "This went wrong on our side. The server's log says more."
    assert "AttributeError" in caplog.text


def test_a_build_is_cancelled_by_its_id(server: str) -> None:
    assert client(server).predict(build="aaaa", api_name="/cancel")["builds"][0]["phase"] == "cancelled"


def test_only_these_endpoints_are_there_for_programs(server: str) -> None:
    described = client(server).view_api(return_format="dict", print_info=False)
    assert set(described["named_endpoints"]) == {f"/{name}" for name in NAMES}
    assert described["unnamed_endpoints"] == {}


def test_an_agent_finds_tools_that_explain_themselves(server: str) -> None:
    async def listed() -> Any:
        async with (
            streamable_http_client(f"{server}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return (await session.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert set(tools) == NAMES
    for tool in tools.values():
        assert len(tool.description) > 60
        assert all(len(each["description"]) > 10 for each in tool.inputSchema["properties"].values())
    assert tools["convert"].inputSchema["required"] == ["repo"]
    assert set(tools["convert"].inputSchema["properties"]) == {"repo", "recipes", "namespace", "private"}
