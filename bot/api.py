"""The web face: the page, the webhook, the probes and the metrics, in one FastAPI app."""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Header, HTTPException, Request
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response

from bot import VERSION, metrics
from bot.desk import Desk
from bot.errors import PhimillError, UsageError
from bot.logs import get_logger
from bot.models import RepoRef
from bot.probes import Readiness
from bot.ui.access import is_loopback

if TYPE_CHECKING:
    from bot.mill import Mill

log = get_logger(__name__)

LARGEST_PAYLOAD = 64 * 1024  # bytes; the Hub's own are a few kB
MOST_HINTS = 100
DEBOUNCE_SECONDS = 2.0
GOODBYE_SECONDS = 3  # for open connections, when the server ends


class Hints:
    """Repos that somebody says have changed. Each is looked at once, however often it was named meanwhile."""

    def __init__(self, look: Callable[[RepoRef], object], wait: float) -> None:
        self._look = look
        self._wait = wait
        self._named: dict[str, RepoRef] = {}
        self._news = asyncio.Event()

    def add(self, repo: RepoRef) -> None:
        """Remember to look at `repo`. When too many are waiting it is dropped: the clock will see it."""
        if len(self._named) < MOST_HINTS:
            self._named[repo.repo] = repo
            self._news.set()

    async def work(self) -> None:
        """Look, for ever."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._wait)
            self._news.clear()
            named, self._named = self._named, {}
            for repo in named.values():
                await asyncio.to_thread(self._look_safely, repo)

    def _look_safely(self, repo: RepoRef) -> None:
        try:
            self._look(repo)
        except PhimillError as error:
            log.warning("A hint came to nothing.", repo=str(repo), error=str(error))
        except Exception:
            log.exception("A hint came to nothing.", repo=str(repo))


def create_app(mill: Mill) -> FastAPI:
    """The app. It does not make the mill work or watch; whoever serves it does."""
    hints = Hints(mill.reconcile, DEBOUNCE_SECONDS)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(hints.work())
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    # FastAPI's own pages of documentation are off: they load scripts from elsewhere.
    app = FastAPI(title="phimill", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if is_loopback(mill.settings.host):
        # Otherwise a web site whose name resolves to 127.0.0.1 could use the page as if it were its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "::1", "[::1]"])
    _add_routes(app, mill, hints)
    return _with_page(app, mill)


def _add_routes(app: FastAPI, mill: Mill, hints: Hints) -> None:
    readiness = Readiness(mill)

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Say that this process answers and that its database does."""
        return {"status": "ok", "version": VERSION, "paused": mill.paused}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Say whether builds can be done now: 503 and the reasons when not."""
        problems = readiness.problems()
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    @app.get("/metrics")
    def metrics_() -> Response:
        """Tell Prometheus."""
        return Response(metrics.exposition(mill), media_type=metrics.CONTENT_TYPE)

    @app.post("/webhook", status_code=202)
    async def webhook(request: Request, x_webhook_secret: str | None = Header(default=None)) -> dict[str, str]:
        """Take a hint from the Hub. Nothing in it is believed: the repo named in it is looked at again."""
        _check_secret(mill, x_webhook_secret)
        repo = _named_repo(await _bounded_body(request))
        if repo is None or repo.owner not in mill.settings.watch:
            return {"status": "ignored"}
        hints.add(repo)
        return {"status": "accepted"}


def _check_secret(mill: Mill, given: str | None) -> None:
    expected = mill.settings.webhook_secret
    if expected is None or not expected.get_secret_value():
        raise HTTPException(404, "The webhook is off: no secret is configured.")
    if given is None:
        raise HTTPException(401, "The header X-Webhook-Secret is missing.")
    if not secrets.compare_digest(given.encode(), expected.get_secret_value().encode()):
        raise HTTPException(403, "The header X-Webhook-Secret is wrong.")


async def _bounded_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_PAYLOAD:
            raise HTTPException(413, "The payload is too large.")
    return body


def _named_repo(body: bytes) -> RepoRef | None:
    """The model repo that a payload is about; None for another kind of repo.

    Raises:
        HTTPException: it is no webhook payload.
    """
    try:
        repo = json.loads(body)["repo"]
        return RepoRef.parse(str(repo["name"])) if repo["type"] == "model" else None
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise HTTPException(400, "This is not a webhook payload.") from error


def _with_page(app: FastAPI, mill: Mill) -> FastAPI:
    import gradio as gr

    from bot.ui import create_page
    from bot.ui.boards import Boards
    from bot.ui.feed import LINK, add_feed
    from bot.ui.language import translations
    from bot.ui.theme import CSS, ICON, head, theme

    desk = Desk(mill)
    boards = Boards(desk)
    add_feed(app, boards, f"{mill.settings.endpoint}/{mill.settings.namespace or 'phimill'}")
    return gr.mount_gradio_app(  # type: ignore[no-any-return]
        app,
        create_page(desk, boards),
        path="/",
        server_name=mill.settings.host,
        server_port=mill.settings.port,
        theme=theme(),
        i18n=translations(),
        css_paths=CSS,
        head=head() + LINK,
        favicon_path=str(ICON),
        footer_links=[],
        run_history=False,
        show_error=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=True,
        max_file_size=1,
    )


def serve(mill: Mill, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve the app, and work and watch meanwhile, until SIGINT or SIGTERM. `ready` is told the address.

    Raises:
        UsageError: the address cannot be listened on.
    """
    import uvicorn

    settings = mill.settings
    listener = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        create_app(mill),
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    answer_promptly()
    with listener, mill.working(), mill.watching():
        ready(f"http://{host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])


def answer_promptly() -> None:
    """Let the server stand still less for Python's garbage collector. For when everything is loaded: once a process.

    To look through all that is there takes a quarter of a second, again and again, and it stays until the end.
    """
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = error.strerror or "no such address"
        raise UsageError(
            f"Cannot listen on {host}:{port}: {why}.", "Choose another PHIMILL_HOST or PHIMILL_PORT."
        ) from error
    return listener
