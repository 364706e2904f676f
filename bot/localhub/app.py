"""The Hub as an ASGI application."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.localhub.calls import on_hub_error
from bot.localhub.errors import HubError, TooLargeError
from bot.localhub.hub import Hub
from bot.localhub.routes import (
    account,
    collections,
    commits,
    files,
    lfs,
    listing,
    oauth,
    pages,
    refs,
    repos,
    spaces,
    webhooks,
    xet,
)  # fmt: skip

_ROOMS = (
    account, oauth, repos, commits, lfs, xet, refs, collections, webhooks, spaces, files, listing, pages,
)  # fmt: skip


def create_app(root: Path) -> Starlette:
    """Return the application that serves the Hub kept under `root`.

    The root is opened when the server starts and let go when it stops.

    Raises (at start):
        HubInUseError: another process serves this root.
        HubTooNewError: a newer phimill has changed its records.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.hub = await run_in_threadpool(Hub, root)
        try:
            yield
        finally:
            await run_in_threadpool(app.state.hub.close)

    return Starlette(
        routes=[found for room in _ROOMS for found in room.routes()],
        lifespan=lifespan,
        middleware=[Middleware(_Border)],
        exception_handlers={
            HubError: on_hub_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_disconnect,
            OSError: _on_os_error,
            Exception: _on_crash,
        },
    )


class _Border:
    """Routes on the path as it was sent, and marks every answer as not to be second-guessed by a browser.

    A revision such as `refs/heads/main` arrives as one quoted segment; decoding before routing would tear it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        path = scope.get("raw_path") or scope["path"].encode("utf-8")
        await self._app({**scope, "path": path.decode("latin-1")}, receive, send_marked)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Answer for a path or method that nothing serves."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    known = {
        404: "This Hub serves nothing at this address.",
        405: "This address does not take this method.",
    }
    message: Any = known.get(error.status_code, error.detail)
    return JSONResponse({"error": message}, error.status_code, {"X-Error-Message": str(message)})


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """Drop a request whose sender has gone: there is nobody to answer."""
    return Response(status_code=400)


async def _on_os_error(request: Request, error: Exception) -> Response:
    """Answer for a full disk in words; anything else is a fault of ours."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return TooLargeError("This Hub's disk is full.").response()
    raise error


async def _on_crash(request: Request, error: Exception) -> Response:
    """Answer for a fault of ours, without its details. The server logs them."""
    message = "This Hub made an error. Its log says more."
    return JSONResponse({"error": message}, 500, {"X-Error-Message": message})
