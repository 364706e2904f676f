"""Uploading, first and last step: `validate-yaml`, `preupload` and `commit`."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.localhub import cards, events, history
from bot.localhub.calls import Call, repo_routes, route, stream_route, text_field
from bot.localhub.commits import MAX_LINE, Draft, is_large
from bot.localhub.errors import BadRequestError, PreconditionFailedError, TooLargeError
from bot.localhub.history import Commit
from bot.localhub.names import check_path
from bot.localhub.repos import Repo

MAX_COMMIT_BODY = 4 * 1024**3


def routes() -> list[Route]:
    """Return the routes of this module."""
    commit_routes = [
        stream_route(f"/api/{kind}s/{{owner}}/{{name}}/commit/{{rev}}", create_commit, "POST", repo_type=kind)
        for kind in ("model", "dataset", "space")
    ]
    return [
        route("/api/validate-yaml", validate_yaml, "POST"),
        *repo_routes("/preupload/{rev}", preupload, "POST"),
        *commit_routes,
    ]


def validate_yaml(call: Call) -> Response:
    """Check a card's front matter: 400 and `errors` if the Hub would refuse it, `warnings` if it is empty."""
    body = call.json()
    errors: list[str] = []
    warnings: list[str] = []
    try:
        card = cards.front_matter(text_field(body, "content"))
    except BadRequestError as error:
        errors.append(error.message)
    else:
        errors += cards.problems(card or {}, text_field(body, "repoType", "model"))
        if not card:
            warnings.append("empty or missing yaml metadata in repo card")
    answer: dict[str, Any] = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    if errors:
        answer["error"] = "Invalid metadata: " + "; ".join(errors)
    return JSONResponse(answer, 400 if errors else 200)


def preupload(call: Call) -> dict[str, Any]:
    """Tell for each file whether it goes inline or through LFS, and what is at its path now."""
    _no_pull_request(call)
    asked = call.json().get("files")
    if not isinstance(asked, list):
        raise BadRequestError("'files' must be a list.")
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        call.identity.require_repo_write(repo)
        head = history.resolve(connection, repo, call.params["rev"])
        files = history.entries(connection, head.id)
    answer = []
    for item in asked:
        path, large = _upload_mode(item)
        old = files.get(path)
        mode = "lfs" if large else "regular"
        known = {"oid": old.etag} if old else {}
        answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
    return {"files": answer, "commitOid": head.oid}


async def create_commit(call: Call) -> dict[str, Any]:
    """Read the NDJSON body line by line, then apply it in one transaction."""
    _no_pull_request(call)
    await run_in_threadpool(_check_writable, call)
    draft = Draft(call.hub.store)
    waiting = bytearray()
    async for piece in call.pieces(MAX_COMMIT_BODY):
        waiting += piece
        if b"\n" in piece:
            *lines, rest = bytes(waiting).split(b"\n")
            waiting = bytearray(rest)
            for line in lines:
                await _add_line(draft, line)
        if len(waiting) > MAX_LINE:
            raise TooLargeError("A file in the commit is too large to be sent inline: upload it as LFS.")
    await _add_line(draft, bytes(waiting))
    commit = await run_in_threadpool(_apply, call, draft)
    call.hub.courier.wake()
    return {
        "success": True,
        "commitOid": commit.oid,
        "commitUrl": f"{call.base_url}{_web_path(call)}/commit/{commit.oid}",
        "hookOutput": "",
    }


async def _add_line(draft: Draft, line: bytes) -> None:
    if len(line) > MAX_LINE:
        raise TooLargeError("A file in the commit is too large to be sent inline: upload it as LFS.")
    if line.strip():
        await run_in_threadpool(draft.add_line, line)


def _check_writable(call: Call) -> None:
    with call.hub.db.read() as connection:
        call.identity.require_repo_write(call.repo(connection))


def _apply(call: Call, draft: Draft) -> Commit:
    if draft.title is None:
        raise BadRequestError("A commit starts with its 'header' line.")
    branch = call.params["rev"].removeprefix("refs/heads/")
    with call.hub.db.write() as connection:
        repo = call.repo(connection)
        user = call.identity.require_repo_write(repo)
        head = history.resolve(connection, repo, f"refs/heads/{branch}")
        _check_parent(repo, draft, head)
        old = history.entries(connection, head.id)
        new = draft.apply(connection, repo, old)
        if new == old:
            # As in git, there is no commit without a change; the head already is what was asked for.
            return head
        commit = history.insert(connection, repo, head, new, user, draft.title, draft.message)
        history.set_ref(connection, repo, "branch", branch, commit.oid)
        moved = events.updated_ref(f"refs/heads/{branch}", head.oid, commit.oid)
        events.emit(call, connection, repo, "update", "repo.content", updatedRefs=moved)
    return commit


def _check_parent(repo: Repo, draft: Draft, head: Commit) -> None:
    if draft.parent and not (len(draft.parent) >= 7 and head.oid.startswith(draft.parent)):
        raise PreconditionFailedError(
            f"A commit has happened since: the head of {repo.full_name} is {head.oid},"
            f" not {draft.parent[:40]}. Read it again and retry."
        )


def _upload_mode(item: Any) -> tuple[str, bool]:
    if not isinstance(item, dict) or not isinstance(item.get("size"), int):
        raise BadRequestError("Each file needs a 'path', a 'size' and a 'sample'.")
    path = check_path(text_field(item, "path"))
    try:
        sample = base64.b64decode(text_field(item, "sample", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"The sample of {path!r} is not valid base64.") from error
    return path, is_large(path, item["size"], sample)


def _no_pull_request(call: Call) -> None:
    if call.flag("create_pr"):
        raise BadRequestError("This Hub has no pull requests. Commit to a branch instead.")


def _web_path(call: Call) -> str:
    prefix = "" if call.repo_type == "model" else f"/{call.repo_type}s"
    return f"{prefix}/{call.params['owner']}/{call.params['name']}"
