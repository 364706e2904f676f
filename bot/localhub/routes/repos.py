"""Create, delete, move and configure repositories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.routing import Route

from bot.localhub import events, grants, history, repos, spaces
from bot.localhub.calls import Call, find_repo, repo_routes, route, text_field
from bot.localhub.commits import attributes_file
from bot.localhub.errors import BadRequestError, ConflictError
from bot.localhub.names import REPO_TYPES, check_name
from bot.localhub.repos import Repo


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [
        route("/api/repos/create", create, "POST"),
        route("/api/repos/delete", delete, "DELETE"),
        route("/api/repos/move", move, "POST"),
        *repo_routes("/settings", settings, "PUT"),
    ]


def create(call: Call) -> dict[str, Any]:
    """Make a repository whose first commit holds `.gitattributes`, as the Hub does."""
    body = call.json()
    user = call.identity.require_write_role()
    repo_type, owner, name = _target(body, user)
    call.identity.require_write(owner)
    call.identity.require_scope("contribute-repos", "manage-repos")
    owner, sdk = _spelling(call, owner), text_field(body, "sdk") if repo_type == "space" else None
    private = _private(body, False)
    repo = Repo(repos.new_id(), repo_type, owner, check_name(name), private, "", sdk, repos.now())
    attributes = attributes_file(call.hub.store)
    with call.hub.db.write() as connection:
        try:
            repos.insert(connection, repo)
        except ConflictError as error:
            error.body["url"] = call.base_url + repo.url_path
            raise
        if call.identity.grant is not None:
            grants.remember(connection, repo.id, call.identity.grant)
        first = history.insert(connection, repo, None, {attributes.path: attributes}, user, "initial commit", "")
        history.set_ref(connection, repo, "branch", "main", first.oid)
        if repo.type == "space":
            spaces.insert(connection, repo, body)
        events.emit(call, connection, repo, "create", "repo")
    call.hub.courier.wake()
    return {
        "url": call.base_url + repo.url_path,
        "name": repo.full_name,
        "id": repo.id,
        "private": repo.private,
    }


def delete(call: Call) -> dict[str, Any]:
    """Remove a repository and its history. What only it held leaves the disk when the Hub next starts."""
    body = call.json()
    repo_type, owner, name = _target(body, call.identity.require_write_role())
    with call.hub.db.write() as connection:
        repo = find_repo(connection, call.identity, repo_type, f"{owner}/{name}")
        call.identity.require_repo_manage(repo)
        events.emit(call, connection, repo, "delete", "repo")
        connection.execute("DELETE FROM repos WHERE id = ?", (repo.id,))
    call.hub.courier.wake()
    return {}


def move(call: Call) -> dict[str, Any]:
    """Rename a repository or give it to another namespace."""
    body = call.json()
    repo_type = _repo_type(body)
    owner, _, name = text_field(body, "toRepo").partition("/")
    with call.hub.db.write() as connection:
        repo = find_repo(connection, call.identity, repo_type, text_field(body, "fromRepo"))
        call.identity.require_repo_manage(repo)
        call.identity.require_write(owner)
        owner = _spelling(call, owner)
        target = {"name": f"{owner}/{check_name(name)}", "owner": {"id": owner}}
        events.emit(call, connection, repo, "move", "repo", movedTo=target)
        repos.rename(connection, repo, owner, name)
    call.hub.courier.wake()
    return {"url": f"{call.base_url}/{owner}/{name}"}


def settings(call: Call) -> dict[str, Any]:
    """Change who may see a repository (`visibility`) and who may download from it (`gated`)."""
    body = call.json()
    with call.hub.db.write() as connection:
        repo = call.repo(connection)
        call.identity.require_repo_manage(repo)
        gated = body.get("gated", repo.gated or False)
        if gated not in ("auto", "manual", False):
            raise BadRequestError('\'gated\' must be "auto", "manual" or false.')
        private = _private(body, repo.private)
        connection.execute("UPDATE repos SET private = ?, gated = ? WHERE id = ?", (private, gated or "", repo.id))
        changed = {"private": private, "gated": gated}
        # Told as it is now: for strangers, a repository that becomes private is gone.
        repo = replace(repo, private=private, gated=gated or "")
        events.emit(call, connection, repo, "update", "repo.config", updatedConfig=changed)
    call.hub.courier.wake()
    return changed


def _target(body: dict[str, Any], user: str) -> tuple[str, str, str]:
    owner = body.get("organization") or user
    name = text_field(body, "name")
    if not isinstance(owner, str):
        raise BadRequestError("The field 'organization' must be a string.")
    return _repo_type(body), owner, name


def _repo_type(body: dict[str, Any]) -> str:
    repo_type = body.get("type") or "model"
    if repo_type not in REPO_TYPES:
        raise BadRequestError(f"This Hub keeps {', '.join(REPO_TYPES)} repositories only.")
    return str(repo_type)


def _spelling(call: Call, owner: str) -> str:
    """Return a namespace in the letter case it was registered in."""
    accounts = call.identity.accounts
    return next((known for known in (*accounts.users, *accounts.orgs) if known.lower() == owner.lower()), owner)


def _private(body: dict[str, Any], default: bool) -> bool:
    visibility = body.get("visibility")
    if visibility in ("public", "private"):
        return bool(visibility == "private")
    if visibility is not None:
        raise BadRequestError('\'visibility\' must be "public" or "private".')
    private = body.get("private", default)
    if not isinstance(private, bool):
        raise BadRequestError("'private' must be true or false.")
    return private
