"""Raw HTTP against a running Hub: sends exactly what it is told, where a client would tidy up."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bot.localhub import RunningHub


@dataclass(frozen=True)
class Answer:
    """A raw HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Http = Callable[..., Answer]
PATIENCE = 120.0  # seconds; only a hang takes so long, however busy the machine


def request(
    hub: RunningHub,
    method: str,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    token: str | None = None,
    **headers: str,
) -> Answer:
    """Send exactly `path`, without the tidying that HTTP clients do."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=PATIENCE)
    try:
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def wait_for(condition: Callable[[], object]) -> None:
    """Return once `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
