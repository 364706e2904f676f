"""The Hub client against a server that misbehaves: errors are typed, waits are obeyed, the token stays at home."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stamina
from huggingface_hub import get_session

from bot import hub_http
from bot.errors import (
    AccessDenied,
    GatedSource,
    HubError,
    HubUnreachable,
    PhimillError,
    RepoUnavailable,
    SourceCorrupt,
)
from bot.hub import Hub
from bot.hub_errors import LONGEST_WAIT, retry_after
from bot.models import RepoRef

SHA = "a" * 40
REF = RepoRef(repo="microsoft/phi")
Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Answers from a script; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[str], Answer]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                status, headers, body = answer(self.path) if callable(answer) else answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def info(sha: str | None = SHA) -> Answer:
    return 200, {}, json.dumps({"id": REF.repo, "sha": sha}).encode()


def failure(status: int, code: str = "", **headers: str) -> Answer:
    named = {"X-Error-Code": code} if code else {}
    return status, {**named, **headers}, b'{"error": "no"}'


def test_a_repo_is_resolved_to_its_commit_in_one_call(server: Server) -> None:
    server.answers = [info()]
    hub = Hub(server.url)
    assert hub.resolve(REF) == SHA
    assert list(hub.calls) == ["GET /api/models/microsoft/phi"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (failure(404, "RepoNotFound"), RepoUnavailable),
        (failure(401, "RepoNotFound"), RepoUnavailable),
        (failure(404, "RevisionNotFound"), RepoUnavailable),
        (failure(403, "GatedRepo"), GatedSource),
        (failure(403), AccessDenied),
        (failure(418), HubError),
        (failure(500), HubUnreachable),
        (failure(503), HubUnreachable),
        (failure(429), HubUnreachable),
        ((200, {}, b"<html>log in</html>"), HubError),
        ((200, {}, b"[]"), HubError),
        ((200, {}, b"{}"), HubError),
        (info(sha=None), RepoUnavailable),
        (info(sha="main"), RepoUnavailable),
    ],
)
def test_every_failure_is_one_of_ours(server: Server, answer: Answer, error: type[PhimillError]) -> None:
    server.answers = [answer]
    with pytest.raises(error) as raised:
        Hub(server.url).resolve(REF)
    assert type(raised.value) is error


def test_a_wrong_token_is_access_denied_and_not_a_missing_repo(server: Server) -> None:
    message = "Invalid credentials in Authorization header"
    server.answers = [(401, {"X-Error-Message": message}, json.dumps({"error": message}).encode())]
    with pytest.raises(AccessDenied):
        Hub(server.url, "hf_wrong").resolve(REF)


def test_no_server_at_all_is_unreachable_and_retryable(server: Server) -> None:
    server.close()
    with pytest.raises(HubUnreachable) as raised:
        Hub(server.url).resolve(REF)
    assert raised.value.retryable
    server.thread = threading.Thread()
    server.close = lambda: None  # type: ignore[method-assign]


def test_a_busy_hub_is_asked_again_and_a_missing_repo_is_not(server: Server) -> None:
    server.answers = [failure(503), failure(503), info()]
    assert Hub(server.url).resolve(REF) == SHA
    assert len(server.asked) == 3
    server.asked.clear()
    server.answers = [failure(404, "RepoNotFound")]
    with pytest.raises(RepoUnavailable):
        Hub(server.url).resolve(REF)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"RateLimit": '"api";r=0;t=42', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 42.0),
        ({"RateLimit": '"api";r=9;t=42'}, True),
        ({"Retry-After": "soon"}, True),
        ({"Retry-After": str(int(LONGEST_WAIT) + 1)}, False),
    ],
)
def test_the_wait_that_the_server_asks_for_is_obeyed(
    server: Server, headers: dict[str, str], expected: float | bool
) -> None:
    server.answers = [failure(429, **headers)]
    with pytest.raises(HubUnreachable) as raised:
        Hub(server.url).resolve(REF)
    wait = retry_after(raised.value)
    assert wait == expected
    assert type(wait) is type(expected)


def test_a_range_is_read_at_exactly_the_commit_and_no_further(server: Server) -> None:
    server.answers = [(206, {"Content-Range": "bytes 2-4/10"}, b"234")]
    hub = Hub(server.url)
    assert hub.read_range(REF.repo, SHA, "model.safetensors", 2, 5) == b"234"
    path, headers = server.asked[0]
    assert path == f"/microsoft/phi/resolve/{SHA}/model.safetensors"
    assert headers["range"] == "bytes=2-4"
    assert headers["accept-encoding"] == "identity"
    assert hub.bytes_read == 3


def test_what_was_read_at_a_commit_is_not_asked_for_twice(server: Server) -> None:
    server.answers = [(200, {}, b"{}")]
    hub = Hub(server.url)
    assert {hub.read_text(REF.repo, SHA, "config.json", 10) for _ in range(3)} == {"{}"}
    assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [(200, {}, b"0123456789"), (206, {"Content-Range": "bytes 0-2/10"}, b"012")])
def test_a_server_that_ignores_the_range_is_caught(server: Server, answer: Answer) -> None:
    server.answers = [answer]
    with pytest.raises(HubError, match="range"):
        Hub(server.url).read_range(REF.repo, SHA, "x", 2, 5)


def test_a_small_file_that_is_not_small_is_not_read_to_its_end(server: Server) -> None:
    server.answers = [(200, {}, bytes(50_000_000))]
    hub = Hub(server.url)
    with pytest.raises(SourceCorrupt, match="larger than 1000"):
        hub.read_text(REF.repo, SHA, "config.json", 1000)
    assert hub.bytes_read < 5_000_000


def test_a_small_file_that_came_damaged_is_asked_for_again(server: Server) -> None:
    # What `git hash-object` says of the two bytes.
    tag = {"ETag": '"9e26dfeeb6e641a33dae4961196235bdb965b21b"'}
    server.answers = [(200, tag, b"{"), (200, tag, b"[]"), (200, tag, b"{}")]
    assert Hub(server.url).read_text(REF.repo, SHA, "config.json", 10) == "{}"
    assert len(server.asked) == 3


def test_a_small_file_that_is_always_damaged_is_no_file(server: Server) -> None:
    server.answers = [(200, {"ETag": f'"{"0" * 40}"'}, b"{}")]
    with pytest.raises(HubUnreachable, match="other bytes"):
        Hub(server.url).read_text(REF.repo, SHA, "config.json", 10)


def test_text_that_is_not_utf_8_is_corrupt(server: Server) -> None:
    server.answers = [(200, {}, b"\xff\xfe\x00")]
    with pytest.raises(SourceCorrupt, match="UTF-8"):
        Hub(server.url).read_text(REF.repo, SHA, "config.json", 1000)


def test_a_missing_file_is_unavailable(server: Server) -> None:
    server.answers = [failure(404, "EntryNotFound")]
    with pytest.raises(RepoUnavailable, match=r"config\.json"):
        Hub(server.url).read_text(REF.repo, SHA, "config.json", 1000)


def test_the_token_goes_to_the_endpoint_and_not_along_with_a_redirect(server: Server, other: Server) -> None:
    server.answers = [(302, {"Location": f"{other.url}/cdn/x"}, b"")]
    other.answers = [(200, {}, b"weights")]
    assert Hub(server.url, "hf_secret").read_bytes(REF.repo, SHA, "x", 100) == b"weights"
    assert server.asked[0][1]["authorization"] == "Bearer hf_secret"
    assert "authorization" not in other.asked[0][1]


def test_the_token_comes_along_when_the_redirect_stays_at_home(server: Server) -> None:
    server.answers = [(302, {"Location": "/renamed/x"}, b""), (200, {}, b"weights")]
    Hub(server.url, "hf_secret").read_bytes(REF.repo, SHA, "x", 100)
    assert [headers["authorization"] for _, headers in server.asked] == ["Bearer hf_secret"] * 2


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_a_redirect_to_another_scheme_is_refused(server: Server, location: str) -> None:
    server.answers = [(302, {"Location": location}, b"")]
    with pytest.raises(HubError, match="refused"):
        Hub(server.url).read_bytes(REF.repo, SHA, "x", 100)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(HubError, match="refused"):
        hub_http.redirect("https://huggingface.co/a", "http://huggingface.co/b")


def test_a_redirect_loop_ends(server: Server) -> None:
    server.answers = [(302, {"Location": "/again"}, b"")]
    with pytest.raises(HubError, match="more than 5"):
        Hub(server.url).read_bytes(REF.repo, SHA, "x", 100)


def test_without_a_token_the_machines_own_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    server.answers = [info()]
    Hub(server.url).resolve(REF)
    server.answers = [(200, {}, b"x")]
    Hub(server.url).read_bytes(REF.repo, SHA, "x", 100)
    assert not any("authorization" in headers for _, headers in server.asked)


def test_a_hub_never_shows_its_token() -> None:
    assert "secret" not in repr(Hub("http://127.0.0.1:1", "hf_secret")) + str(Hub("http://x")._token)


def test_a_listing_has_a_time_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """HfApi asks for none, and would wait for a Hub that never answers."""
    seen = []
    monkeypatch.setattr(hub_http, "SILENCE_SECONDS", 33.0)
    client = get_session()
    client.event_hooks["request"].append(lambda request: seen.append(request.extensions["timeout"]))
    server.answers = [(200, {}, b"[]")]
    try:
        Hub(server.url).list_org("microsoft")
    finally:
        client.event_hooks["request"].pop()
    assert seen[0]["read"] == 33.0
    assert seen[0]["connect"] == hub_http.CONNECT_SECONDS


def test_an_organisation_costs_one_call_per_page(server: Server) -> None:
    model = {
        "id": "microsoft/phi",
        "sha": SHA,
        "config": {"architectures": ["Phi3ForCausalLM"]},
        "tags": ["x"],
    }
    empty = {"id": "microsoft/empty"}
    following = f'<{server.url}/api/models?cursor=2>; rel="next"'
    server.answers = [
        (200, {"Link": following}, json.dumps([model]).encode()),
        (200, {}, json.dumps([empty]).encode()),
    ]
    hub = Hub(server.url)
    (found,) = hub.list_org("microsoft")
    assert found.architectures == ("Phi3ForCausalLM",)
    assert len(hub.calls) == len(server.asked) == 2
    assert "author=microsoft" in server.asked[0][0]
    assert "expand=config" in server.asked[0][0]
