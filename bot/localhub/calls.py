"""One HTTP call as the handlers see it, and the adapter between them and Starlette.

Handlers are plain functions run in a thread: they may block on the disk and the database. Only uploads, which
must not be held in memory, are coroutines.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.localhub import repos
from bot.localhub.auth import Identity, identify
from bot.localhub.errors import BadRequestError, HubError, RepoNotFoundError, TooLargeError
from bot.localhub.repos import Repo

if TYPE_CHECKING:
    import sqlite3

    from bot.localhub.hub import Hub

MAX_BODY = 8 * 1024 * 1024
_PIECE = 1024 * 1024
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


@dataclass
class Call:
    """One request: who asks, for what, with which body."""

    hub: Hub
    request: Request
    params: dict[str, str]
    body: bytes = b""

    @cached_property
    def identity(self) -> Identity:
        """Who asks. Read on demand: the upload routes carry other credentials in the same header."""
        header = self.request.headers.get("authorization")
        return identify(self.hub.config.accounts, header, self.hub.grants.find)

    @property
    def query(self) -> QueryParams:
        """The query string's values."""
        return self.request.query_params

    @property
    def base_url(self) -> str:
        """The address the client reached us at, without a trailing slash."""
        return str(self.request.base_url).rstrip("/")

    @property
    def repo_type(self) -> str:
        """`model`, `dataset` or `space`, from the route."""
        return self.params["repo_type"]

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object, or raise `BadRequestError`."""
        return json_object(self.body)

    def flag(self, name: str) -> bool:
        """Say whether a query value is set to a true word."""
        return self.query.get(name, "").lower() in ("1", "true")

    def repo(self, connection: sqlite3.Connection) -> Repo:
        """Return the repository of the URL. Raises `RepoNotFoundError` if the caller may not know of it."""
        return find_repo(connection, self.identity, self.repo_type, f"{self.params['owner']}/{self.params['name']}")

    def page_link(self, **changes: str | int) -> dict[str, str]:
        """Return the `Link` header that leads to the next page."""
        values = [(key, value) for key, value in self.query.multi_items() if key not in changes]
        query = urlencode([*values, *((key, str(value)) for key, value in changes.items())])
        return {"Link": f'<{self.base_url}{self.request.scope["path"]}?{query}>; rel="next"'}

    async def pieces(self, limit: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about a MiB. Raises `TooLargeError` past `limit` bytes."""
        total, waiting = 0, bytearray()
        async for data in self.request.stream():
            total += len(data)
            if total > limit:
                raise TooLargeError(f"The request body is over the limit of {limit} bytes.")
            waiting += data
            if len(waiting) >= _PIECE:
                yield bytes(waiting)
                waiting.clear()
        if waiting:
            yield bytes(waiting)


Handler = Callable[[Call], Response | dict[str, Any] | list[Any]]
StreamHandler = Callable[[Call], Awaitable[Response | dict[str, Any]]]


def find_repo(connection: sqlite3.Connection, identity: Identity, repo_type: str, full_name: str) -> Repo:
    """Return a repository that the caller may see, or raise `RepoNotFoundError`."""
    owner, _, name = full_name.partition("/")
    repo = repos.find(connection, repo_type, owner, name)
    if repo is None:
        raise RepoNotFoundError(anonymous=identity.user is None)
    identity.require_read(repo)
    return repo


def route(path: str, handler: Handler, method: str = "GET", **params: str) -> Route:
    """Serve `path` by a plain function. `params` are fixed values added to those of the URL."""

    async def endpoint(request: Request) -> Response:
        call = _call(request, params)
        call.body = b"".join([piece async for piece in call.pieces(MAX_BODY)])
        return _response(await run_in_threadpool(handler, call))

    return Route(path, endpoint, methods=[method])


def stream_route(path: str, handler: StreamHandler, method: str, **params: str) -> Route:
    """Serve `path` by a coroutine that reads the body itself."""

    async def endpoint(request: Request) -> Response:
        return _response(await handler(_call(request, params)))

    return Route(path, endpoint, methods=[method])


def repo_routes(path: str, handler: Handler, method: str = "GET") -> list[Route]:
    """Serve `/api/{type}s/{owner}/{name}` + `path` for the three types of repository."""
    return [
        route(f"/api/{kind}s/{{owner}}/{{name}}{path}", handler, method, repo_type=kind)
        for kind in ("model", "dataset", "space")
    ]


def web_prefixes() -> list[tuple[str, str]]:
    """Return each repository type with the start of its web URLs. The bare one is last: it matches most."""
    return [("dataset", "/datasets"), ("space", "/spaces"), ("model", "")]


def json_object(text: bytes | str) -> dict[str, Any]:
    """Parse an untrusted JSON object. Raises `BadRequestError` for anything else."""
    try:
        written = text.decode() if isinstance(text, bytes) else text
        value = json.loads(written or "{}", parse_constant=_refuse_constant)
        # JSON can spell half a surrogate pair, which nothing after this point could store or send.
        halved = "\\u" in written and _HALF_CHARACTERS.search(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError) as error:
        raise BadRequestError("The request body is not valid JSON.") from error
    if halved:
        raise BadRequestError("The request body is not valid Unicode.")
    if not isinstance(value, dict):
        raise BadRequestError("The request body must be a JSON object.")
    return value


def text_field(body: dict[str, Any], name: str, default: str | None = None) -> str:
    """Return a string member of an untrusted object. Raises `BadRequestError` if there is none."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise BadRequestError(f"The field {name!r} must be a string.")
    return value


def int_query(call: Call, name: str, default: int, largest: int) -> int:
    """Return a query value as an integer in 0..`largest`. Raises `BadRequestError` for no number."""
    text = call.query.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise BadRequestError(f"The query value {name!r} must be a whole number.")
    return min(int(text), largest)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _call(request: Request, params: dict[str, str]) -> Call:
    hub: Hub = request.app.state.hub
    # Routing is on the undecoded path (see `app`), so each value is decoded here, exactly once.
    found = {name: unquote(value) for name, value in request.path_params.items()}
    return Call(hub, request, {**found, **params})


def _response(result: Response | dict[str, Any] | list[Any]) -> Response:
    return result if isinstance(result, Response) else JSONResponse(result)


async def on_hub_error(_: Request, error: Exception) -> Response:
    """Answer a `HubError`."""
    assert isinstance(error, HubError)  # noqa: S101 - registered for this class only
    return error.response()
