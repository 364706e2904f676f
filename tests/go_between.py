"""An HTTP proxy that stands where the Hub is expected: it keeps what it sees, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import uvicorn

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"te"}


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Answer:
    """What to answer in the Hub's place."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HungUp(Exception):
    """Raised by a plan: the connection breaks without an answer."""


# Asked before and after the Hub has answered. None: let it pass.
Plan = Callable[[Seen, bool], Answer | None]


class GoBetween:
    """Listens on a port of its own for as long as the `with` block lasts, and passes requests to `hub`."""

    def __init__(self, hub: str, plan: Plan = lambda _seen, _answered: None) -> None:
        self.hub, self.plan = hub, plan
        self.seen: list[Seen] = []
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._serve, interface="asgi3", host="127.0.0.1", port=0, log_level="critical", lifespan="off"
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        # One for all requests, as making one takes longer than most answers, and one that keeps no cookies. It lets a
        # connection go before the Hub does.
        self._transport = httpx.HTTPTransport(limits=httpx.Limits(keepalive_expiry=2), trust_env=False)

    def __enter__(self) -> GoBetween:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._transport.close()

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen = await _request(scope, receive)
        self.seen.append(seen)
        try:
            answer = await asyncio.to_thread(self.plan, seen, False)
            if answer is not None:
                await _reply(send, answer.status, list(answer.headers), b"{}")
                return
            passed = await asyncio.to_thread(self._pass_on, seen)
            await asyncio.to_thread(self.plan, seen, True)
        except (HungUp, httpx.TransportError):
            # uvicorn closes the connection when an application ends before it has answered in full.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            return
        headers = [(k, v) for k, v in passed.headers.raw if k.lower() not in _HOP]
        if seen.method == "HEAD" and "content-length" in passed.headers:
            headers.append((b"content-length", passed.headers["content-length"].encode()))
        await _reply(send, passed.status_code, headers, passed.content)

    def _pass_on(self, seen: Seen) -> httpx.Response:
        """Ask the Hub. The Host header goes along, so that the URLs which the Hub makes lead back here."""
        headers = [(k, v) for k, v in seen.headers if k.lower() not in _HOP]
        headers = [(k, v) for k, v in headers if k.lower() != b"accept-encoding"]
        headers.append((b"accept-encoding", b"identity"))
        request = httpx.Request(seen.method, self.hub + seen.target, headers=headers, content=seen.body)
        answer = self._transport.handle_request(request)
        answer.read()
        return answer


async def _request(scope: dict[str, Any], receive: Receive) -> Seen:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    query = scope["query_string"].decode()
    target = scope["raw_path"].decode() + (f"?{query}" if query else "")
    return Seen(scope["method"], target, tuple(scope["headers"]), bytes(body))


async def _reply(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    if not any(key.lower() == b"content-length" for key, _ in headers) and status not in (204, 304):
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
