"""The webhook and the health check. The page is left out: it is tested in a browser."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_mill import FakeMill
from fastapi import FastAPI
from starlette.testclient import TestClient

from bot import api
from bot.errors import HubUnreachable, UsageError
from bot.models import RepoRef
from bot.settings import Settings

SECRET = "a long secret"
PHI, LAST = RepoRef(repo="microsoft/Phi-4-mini-instruct"), RepoRef(repo="microsoft/Phi-last")
PATIENCE = 120.0  # seconds; only a hang takes so long, however busy the machine


def _payload(repo: str = PHI.repo, kind: str = "model") -> dict[str, Any]:
    return {"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": kind, "name": repo}}


@pytest.fixture
def mill() -> FakeMill:
    return FakeMill(Settings(webhook_secret=SECRET))


@pytest.fixture
def client(mill: FakeMill, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(api, "_with_page", lambda app, mill: app)
    monkeypatch.setattr(api, "DEBOUNCE_SECONDS", 0.0)
    with TestClient(api.create_app(mill), base_url="http://127.0.0.1") as client:
        yield client


def _post(client: TestClient, payload: object = None, secret: str | None = SECRET) -> int:
    headers = {"X-Webhook-Secret": secret} if secret is not None else {}
    body = payload if isinstance(payload, bytes) else json.dumps(payload or _payload())
    return client.post("/webhook", content=body, headers=headers).status_code


def _looked(mill: FakeMill, client: TestClient) -> list[Any]:
    """What hints so far made the mill look at: a last one is given, and its look is waited for."""

    def looks() -> list[Any]:
        return [call[1] for call in mill.calls if call[0] == "reconcile"]

    before, deadline = looks().count(LAST), time.monotonic() + PATIENCE
    assert _post(client, _payload(LAST.repo)) == 202
    while looks().count(LAST) == before:
        assert time.monotonic() < deadline, "nobody looked"
        time.sleep(0.01)
    return [repo for repo in looks() if repo != LAST]


def test_health_is_told(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"


def test_without_a_secret_the_webhook_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_with_page", lambda app, mill: app)
    with TestClient(api.create_app(FakeMill()), base_url="http://127.0.0.1") as client:
        assert _post(client) == 404
        assert _post(client, secret="") == 404


def test_a_missing_secret_is_401_and_a_wrong_one_403(client: TestClient, mill: FakeMill) -> None:
    assert _post(client, secret=None) == 401
    assert _post(client, secret="guess") == 403
    assert _post(client, secret="") == 403
    assert client.post(f"/webhook?secret={SECRET}", json=_payload()).status_code == 401
    assert _looked(mill, client) == []


def test_a_hint_is_a_look(client: TestClient, mill: FakeMill) -> None:
    assert _post(client) == 202
    assert _looked(mill, client) == [PHI]


def test_many_hints_about_one_repo_are_one_look() -> None:
    other, looked = RepoRef(repo="microsoft/phi-4"), list[RepoRef]()

    async def work() -> None:
        hints = api.Hints(looked.append, 0)
        for _ in range(100):
            hints.add(PHI)
        hints.add(other)
        worker = asyncio.create_task(hints.work())
        while other not in looked:
            await asyncio.sleep(0.01)
        worker.cancel()

    asyncio.run(asyncio.wait_for(work(), 60))
    assert looked == [PHI, other]


def test_the_payload_s_revision_is_not_believed(client: TestClient, mill: FakeMill) -> None:
    _post(client, {**_payload(), "updatedRefs": [{"ref": "refs/heads/main", "newSha": "f" * 40}]})
    assert _looked(mill, client) == [PHI]


@pytest.mark.parametrize("payload", [_payload("stranger/Phi-4"), _payload(kind="dataset")])
def test_what_is_not_watched_is_ignored(client: TestClient, mill: FakeMill, payload: dict[str, Any]) -> None:
    assert _post(client, payload) == 202
    assert _looked(mill, client) == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"nonsense", b"[]", b'{"repo": 3}', b"\xff", b"[" * 60000, {"repo": {"type": "model", "name": "../../etc"}}],
)
def test_what_is_no_payload_is_400(client: TestClient, payload: object) -> None:
    assert _post(client, payload) == 400


def test_a_payload_has_a_largest_size(client: TestClient) -> None:
    assert _post(client, b"x" * (api.LARGEST_PAYLOAD + 1)) == 413


def test_a_look_that_fails_does_not_end_the_looking(client: TestClient, mill: FakeMill) -> None:
    mill.error = HubUnreachable("Nobody there.")
    _post(client)
    assert len(_looked(mill, client)) == 1
    mill.error = None
    _post(client)
    assert len(_looked(mill, client)) == 2


def test_other_host_names_are_refused_on_loopback(client: TestClient) -> None:
    assert client.get("/healthz", headers={"Host": "rebound.example"}).status_code == 400


def test_nothing_is_documented_from_elsewhere(client: TestClient) -> None:
    assert {client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


def test_a_taken_port_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "create_app", lambda mill: FastAPI())
    with api._listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(UsageError, match="Cannot listen"):
            api.serve(FakeMill(Settings(port=taken.getsockname()[1])))
