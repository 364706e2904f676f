"""A Hub with a release on it, which counts what it sends; and what programs have to know to use it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from huggingface_hub import CommitOperationAdd, HfApi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.hub import Hub
from bot.localhub import HubConfig, create_app

UPLOADER, MILLER, ORG, NAMESPACE = "uploader", "miller", "microsoft", "phimill"
FOREIGN = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "PHIMILL_")


class World:
    """One Hub under `root`, listening while inside the `with` block."""

    def __init__(self, root: Path, source: str) -> None:
        self.source = source
        self._counter = _Counter(create_app(root), f"/{source}/resolve/")
        self._config = HubConfig(root)
        settings = uvicorn.Config(
            self._counter, host="127.0.0.1", port=0, log_level="critical", access_log=False, timeout_keep_alive=75
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        if UPLOADER not in self._config.accounts.users:
            for user, org in ((UPLOADER, ORG), (MILLER, NAMESPACE)):
                self._config.add_user(user)
                self._config.add_org(org, {user: "admin"})
        self._token = self._config.add_token(MILLER, "write")

    def __enter__(self) -> World:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The benchmark's Hub did not start.")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def hub(self) -> Hub:
        """The Hub as the mill sees it."""
        return Hub(self.url, self._token)

    @property
    def served(self) -> int:
        """Bytes of the source's files that were sent so far."""
        return self._counter.sent

    def release(self, folder: Path) -> None:
        """Put the source there, as one commit, unless it is there."""
        api = HfApi(endpoint=self.url, token=self._config.add_token(UPLOADER, "write"))
        api.create_repo(self.source, exist_ok=True)
        if not api.file_exists(self.source, "model.safetensors"):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            added = [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path)) for path in files]
            api.create_commit(self.source, added, commit_message="Release")

    def environment(self, home: Path) -> dict[str, str]:
        """What a program needs that uses this Hub and keeps its own things in `home`."""
        return quiet_environment(home) | {"HF_ENDPOINT": self.url, "HF_TOKEN": self._token}

    def mill(self, home: Path, backends: Sequence[str], budget: int | None, *, gated: bool) -> dict[str, str]:
        """The environment of a mill. Random weights cannot pass a gate that is made for trained ones."""
        gates = {f"PHIMILL_GATE_{name}": "1e9" for name in ("FP32", "FP16", "INT8", "INT4", "RUNTIME")}
        limits = {} if budget is None else {"PHIMILL_MEMORY_BUDGET": str(budget)}
        kept = {name: os.environ[name] for name in ("PHIMILL_TOOLCHAINS",) if name in os.environ}
        ours = {
            "PHIMILL_HOME": str(home / "mill"),
            "PHIMILL_NAMESPACE": NAMESPACE,
            "PHIMILL_WATCH": json.dumps([ORG]),
            "PHIMILL_BACKENDS": json.dumps(list(backends)),
        }
        return self.environment(home) | kept | ours | limits | ({} if gated else gates)


def quiet_environment(home: Path) -> dict[str, str]:
    """This process's environment without anybody's Hub settings, and without a way out of this machine's Hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


class _Counter:
    """Passes everything on to `app`, and counts the bytes that are sent from below a path."""

    def __init__(self, app: ASGIApp, below: str) -> None:
        self._app, self._below, self.sent = app, below, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = scope["type"] == "http" and scope["path"].startswith(self._below)

        async def counting(message: Message) -> None:
            if counted and message["type"] == "http.response.body":
                self.sent += len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, counting)
