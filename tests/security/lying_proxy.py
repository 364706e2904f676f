"""An HTTP proxy in front of a Hub that passes everything on, except for what it is told to answer itself."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import httpx2 as httpx
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"te"}


async def endless() -> AsyncIterator[bytes]:
    """A body far beyond every limit. Truly without end it would go on after whoever asked has gone."""
    for _ in range(1024):
        yield b" " * 65536


@dataclass(frozen=True)
class Answer:
    """What is answered in the Hub's place. In a body, @ is the id of the repo that was asked for."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Callable[[], AsyncIterator[bytes]] = b""


class LyingProxy:
    """Listens on a port of its own inside the `with` block. `lies`: by repo, a pattern for a path, and the answer."""

    def __init__(self, hub: str, lies: Mapping[str, tuple[str, Answer]]) -> None:
        self._hub, self._lies = hub, lies
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "HEAD", "POST", "PUT", "DELETE"])])
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=2)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._client = httpx.Client(timeout=120, trust_env=False, follow_redirects=False)

    def __enter__(self) -> LyingProxy:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._client.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    async def _answer(self, request: Request) -> Response:
        target = request.scope["raw_path"].decode()
        for repo, (pattern, answer) in self._lies.items():
            about, found, rest = target.partition(repo)
            if found and about in ("/", "/api/models/") and re.search(pattern, rest):
                if callable(answer.body):
                    return StreamingResponse(answer.body(), answer.status, answer.headers)
                return Response(answer.body.replace(b"@", repo.encode()), answer.status, answer.headers)
        return await run_in_threadpool(self._pass_on, request, await request.body())

    def _pass_on(self, request: Request, body: bytes) -> Response:
        """Ask the Hub. The Host header goes along, so that the URLs which the Hub makes lead back here."""
        target = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
        sent = [(k, v) for k, v in request.headers.raw if k.lower() not in _HOP | {b"accept-encoding"}]
        sent.append((b"accept-encoding", b"identity"))
        passed = self._client.request(request.method, self._hub + target, headers=sent, content=body)
        answer = Response(passed.content, passed.status_code)
        answer.raw_headers = [(k, v) for k, v in passed.headers.raw if k.lower() not in _HOP]
        length = passed.headers.get("content-length") if request.method == "HEAD" else None
        answer.raw_headers.append((b"content-length", (length or str(len(passed.content))).encode()))
        return answer
