"""Uploading large files with git-lfs's batch API: one PUT, or many parts.

The client sends no token with the PUTs, so their URLs are signed and expire.
"""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from bot.localhub import objects
from bot.localhub.calls import Call, find_repo, repo_routes, route, stream_route, text_field, web_prefixes
from bot.localhub.errors import BadRequestError, HubError, NotFoundError
from bot.localhub.repos import Repo
from bot.localhub.store import BlobWriter

URL_TTL = 24 * 3600  # seconds
MULTIPART_FROM = 64 * 1024 * 1024  # bytes
LARGEST_PART_COUNT = 10_000
_SMALLEST_PART = 32 * 1024 * 1024
_PIECE = 1024 * 1024


def routes() -> list[Route]:
    """Return the routes of this module."""
    batches = [
        route(f"{prefix}/{{owner}}/{{name}}.git/info/lfs/objects/batch", batch, "POST", repo_type=kind)
        for kind, prefix in web_prefixes()
    ]
    return [
        *batches,
        *repo_routes("/lfs-files/duplicate", duplicate, "POST"),
        stream_route("/lfs/{repo_id}/{oid}", put_object, "PUT"),
        stream_route("/lfs/{repo_id}/{oid}/parts/{upload}/{part}", put_part, "PUT"),
        route("/lfs/{repo_id}/{oid}/parts/{upload}", complete, "POST"),
        route("/lfs/{repo_id}/{oid}/verify", verify, "POST"),
    ]


def batch(call: Call) -> Response | dict[str, Any]:
    """Tell where to send each object. One that the repository has already gets no actions."""
    body = call.json()
    wanted = body.get("objects")
    if body.get("operation") != "upload" or not isinstance(wanted, list):
        raise BadRequestError("This Hub takes LFS uploads only; download files from their resolve URL.")
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        call.identity.require_repo_write(repo)
    return {
        "transfer": "basic",
        "objects": [
            {"oid": oid, "size": size} if _present(call, repo.id, oid) else _instructions(call, repo, oid, size)
            for oid, size in map(_announced, wanted)
        ],
    }


async def put_object(call: Call) -> Response:
    """Take a whole object in one request."""
    oid, size = _signed_object(call)
    with BlobWriter(call.hub.store) as writer:
        async for piece in call.pieces(size):
            await run_in_threadpool(writer.write, piece)
        await run_in_threadpool(_finish, call, writer, oid, size)
    return Response(headers={"ETag": f'"{oid}"'})


async def put_part(call: Call) -> Response:
    """Take one part of an object."""
    _, size = _signed_object(call)
    folder = _parts(call)
    path = folder / call.params["part"]
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        with open(draft, "xb") as file:
            async for piece in call.pieces(size):
                await run_in_threadpool(file.write, piece)
        draft.replace(path)
    except FileNotFoundError as error:
        raise NotFoundError("This upload is not known any more. Start it again.") from error
    finally:
        draft.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{call.params["part"]}"'})


def complete(call: Call) -> dict[str, Any]:
    """Join the parts of an object and check the whole."""
    oid, size = _signed_object(call)
    if _present(call, call.params["repo_id"], oid):
        return {"success": True}  # asked again because our first answer was lost
    folder = _parts(call)
    listed = call.json().get("parts")
    if not isinstance(listed, list) or not all(isinstance(part, dict) for part in listed):
        raise BadRequestError("'parts' must be a list.")
    numbers = sorted(int(part["partNumber"]) for part in listed if isinstance(part.get("partNumber"), int))
    if numbers != list(range(1, len(listed) + 1)):
        raise BadRequestError("The parts must be numbered 1, 2, 3 and so on.")
    with BlobWriter(call.hub.store) as writer:
        for number in numbers:
            _append_part(writer, folder / str(number))
        _finish(call, writer, oid, size)
    shutil.rmtree(folder, ignore_errors=True)
    return {"success": True}


def verify(call: Call) -> dict[str, Any]:
    """Confirm that an object has arrived."""
    oid, size = _signed_object(call)
    with call.hub.db.read() as connection:
        found = objects.size_in(connection, call.params["repo_id"], oid)
    if found != size:
        raise NotFoundError("This object has not been uploaded.")
    return {}


