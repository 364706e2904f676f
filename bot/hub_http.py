"""One HTTP client for everything that speaks to the Hub: time limits, a count of requests, careful redirects.

Importing this changes huggingface_hub's process-wide client, in the documented way, so that the calls of
HfApi have the same limits. Its own listings ask for no time limit and would wait for ever for a Hub that hangs.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urljoin, urlsplit

import httpx2 as httpx
from huggingface_hub import set_client_factory
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import (
    default_client_factory,
    get_session,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

from bot import metrics
from bot.errors import HubError, HubUnreachable

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0  # a commit of many files answers late, so this is generous
MAX_REDIRECTS = 5

_counter: ContextVar[deque[str] | None] = ContextVar("requests", default=None)


@contextmanager
def counted(calls: deque[str]) -> Iterator[None]:
    """Add `METHOD path` of every request made inside to `calls`."""
    token = _counter.set(calls)
    try:
        yield
    finally:
        _counter.reset(token)


@contextmanager
def open_file(url: str, endpoint: str, token: str | bool, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer to a GET of a file, body not read yet.

    Redirects are followed by hand: the token is sent to the endpoint's own host and nowhere else.

    Raises:
        HubError: redirected too often, or to something less safe.
        httpx.HTTPError, HfHubHTTPError: see `bot.hub_errors`.
    """
    for _ in range(MAX_REDIRECTS):
        own = _origin(url) == _origin(endpoint)
        auth = build_hf_headers(token=token if own else False)
        # Identity: sizes and ranges are of the file, not of a compressed form of it.
        sent = {**auth, **headers, "Accept-Encoding": "identity"}
        with get_session().stream("GET", url, headers=sent, follow_redirects=False) as response:
            if not response.has_redirect_location:
                if response.is_error:
                    response.read()
                hf_raise_for_status(response)
                yield response
                return
            url = redirect(url, response.headers["location"])
    raise HubError(f"{url} is redirected more than {MAX_REDIRECTS} times.")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def redirect(url: str, location: str) -> str:
    """Where a redirect leads. Never from https down to http, never to another scheme."""
    target = urljoin(url, location)
    if urlsplit(target).scheme not in {"https", urlsplit(url).scheme}:
        raise HubError(f"The Hub redirects to {urlsplit(target).scheme!r}, which is refused.")
    return target


def check_range(response: httpx.Response, start: int) -> None:
    """Make sure that the body begins at byte `start`; a server may ignore Range and send everything."""
    partial = response.headers.get("content-range", "").startswith(f"bytes {start}-")
    if not (response.status_code == 206 and partial) and not (response.status_code == 200 and start == 0):
        raise HubError("The Hub did not send the range that was asked for.")


def check_whole(response: httpx.Response, data: bytes) -> None:
    """Make sure that the body of a small file is all of it: the Hub's ETag is then git's id of the blob.

    Raises:
        HubUnreachable: it is something else, which may be better the next time.
    """
    tag = response.headers.get("etag", "").removeprefix("W/").strip('"')
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if re.fullmatch("[0-9a-f]{40}", tag) and tag != blob:
        raise HubUnreachable("The Hub sent other bytes than it names.", "Try again; the connection may be bad.")


def _before_request(request: httpx.Request) -> None:
    metrics.asked_hub(request.method)
    calls = _counter.get()
    if calls is not None:
        calls.append(f"{request.method} {request.url.path}")
    limits = dict.fromkeys(("read", "write", "pool"), SILENCE_SECONDS) | {"connect": CONNECT_SECONDS}
    asked = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {key: asked.get(key) or limit for key, limit in limits.items()}


def _after_response(response: httpx.Response) -> None:
    limit = parse_ratelimit_headers(response.headers)
    metrics.hub_answered(
        response.request.method,
        response.status_code,
        limit.resource_type if limit else None,
        limit.remaining if limit else 0,
    )


def _client() -> httpx.Client:
    """huggingface_hub's own client, with time limits and counters."""
    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _before_request],
        "response": [*hooks["response"], _after_response],
    }
    return client


set_client_factory(_client)
