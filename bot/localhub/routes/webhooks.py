"""Webhooks: who wants to be told of what. `events` queues and `deliveries` sends."""

from __future__ import annotations

import json
import sqlite3
from typing import Any
from urllib.parse import urlsplit

from starlette.routing import Route

from bot.localhub.calls import Call, route, text_field
from bot.localhub.errors import BadRequestError, NotFoundError
from bot.localhub.repos import new_id

DOMAINS = ("repo", "discussion")
WATCHABLE = ("user", "org", "model", "dataset", "space")
MAX_WEBHOOKS = 100  # of one user


def routes() -> list[Route]:
    """Return the routes of this module."""
    all_, one = "/api/settings/webhooks", "/api/settings/webhooks/{webhook}"
    return [
        route(all_, list_webhooks),
        route(all_, create, "POST"),
        route(one, get),
        route(one, update, "POST"),
        route(one, delete, "DELETE"),
        route(f"{one}/enable", enable, "POST"),
        route(f"{one}/disable", disable, "POST"),
    ]


def list_webhooks(call: Call) -> list[Any]:
    """List the caller's webhooks. They tell their secrets."""
    user = call.identity.require_user()
    call.identity.require_scope("webhooks")
    with call.hub.db.read() as connection:
        rows = connection.execute("SELECT * FROM webhooks WHERE owner = ? ORDER BY id", (user,)).fetchall()
    return [_body(row) for row in rows]


def create(call: Call) -> dict[str, Any]:
    """Add a webhook."""
    user = _require(call)
    asked = call.json()
    values = (new_id(), user, _url(asked), _secret(asked, None), _watched(asked), _domains(asked, None))
    with call.hub.db.write() as connection:
        (count,) = connection.execute("SELECT count(*) FROM webhooks WHERE owner = ?", (user,)).fetchone()
        if count >= MAX_WEBHOOKS:
            raise BadRequestError(f"You have {MAX_WEBHOOKS} webhooks already.")
        connection.execute(
            "INSERT INTO webhooks (id, owner, url, secret, watched, domains) VALUES (?, ?, ?, ?, ?, ?)",
            values,
        )
        row = connection.execute("SELECT * FROM webhooks WHERE id = ?", values[:1]).fetchone()
    return {"webhook": _body(row)}


def get(call: Call) -> dict[str, Any]:
    """Describe one of the caller's webhooks."""
    call.identity.require_scope("webhooks")
    with call.hub.db.read() as connection:
        return {"webhook": _body(_find(call, connection))}


def update(call: Call) -> dict[str, Any]:
    """Change what the request names."""
    _require(call)
    asked = call.json()
    with call.hub.db.write() as connection:
        row = _find(call, connection)
        connection.execute(
            "UPDATE webhooks SET url = ?, secret = ?, watched = ?, domains = ? WHERE id = ?",
            (
                _url(asked) if "url" in asked else row["url"],
                _secret(asked, row["secret"]),
                _watched(asked) if asked.get("watched") else row["watched"],
                _domains(asked, row["domains"]),
                row["id"],
            ),
        )
        return {"webhook": _body(_find(call, connection))}


def delete(call: Call) -> dict[str, Any]:
    """Remove a webhook and what is queued for it."""
    _require(call)
    with call.hub.db.write() as connection:
        connection.execute("DELETE FROM webhooks WHERE id = ?", (_find(call, connection)["id"],))
    return {"success": True}


def enable(call: Call) -> dict[str, Any]:
    """Queue events for the webhook again."""
    return _set_disabled(call, False)


def disable(call: Call) -> dict[str, Any]:
    """Queue no new events for the webhook."""
    return _set_disabled(call, True)


def _require(call: Call) -> str:
    call.identity.require_scope("webhooks")
    return call.identity.require_write_role()


def _set_disabled(call: Call, disabled: bool) -> dict[str, Any]:
    _require(call)
    with call.hub.db.write() as connection:
        row = _find(call, connection)
        connection.execute("UPDATE webhooks SET disabled = ? WHERE id = ?", (disabled, row["id"]))
        return {"webhook": _body(_find(call, connection))}


def _find(call: Call, connection: sqlite3.Connection) -> sqlite3.Row:
    row = connection.execute(
        "SELECT * FROM webhooks WHERE id = ? AND owner = ?",
        (call.params["webhook"], call.identity.require_user()),
    ).fetchone()
    if row is None:
        raise NotFoundError("Webhook not found")
    found: sqlite3.Row = row
    return found


def _body(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "url": row["url"],
        "job": None,
        "secret": row["secret"],
        "watched": json.loads(row["watched"]),
        "domains": json.loads(row["domains"]),
        "disabled": bool(row["disabled"]),
    }


def _url(asked: dict[str, Any]) -> str:
    url = text_field(asked, "url")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url or not url.isascii():
        raise BadRequestError("'url' must be an http or https address. This Hub starts no jobs.")
    return url


def _secret(asked: dict[str, Any], known: str | None) -> str | None:
    secret = asked.get("secret", known)
    if secret is not None and not (isinstance(secret, str) and secret.isascii() and secret.isprintable()):
        raise BadRequestError("'secret' must be printable ASCII text.")
    return secret or None


def _watched(asked: dict[str, Any]) -> str:
    watched = asked.get("watched")
    if not isinstance(watched, list) or not watched:
        raise BadRequestError("'watched' must be a list that is not empty.")
    for item in watched:
        if not isinstance(item, dict) or item.get("type") not in WATCHABLE:
            raise BadRequestError(f"Each watched item needs a 'type': one of {', '.join(WATCHABLE)}.")
        text_field(item, "name")
    return json.dumps([{"type": item["type"], "name": item["name"]} for item in watched])


def _domains(asked: dict[str, Any], known: str | None) -> str:
    domains = asked.get("domains")
    if domains is None:
        return known or json.dumps(DOMAINS)
    if not isinstance(domains, list) or not all(domain in DOMAINS for domain in domains):
        raise BadRequestError(f"'domains' must be a list of {', '.join(DOMAINS)}.")
    return json.dumps(domains)
