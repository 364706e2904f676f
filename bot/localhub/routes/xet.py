"""Uploading large files, the client's default way: the write half of the Xet CAS API.

`v2/shards` and `xorb-grants` are not served: on their 404 the client falls back to the calls below, and waits
for `v1/shards` without a time limit, which is what rebuilding a large file needs.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.localhub import objects
from bot.localhub.calls import Call, repo_routes, stream_route
from bot.localhub.errors import BadRequestError, ForbiddenError, NotFoundError, UnauthorizedError
from bot.localhub.xet_format import MAX_XORB, ShardFile, read_shard, read_terms

TOKEN_TTL = 3600  # seconds; the client asks for a new token in time
MAX_SHARD = 64 * 1024 * 1024
# A xorb's footer is not counted in its 64 MiB.
_XORB_SLACK = 1024 * 1024


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [
        *repo_routes("/xet-write-token/{rev}", write_token),
        stream_route("/cas/{store}/{user}/v1/xorbs/{prefix}/{xorb}", put_xorb, "POST"),
        stream_route("/cas/{store}/{user}/v1/shards", put_shard, "POST"),
    ]


def write_token(call: Call) -> Response:
    """Give a writer of the repository the address of the store and a token for it."""
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        user = call.identity.require_repo_write(repo)
    expires = int(time.time()) + TOKEN_TTL
    address = f"{call.base_url}/cas/{call.hub.xorbs.id}/{user}"
    token = call.hub.signer.issue({"user": user, "repo": repo.id}, expires)
    return JSONResponse(
        {"casUrl": address, "accessToken": token, "exp": expires},
        headers={
            "X-Xet-Cas-Url": address,
            "X-Xet-Access-Token": token,
            "X-Xet-Token-Expiration": str(expires),
        },
    )


async def put_xorb(call: Call) -> dict[str, Any]:
    """Take one xorb."""
    claims = _claims(call)
    if not re.fullmatch("[0-9a-f]{64}", call.params["xorb"]):
        raise BadRequestError("A xorb is named by 64 hex digits.")
    target = call.hub.xorbs.path(claims["user"], call.params["xorb"])
    await run_in_threadpool(call.hub.store.check_room, MAX_XORB)
    with call.hub.xorbs.receive() as writer:
        async for piece in call.pieces(MAX_XORB + _XORB_SLACK):
            await run_in_threadpool(writer.write, piece)
        inserted = await run_in_threadpool(writer.finish, target)
    return {"was_inserted": inserted}


async def put_shard(call: Call) -> dict[str, Any]:
    """Take a shard: rebuild each file it describes and let the repository commit it."""
    claims = _claims(call)
    path = call.hub.store.tmp / uuid.uuid4().hex
    try:
        with open(path, "x+b") as file:
            async for piece in call.pieces(MAX_SHARD):
                await run_in_threadpool(file.write, piece)
            await run_in_threadpool(_register, call, claims, file)
    finally:
        path.unlink(missing_ok=True)
    return {"result": 1}


def _register(call: Call, claims: dict[str, Any], shard: BinaryIO) -> None:
    shard.seek(0)
    files = read_shard(shard)
    call.hub.store.check_room(sum(file.size for file in files))
    for file in files:
        if not _owned(call, claims["repo"], file):
            call.hub.xorbs.rebuild(claims["user"], file.sha256, file.size, read_terms(shard, file))
    with call.hub.db.write() as connection:
        for file in files:
            objects.grant(connection, claims["repo"], file.sha256, file.size)


def _owned(call: Call, repo_id: str, file: ShardFile) -> bool:
    with call.hub.db.read() as connection:
        return objects.size_in(connection, repo_id, file.sha256) is not None and call.hub.store.has(file.sha256)


def _claims(call: Call) -> dict[str, Any]:
    """Check the access token against the address it is used at."""
    scheme, _, token = call.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthorizedError("An access token is needed.")
    claims = call.hub.signer.read(token)
    if claims["user"] != call.params["user"]:
        raise ForbiddenError("The access token is for another store.")
    if call.params["store"] != call.hub.xorbs.id:
        raise NotFoundError("This store has been replaced. Ask for a new write token.")
    return claims
