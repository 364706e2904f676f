"""Reading a repository: `resolve` (the bytes), `tree` and `paths-info` (what there is)."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.localhub import history, trees
from bot.localhub.calls import Call, int_query, repo_routes, route, web_prefixes
from bot.localhub.errors import BadRequestError, EntryNotFoundError, HubError, RepoNotFoundError
from bot.localhub.history import Commit, Entry
from bot.localhub.ranges import parse_range
from bot.localhub.trees import Folder

PAGE = 1000
EXPANDED_PAGE = 50
_PIECE = 512 * 1024
# What a browser may show in place. Everything else is text or a download: a repository's files are not ours.
_SHOWN = ("image/", "audio/", "video/", "application/pdf", "application/json")


def routes() -> list[Route]:
    """Return the routes of this module."""
    resolve_routes = [
        route(f"{prefix}/{{owner}}/{{name}}/resolve/{{rev}}/{{path:path}}", resolve, repo_type=kind)
        for kind, prefix in web_prefixes()
    ]
    return [
        *repo_routes("/tree/{rev}", tree),
        *repo_routes("/tree/{rev}/{path:path}", tree),
        *repo_routes("/paths-info/{rev}", paths_info, "POST"),
        *resolve_routes,
        route("/{name}/resolve/{rev}/{path:path}", no_namespace),
    ]


def resolve(call: Call) -> Response:
    """Send a file, or a range of it, with the headers by which clients cache it."""
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        call.identity.require_files(repo)
        commit = history.resolve(connection, repo, call.params["rev"])
        file = history.entry(connection, commit.id, call.params["path"])
    if file is None:
        raise _missing(call, commit)
    headers = _file_headers(file, commit)
    if call.request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    try:
        span = parse_range(call.request.headers.get("range"), file.size)
    except HubError as error:
        error.headers |= {"X-Repo-Commit": commit.oid}
        raise
    start, stop = span or (0, file.size)
    headers["Content-Length"] = str(stop - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    status = 206 if span else 200
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    body = _pieces(call.hub.store.path(file.sha256), start, stop)
    return StreamingResponse(body, status, headers, media_type=None)


def tree(call: Call) -> Response:
    """List a folder."""
    recursive, expand = call.flag("recursive"), call.flag("expand")
    path = call.params.get("path", "").strip("/")
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        commit = history.resolve(connection, repo, call.params["rev"])
        found = trees.listing(history.entries(connection, commit.id), path, recursive)
        if found is None:
            raise _missing(call, commit)
        size = int_query(call, "limit", EXPANDED_PAGE if expand else PAGE, PAGE) or 1
        start = int_query(call, "cursor", 0, 10**9)
        page = trees.describe(connection, found[start : start + size], expand)
    more = call.page_link(cursor=start + size) if start + size < len(found) else {}
    return JSONResponse(page, headers=more)


def paths_info(call: Call) -> list[Any]:
    """Describe the paths in the (form-encoded) body. Unknown ones are left out."""
    if call.request.headers.get("content-type", "").startswith("application/json"):
        body = call.json()
        paths, expand = body.get("paths", []), bool(body.get("expand"))
    else:
        form = parse_qs(call.body.decode("utf-8", "replace"), keep_blank_values=True)
        paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() in ("1", "true")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise BadRequestError("'paths' must be a list of strings.")
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        commit = history.resolve(connection, repo, call.params["rev"])
        files = history.entries(connection, commit.id)
        known: dict[str, Entry | Folder] = {**files, **trees.folders(files)}
        chosen = [known[path] for path in (path.strip("/") for path in paths) if path and path in known]
        return trees.describe(connection, chosen, expand)


def no_namespace(call: Call) -> Response:
    """Answer for the old repository ids without an owner: there are none here."""
    raise RepoNotFoundError(anonymous=call.identity.user is None)


def _missing(call: Call, commit: Commit) -> EntryNotFoundError:
    # With the commit in the answer, the client can remember the absence.
    path = call.params.get("path", "")[:200]
    return EntryNotFoundError(f"Entry not found: {path}", headers={"X-Repo-Commit": commit.oid})


def _file_headers(file: Entry, commit: Commit) -> dict[str, str]:
    name = file.path.rpartition("/")[2]
    headers = {
        "ETag": f'"{file.etag}"',
        "X-Repo-Commit": commit.oid,
        "Accept-Ranges": "bytes",
        "Content-Type": _content_type(name),
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if file.lfs:
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
    return headers


def _content_type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name)
    if kind and not encoding and kind.startswith(_SHOWN):
        return kind
    is_text = bool(kind and not encoding and kind.startswith("text/"))
    return "text/plain; charset=utf-8" if is_text else "application/octet-stream"


async def _pieces(path: Path, start: int, stop: int) -> AsyncIterator[bytes]:
    file = await run_in_threadpool(open, path, "rb")
    try:
        file.seek(start)
        while start < stop:
            piece = await run_in_threadpool(file.read, min(_PIECE, stop - start))
            if not piece:
                raise OSError(f"{path} is shorter than its record says.")
            start += len(piece)
            yield piece
    finally:
        file.close()
