"""Webhooks: told of everything, told again until it is heard, and never of what is private."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hub_http import Http, wait_for
from huggingface_hub import HfApi, WebhookPayload
from huggingface_hub.errors import HfHubHTTPError
from ports import free_port

from bot.localhub import RunningHub


class Receiver:
    """Somebody's web server: notes what it is sent, and can be made to fail."""

    def __init__(self, port: int = 0) -> None:
        self.heard: list[tuple[dict[str, Any], str | None]] = []
        self.failures = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fails = receiver.failures > 0
                receiver.failures -= fails
                if not fails:
                    receiver.heard.append((body, self.headers["X-Webhook-Secret"]))
                self.send_response(503 if fails else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?x=1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, repo: str) -> list[dict[str, Any]]:
        return [body for body, _ in self.heard if body["repo"]["name"] == repo]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that listens."""
    running = Receiver()
    yield running
    running.close()


def test_a_push_is_told_with_old_and_new_commit(api: HfApi, repo: str, receiver: Receiver) -> None:
    hook = api.create_webhook(
        url=receiver.url, watched=[{"type": "model", "name": repo}], domains=["repo"], secret="s3cret"
    )
    old = api.model_info(repo).sha
    new = api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo).oid
    wait_for(lambda: receiver.heard)

    body, secret = receiver.heard[0]
    payload = WebhookPayload(**body)
    assert secret == "s3cret"
    assert (payload.event.action, payload.event.scope) == ("update", "repo.content")
    assert (payload.repo.name, payload.repo.type, payload.webhook.id) == (repo, "model", hook.id)
    (moved,) = payload.updatedRefs
    assert (moved.ref, moved.oldSha, moved.newSha) == ("refs/heads/main", old, new)
    assert body["repo"]["headSha"] == new
    assert body["webhook"]["version"] == 3


def test_a_watched_owner_tells_of_every_change(api: HfApi, new_id: Callable[[], str], receiver: Receiver) -> None:
    api.create_webhook(url=receiver.url, watched=[{"type": "org", "name": "PhiMill"}])
    repo = new_id()
    api.create_repo(repo)
    api.create_tag(repo, tag="v1.0")
    api.update_repo_settings(repo, gated="auto")
    api.move_repo(repo, f"{repo}-x")
    api.delete_repo(f"{repo}-x")
    wait_for(lambda: len(receiver.of(repo)) == 4 and receiver.of(f"{repo}-x"))
    events = {(body["event"]["action"], body["event"]["scope"]) for body in receiver.of(repo)}
    assert events == {
        ("create", "repo"), ("update", "repo.content"), ("update", "repo.config"), ("move", "repo"),
    }  # fmt: skip
    assert receiver.of(f"{repo}-x")[0]["event"] == {"action": "delete", "scope": "repo"}


def test_a_receiver_that_fails_is_told_again(api: HfApi, repo: str, receiver: Receiver) -> None:
    receiver.failures = 2
    api.create_webhook(url=receiver.url, watched=[{"type": "model", "name": repo}])
    api.create_tag(repo, tag="v1.0")
    wait_for(lambda: receiver.heard)
    assert receiver.failures == 0


def test_a_receiver_that_was_down_is_told_when_it_is_up(api: HfApi, repo: str) -> None:
    port = free_port()
    api.create_webhook(url=f"http://127.0.0.1:{port}/", watched=[{"type": "model", "name": repo}])
    api.create_tag(repo, tag="v1.0")
    time.sleep(0.5)
    receiver = Receiver(port)
    try:
        wait_for(lambda: receiver.heard)
    finally:
        receiver.close()


def test_what_was_queued_is_delivered_after_a_restart(tmp_path: Path) -> None:
    port = free_port()
    with RunningHub(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("miller"))
        api.create_webhook(url=f"http://127.0.0.1:{port}/", watched=[{"type": "user", "name": "miller"}])
        api.create_repo("miller/a")
    receiver = Receiver(port)
    try:
        with RunningHub(tmp_path):
            wait_for(lambda: receiver.of("miller/a"))
    finally:
        receiver.close()


def test_a_private_repo_is_not_told_to_strangers(
    api: HfApi, eve: HfApi, new_id: Callable[[], str], receiver: Receiver
) -> None:
    watched = [{"type": "org", "name": "phimill"}]
    eve.create_webhook(url=receiver.url, watched=watched, secret="eve")
    api.create_webhook(url=receiver.url, watched=watched, secret="miller")
    hidden, shown = new_id(), new_id()
    api.create_repo(hidden, private=True)
    api.create_repo(shown)
    api.update_repo_settings(shown, visibility="private")
    wait_for(lambda: len(receiver.of(shown)) == 3 and receiver.of(hidden))

    def told(repo: str, scope: str) -> set[str | None]:
        return {
            secret
            for body, secret in receiver.heard
            if (body["repo"]["name"], body["event"]["scope"]) == (repo, scope)
        }

    assert told(hidden, "repo") == {"miller"}
    assert told(shown, "repo") == {"miller", "eve"}
    assert told(shown, "repo.config") == {"miller"}


def test_a_webhook_is_listed_changed_switched_and_removed(
    api: HfApi, eve: HfApi, repo: str, receiver: Receiver
) -> None:
    hook = api.create_webhook(url="http://127.0.0.1:9/", watched=[{"type": "model", "name": repo}])
    assert hook.id in [known.id for known in api.list_webhooks()]
    assert hook.id not in [known.id for known in eve.list_webhooks()]
    with pytest.raises(HfHubHTTPError):
        eve.delete_webhook(hook.id)
    changed = api.update_webhook(hook.id, url=receiver.url, watched=[{"type": "model", "name": repo}])
    assert (changed.url, changed.domains) == (receiver.url, ["repo", "discussion"])

    assert api.disable_webhook(hook.id).disabled
    api.create_tag(repo, tag="unheard")
    assert not api.enable_webhook(hook.id).disabled
    api.create_tag(repo, tag="heard")
    wait_for(lambda: receiver.heard)
    assert [body["updatedRefs"][0]["ref"] for body in receiver.of(repo)] == ["refs/tags/heard"]

    api.delete_webhook(hook.id)
    with pytest.raises(HfHubHTTPError):
        api.get_webhook(hook.id)


@pytest.mark.parametrize(
    "body",
    [
        {"url": "file:///etc/passwd", "watched": [{"type": "org", "name": "a"}]},
        {"url": "http://", "watched": [{"type": "org", "name": "a"}]},
        {"url": "http://h:99999/", "watched": [{"type": "org", "name": "a"}]},
        {"url": "http://h/\r\nX: y", "watched": [{"type": "org", "name": "a"}]},
        {"url": "http://h/", "watched": []},
        {"url": "http://h/", "watched": [{"type": "planet", "name": "a"}]},
        {"url": "http://h/", "watched": [{"type": "org", "name": "a"}], "domains": ["all"]},
        {"url": "http://h/", "watched": [{"type": "org", "name": "a"}], "secret": "a\r\nb"},
        {"jobSourceId": "x", "watched": [{"type": "org", "name": "a"}]},
    ],
)
def test_a_webhook_that_could_not_work_is_refused(http_call: Http, hub: RunningHub, body: dict[str, Any]) -> None:
    assert http_call("POST", "/api/settings/webhooks", body, hub.token("miller")).status == 400
