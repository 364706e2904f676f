"""Serving a Hub: in the foreground, or for as long as a `with` block lasts."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import uvicorn

from bot.localhub.app import create_app
from bot.localhub.config import HubConfig, Role

_START_TIMEOUT = 30.0  # seconds


def serve(root: Path, host: str = "127.0.0.1", port: int = 8077) -> None:
    """Serve the Hub under `root` until interrupted. On first use, make an account and print its token."""
    token = HubConfig(root).ensure_default()
    if token:
        print(f"Write token (shown only now): {token}", flush=True)
    print(f"Serving {root} at http://{host}:{port}", flush=True)
    uvicorn.Server(_uvicorn_config(root, host, port)).run()


class RunningHub:
    """A Hub on a free loopback port, for tests and demonstrations.

    It runs in a thread, or with `process=True` in a process of its own that `kill` ends as a power cut would.
    `root` outlives it: a second `RunningHub` on the same root goes on from there.
    """

    def __init__(self, root: Path, *, port: int | None = None, process: bool = False) -> None:
        self.root = root
        self.config = HubConfig(root)
        self.config.ensure_default()
        self._port = port or _free_port()
        self._in_process = process
        self._tokens: dict[tuple[str, Role], str] = {}
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """What to set HF_ENDPOINT to."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The id of the server's own process. Only with `process=True`."""
        if self._process is None:
            raise RuntimeError("The Hub does not run in a process of its own.")
        return self._process.pid

    def token(self, user: str, role: Role = "write") -> str:
        """Return a token of `user`, made at the first call."""
        if (user, role) not in self._tokens:
            self._tokens[user, role] = self.config.add_token(user, role)
        return self._tokens[user, role]

    def __enter__(self) -> RunningHub:
        if self._in_process:
            command = [sys.executable, "-m", "bot.localhub"]
            command += ["--root", str(self.root), "--port", str(self._port)]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        else:
            self._server = uvicorn.Server(_uvicorn_config(self.root, "127.0.0.1", self._port))
            self._thread = threading.Thread(target=self._server.run, name="local-hub", daemon=True)
            self._thread.start()
        self._await_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join()
        if self._process:
            self._process.terminate()
            self._process.wait()

    def kill(self) -> None:
        """End the server's process without giving it a chance to tidy up."""
        if self._process is None:
            raise RuntimeError("Only a Hub in a process of its own can be killed.")
        self._process.kill()
        self._process.wait()

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._listening():
            ended = self._process.poll() is not None if self._process else not _alive(self._thread)
            if ended or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"The Hub under {self.root} did not start.")
            time.sleep(0.02)

    def _listening(self) -> bool:
        if self._server:
            return self._server.started
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def _uvicorn_config(root: Path, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(root),
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Longer than a client keeps a connection idle: a commit must not meet one that we are just closing.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()
