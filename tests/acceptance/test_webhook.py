"""`phimill up` hears of a release from the Hub's own webhook, long before its clock would look."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from hub_world import BOT, SOURCE, World, ended
from huggingface_hub import WebhookWatchedItem
from huggingface_hub.utils import get_session
from ports import free_port

SECRET = "between the two"
TERMINATED = 143


def wait_for(what: str, look: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


def answers(url: str) -> bool:
    try:
        return bool(get_session().get(f"{url}/healthz").status_code == 200)
    except httpx2.TransportError:
        return False


def test_a_release_is_noticed_by_webhook_and_the_mill_ends_when_it_is_told_to(tmp_path: Path, tiny_phi: Path) -> None:
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    with World(tmp_path) as world:
        world.api(BOT).create_webhook(
            url=f"{page}/webhook",
            watched=[WebhookWatchedItem(type="org", name="microsoft")],
            domains=["repo"],
            secret=SECRET,
        )
        mill = world.start("up", PHIMILL_PORT=str(port), PHIMILL_POLL_SECONDS="86400", PHIMILL_WEBHOOK_SECRET=SECRET)
        try:
            wait_for("the page", lambda: answers(page))
            assert get_session().post(f"{page}/webhook", json={}).status_code == 401
            world.phimill("pause")
            world.release(tiny_phi)

            def queued() -> list[dict[str, Any]]:
                return list(json.loads(world.phimill("status", "--format", "json").out)["builds"])

            [build] = wait_for("the build", queued)
            assert build["request"]["repo"] == SOURCE
            assert world.phimill("cancel", build["id"][:8]).code == 0
            wait_for("the end of it", lambda: queued()[0]["phase"] == "cancelled")
        finally:
            mill.send_signal(signal.SIGTERM)
            ran = ended(mill)
    assert ran.code == TERMINATED, ran.err
    assert "Traceback" not in ran.err