def duplicate(call: Call) -> dict[str, Any]:
    """Give large files of one repository to another, without a transfer."""
    body = call.json()
    target, files = body.get("target"), body.get("files")
    if not isinstance(target, dict) or not isinstance(files, list):
        raise BadRequestError("'target' and 'files' are needed.")
    failed = []
    with call.hub.db.write() as connection:
        source = call.repo(connection)
        call.identity.require_files(source)
        repo = find_repo(connection, call.identity, text_field(target, "type"), text_field(target, "name"))
        call.identity.require_repo_write(repo)
        for file in files:
            sha256 = text_field(file if isinstance(file, dict) else {}, "sha256")
            size = objects.size_in(connection, source.id, sha256)
            if size is None:
                failed.append({"sha256": sha256, "error": "The source has no such file."})
            else:
                objects.grant(connection, repo.id, sha256, size)
    return {"failed": failed}


def _present(call: Call, repo_id: str, oid: str) -> bool:
    with call.hub.db.read() as connection:
        return objects.size_in(connection, repo_id, oid) is not None


def _announced(item: Any) -> tuple[str, int]:
    oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if not isinstance(oid, str) or not re.fullmatch("[0-9a-f]{64}", oid):
        raise BadRequestError("Each object needs an 'oid': the SHA-256 in lower-case hex.")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadRequestError("Each object needs its 'size' in bytes.")
    return oid, size


def _instructions(call: Call, repo: Repo, oid: str, size: int) -> dict[str, Any]:
    try:
        call.hub.store.check_room(size)
    except HubError as error:
        return {"oid": oid, "size": size, "error": {"code": 422, "message": error.message}}
    path = f"/lfs/{repo.id}/{oid}"
    action = _signed(call, path, size) if size < MULTIPART_FROM else _many_parts(call, path, size)
    verify_action = _signed(call, f"{path}/verify", size)
    return {"oid": oid, "size": size, "actions": {"upload": action, "verify": verify_action}}


def _signed(call: Call, path: str, size: int) -> dict[str, str]:
    return {"href": call.hub.signer.sign_url(call.base_url + path, path, URL_TTL, size=size)}


def _many_parts(call: Call, path: str, size: int) -> dict[str, Any]:
    part_size = max(_SMALLEST_PART, -(-size // LARGEST_PART_COUNT))
    upload = secrets.token_hex(16)
    _folder(call, upload).mkdir(parents=True)
    header = {"chunk_size": str(part_size)}
    for number, start in enumerate(range(0, size, part_size), start=1):
        part = f"{path}/parts/{upload}/{number}"
        length = min(part_size, size - start)
        header[str(number)] = _signed(call, part, length)["href"]
    whole = f"{path}/parts/{upload}"
    return {**_signed(call, whole, size), "header": header}


def _signed_object(call: Call) -> tuple[str, int]:
    """Return the object that the signed URL is for, and the size it was announced with."""
    call.hub.signer.check_url(call.request.scope["path"], call.query)
    return call.params["oid"], int(call.query["size"])


def _folder(call: Call, upload: str) -> Path:
    return call.hub.store.tmp / "parts" / upload


def _parts(call: Call) -> Path:
    folder = _folder(call, call.params["upload"])
    if not folder.is_dir():
        raise NotFoundError("This upload is not known any more. Start it again.")
    return folder


def _append_part(writer: BlobWriter, path: Path) -> None:
    try:
        with open(path, "rb") as part:
            while piece := part.read(_PIECE):
                writer.write(piece)
    except FileNotFoundError as error:
        raise BadRequestError(f"Part {path.name} has not been uploaded.") from error


def _finish(call: Call, writer: BlobWriter, oid: str, size: int) -> None:
    if writer.size != size:
        raise BadRequestError(f"The upload has {writer.size} bytes, not {size} as announced.")
    writer.finish(oid)
    with call.hub.db.write() as connection:
        objects.grant(connection, call.params["repo_id"], oid, size)
