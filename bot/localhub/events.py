"""What happened to a repository, as webhook payloads (version 3) queued for delivery.

The queue is written in the transaction of the change itself: there is never one without the other.
"""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

from bot.localhub import history, metadata
from bot.localhub.auth import Identity
from bot.localhub.calls import Call
from bot.localhub.repos import Repo


def emit(call: Call, connection: sqlite3.Connection, repo: Repo, action: str, scope: str, **details: Any) -> None:
    """Queue an event for every webhook that watches `repo` and whose owner may see it.

    `action` is `create`, `update`, `delete` or `move`; `scope` is `repo`, `repo.content` or `repo.config`;
    `details` are further members of the payload, such as `updatedRefs`.
    """
    rows = connection.execute("SELECT * FROM webhooks WHERE NOT disabled").fetchall()
    watching = [row for row in rows if _watches(row, repo) and _may_see(call, row["owner"], repo)]
    if not watching:
        return
    event = {
        "event": {"action": action, "scope": scope},
        "repo": _describe(call, connection, repo),
        **details,
    }
    for row in watching:
        payload = json.dumps({**event, "webhook": {"id": row["id"], "version": 3}})
        connection.execute(
            "INSERT INTO deliveries (webhook_id, payload, due) VALUES (?, ?, ?)",
            (row["id"], payload, time.time()),
        )


def updated_ref(name: str, old: str | None, new: str | None) -> list[dict[str, str | None]]:
    """Return the `updatedRefs` of one moved reference; None stands for "not there"."""
    return [{"ref": name, "oldSha": old, "newSha": new}]


def _watches(webhook: sqlite3.Row, repo: Repo) -> bool:
    if "repo" not in json.loads(webhook["domains"]):
        return False
    names = {(item["type"], item["name"].lower()) for item in json.loads(webhook["watched"])}
    owner, full_name = repo.owner.lower(), repo.full_name.lower()
    return bool(names & {("org", owner), ("user", owner), (repo.type, full_name)})


def _may_see(call: Call, owner: str, repo: Repo) -> bool:
    return Identity(owner, "read", call.identity.accounts).can_read(repo)


def _describe(call: Call, connection: sqlite3.Connection, repo: Repo) -> dict[str, Any]:
    head = history.resolve(connection, repo, "main")
    return {
        "type": repo.type,
        "name": repo.full_name,
        "id": repo.id,
        "private": repo.private,
        "owner": {"id": repo.owner},
        "url": {
            "web": f"{call.base_url}{repo.url_path}",
            "api": f"{call.base_url}/api/{repo.type}s/{repo.full_name}",
        },
        "headSha": head.oid,
        "tags": metadata.of(call.hub.store, connection, repo, head).tags,
    }
