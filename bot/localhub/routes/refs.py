"""Branches, tags and the log of commits."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.localhub import events, history
from bot.localhub.calls import Call, int_query, repo_routes, text_field
from bot.localhub.errors import BadRequestError, ConflictError, ForbiddenError, RevisionNotFoundError
from bot.localhub.names import check_ref
from bot.localhub.repos import Repo

COMMITS_PAGE = 50


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [
        *repo_routes("/refs", list_refs),
        *repo_routes("/commits/{rev}", list_commits),
        *repo_routes("/tag/{rev}", create_tag, "POST"),
        *repo_routes("/tag/{rev}", delete_tag, "DELETE"),
        *repo_routes("/branch/{rev}", create_branch, "POST"),
        *repo_routes("/branch/{rev}", delete_branch, "DELETE"),
        *repo_routes("/super-squash/{rev}", super_squash, "POST"),
    ]


def list_refs(call: Call) -> dict[str, Any]:
    """List all branches and tags."""
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        branches, tags = (history.refs(connection, repo, kind) for kind in ("branch", "tag"))
    return {
        "branches": [_ref("heads", name, oid) for name, oid in branches.items()],
        "tags": [_ref("tags", name, oid) for name, oid in tags.items()],
        "converts": [],
        "pullRequests": [],
    }


def list_commits(call: Call) -> Response:
    """List a revision's commits, newest first."""
    size = int_query(call, "limit", COMMITS_PAGE, 1000) or 1
    page = int_query(call, "p", 0, 10**6)
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        head = history.resolve(connection, repo, call.params["rev"])
        found = history.log(connection, head, size + 1, page * size)
    body = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date,
            "authors": [{"user": commit.author}],
        }
        for commit in found[:size]
    ]
    return JSONResponse(body, headers=call.page_link(p=page + 1) if len(found) > size else {})


def create_tag(call: Call) -> Response:
    """Name a commit for good. A tag is never moved: it must be deleted first."""
    name = check_ref(text_field(call.json(), "tag"))
    with call.hub.db.write() as connection:
        repo = _writable(call, connection)
        target = history.resolve(connection, repo, call.params["rev"])
        if history.ref(connection, repo, "tag", name):
            raise ConflictError(f"Tag {name!r} already exists on {repo.full_name}.")
        history.set_ref(connection, repo, "tag", name, target.oid)
        _emit(call, connection, repo, f"refs/tags/{name}", None, target.oid)
    call.hub.courier.wake()
    return Response(status_code=201)


def delete_tag(call: Call) -> Response:
    """Remove a tag."""
    return _delete_ref(call, "tag", "tags")


def create_branch(call: Call) -> Response:
    """Start a branch, from `main` unless told otherwise."""
    name = check_ref(call.params["rev"])
    start = text_field(call.json(), "startingPoint", "main")
    with call.hub.db.write() as connection:
        repo = _writable(call, connection)
        target = history.resolve(connection, repo, start)
        if history.ref(connection, repo, "branch", name):
            raise ConflictError(f"Branch {name!r} already exists on {repo.full_name}.")
        history.set_ref(connection, repo, "branch", name, target.oid)
        _emit(call, connection, repo, f"refs/heads/{name}", None, target.oid)
    call.hub.courier.wake()
    return Response(status_code=201)


def delete_branch(call: Call) -> Response:
    """Remove a branch other than `main`."""
    if call.params["rev"] == "main":
        raise ForbiddenError("The branch 'main' cannot be deleted.")
    return _delete_ref(call, "branch", "heads")


def super_squash(call: Call) -> dict[str, Any]:
    """Replace a branch's history by one commit with the same files."""
    branch = call.params["rev"]
    with call.hub.db.write() as connection:
        repo = _writable(call, connection)
        head = history.resolve(connection, repo, f"refs/heads/{branch}")
        files = history.entries(connection, head.id)
        user = call.identity.require_user()
        title = text_field(call.json(), "message", f"Super-squash branch '{branch}'")[:500]
        commit = history.insert(connection, repo, None, files, user, title, "")
        history.set_ref(connection, repo, "branch", branch, commit.oid)
        _emit(call, connection, repo, f"refs/heads/{branch}", head.oid, commit.oid)
    call.hub.courier.wake()
    return {"commitOid": commit.oid}


def _delete_ref(call: Call, kind: str, space: str) -> Response:
    name = call.params["rev"]
    with call.hub.db.write() as connection:
        repo = _writable(call, connection)
        old = history.ref(connection, repo, kind, name)
        if old is None:
            raise RevisionNotFoundError(name)
        connection.execute("DELETE FROM refs WHERE repo_id = ? AND kind = ? AND name = ?", (repo.id, kind, name))
        _emit(call, connection, repo, f"refs/{space}/{name}", old, None)
    call.hub.courier.wake()
    return Response(status_code=200)


def _writable(call: Call, connection: sqlite3.Connection) -> Repo:
    repo = call.repo(connection)
    call.identity.require_repo_write(repo)
    if call.params["rev"].startswith("refs/pr/"):
        raise BadRequestError("This Hub has no pull requests.")
    return repo


def _emit(call: Call, connection: sqlite3.Connection, repo: Repo, name: str, old: str | None, new: str | None) -> None:
    moved = events.updated_ref(name, old, new)
    events.emit(call, connection, repo, "update", "repo.content", updatedRefs=moved)


def _ref(space: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{space}/{name}", "targetCommit": oid}
