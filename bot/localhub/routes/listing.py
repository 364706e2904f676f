"""Finding repositories: one by name (`model_info`), many by what they are (`list_models`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.localhub import history, metadata, repos
from bot.localhub.calls import Call, int_query, repo_routes, route
from bot.localhub.descriptions import describe, info_fields, listed_fields
from bot.localhub.errors import BadRequestError, RepoNotFoundError
from bot.localhub.history import Commit
from bot.localhub.metadata import Metadata
from bot.localhub.repos import Repo

PAGE = 1000
# Nothing is counted here, so these orders are the newest first too.
_SORTS = {"lastModified", "createdAt", "trendingScore", "downloads", "likes"}


def routes() -> list[Route]:
    """Return the routes of this module."""
    kinds = ("model", "dataset", "space")
    return [
        *[route(f"/api/{kind}s", list_repos, repo_type=kind) for kind in kinds],
        *[route(f"/api/{kind}s/{{name}}", no_namespace) for kind in kinds],
        *repo_routes("", info),
        *repo_routes("/revision/{rev}", info),
    ]


def info(call: Call) -> dict[str, Any]:
    """Describe one repository at a revision."""
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        commit = history.resolve(connection, repo, call.params.get("rev", "main"))
        return describe(call, connection, repo, commit, info_fields(call), call.flag("blobs"))


def list_repos(call: Call) -> Response:
    """List the repositories that the caller may see and that match every filter."""
    sort = call.query.get("sort", "trendingScore")
    if sort not in _SORTS:
        raise BadRequestError(f"Unknown sort {sort[:50]!r}: use one of {', '.join(sorted(_SORTS))}.")
    size = int_query(call, "limit", PAGE, PAGE) or 1
    start = int_query(call, "cursor", 0, 10**9)
    with call.hub.db.read() as connection:
        found = [
            (repo, head)
            for repo, head in _visible(call, connection)
            if _content_matches(call, metadata.of(call.hub.store, connection, repo, head))
        ]
        found.sort(key=lambda item: item[0].created_at if sort == "createdAt" else item[1].date, reverse=True)
        fields = listed_fields(call)
        page = [describe(call, connection, *item, fields) for item in found[start : start + size]]
    more = call.page_link(cursor=start + size) if start + size < len(found) else {}
    return JSONResponse(page, headers=more)


def no_namespace(call: Call) -> Response:
    """Answer for the old repository ids without an owner: there are none here."""
    raise RepoNotFoundError(anonymous=call.identity.user is None)


def _visible(call: Call, connection: sqlite3.Connection) -> Iterator[tuple[Repo, Commit]]:
    for repo in repos.find_all(connection, call.repo_type):
        if call.identity.can_read(repo) and _names_match(call, repo):
            yield repo, history.resolve(connection, repo, "refs/heads/main")


def _names_match(call: Call, repo: Repo) -> bool:
    author = call.query.get("author")
    if author and author.lower() != repo.owner.lower():
        return False
    if call.query.get("gated") and call.flag("gated") != bool(repo.gated):
        return False
    return all(word in repo.full_name.lower() for word in call.query.get("search", "").lower().split())


def _content_matches(call: Call, found: Metadata) -> bool:
    wanted = [tag for value in call.query.getlist("filter") for tag in value.split(",") if tag]
    task = call.query.get("pipeline_tag")
    return all(tag in found.tags for tag in wanted) and task in (None, found.pipeline_tag)
