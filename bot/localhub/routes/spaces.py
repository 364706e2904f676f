"""How a Space is to run: runtime, hardware, sleep time, secrets and variables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from starlette.routing import Route

from bot.localhub import spaces
from bot.localhub.calls import Call, route, text_field
from bot.localhub.repos import Repo
from bot.localhub.spaces import KINDS, Kind


def routes() -> list[Route]:
    """Return the routes of this module."""
    found = [
        _route("/runtime", runtime),
        _route("/hardware", hardware, "POST"),
        _route("/sleeptime", sleep_time, "POST"),
        _route("/pause", pause, "POST"),
        _route("/restart", restart, "POST"),
        _route("/variables", variables),
        _route("/secrets", secrets),
    ]
    for kind in KINDS:
        found += [
            _route(f"/{kind}s", partial(put, kind), "POST"),
            _route(f"/{kind}s", partial(remove, kind), "DELETE"),
        ]
    return found


def runtime(call: Call) -> dict[str, Any]:
    """Tell the state of a Space."""
    with call.hub.db.read() as connection:
        return spaces.runtime(connection, call.repo(connection))


def hardware(call: Call) -> dict[str, Any]:
    """Ask for hardware, and perhaps for a sleep time on it."""
    body = call.json()
    with _changing(call) as (connection, repo):
        spaces.set_hardware(connection, repo, body.get("flavor"))
        if body.get("sleepTimeSeconds") is not None:
            spaces.set_sleep_time(connection, repo, body["sleepTimeSeconds"])
        return spaces.runtime(connection, repo)


def sleep_time(call: Call) -> dict[str, Any]:
    """Set the sleep time."""
    with _changing(call) as (connection, repo):
        spaces.set_sleep_time(connection, repo, call.json().get("seconds"))
        return spaces.runtime(connection, repo)


def pause(call: Call) -> dict[str, Any]:
    """Pause a Space."""
    with _changing(call) as (connection, repo):
        spaces.set_paused(connection, repo, True)
        return spaces.runtime(connection, repo)


def restart(call: Call) -> dict[str, Any]:
    """End a pause. There is nothing here that could be started again."""
    with _changing(call) as (connection, repo):
        spaces.set_paused(connection, repo, False)
        return spaces.runtime(connection, repo)


def variables(call: Call) -> dict[str, Any]:
    """List the variables: whoever may see the Space may see them."""
    with call.hub.db.read() as connection:
        return spaces.named(connection, call.repo(connection), "variable")


def secrets(call: Call) -> dict[str, Any]:
    """List the names of the secrets, for those who may change them."""
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        call.identity.require_repo_write(repo)
        return spaces.named(connection, repo, "secret")


def put(kind: Kind, call: Call) -> dict[str, Any]:
    """Set one secret or variable."""
    with _changing(call) as (connection, repo):
        spaces.put(connection, repo, kind, call.json())
        return spaces.named(connection, repo, kind)


def remove(kind: Kind, call: Call) -> dict[str, Any]:
    """Forget one secret or variable."""
    with _changing(call) as (connection, repo):
        spaces.remove(connection, repo, kind, text_field(call.json(), "key"))
        return spaces.named(connection, repo, kind)


@contextmanager
def _changing(call: Call) -> Iterator[tuple[sqlite3.Connection, Repo]]:
    with call.hub.db.write() as connection:
        repo = call.repo(connection)
        call.identity.require_repo_write(repo)
        yield connection, repo


def _route(path: str, handler: Any, method: str = "GET") -> Route:
    return route(f"/api/spaces/{{owner}}/{{name}}{path}", handler, method, repo_type="space")
