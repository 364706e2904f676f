"""Who am I, and may I: `whoami-v2` and `auth-check`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.routing import Route

from bot.localhub.calls import Call, repo_routes, route


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [
        route("/api/whoami-v2", whoami),
        *repo_routes("/auth-check", check_read),
        *repo_routes("/auth-check/write", check_write),
    ]


def whoami(call: Call) -> dict[str, Any]:
    """Describe the token's user."""
    user = call.identity.require_user()
    accounts = call.identity.accounts
    orgs = [
        {"type": "org", "name": name, "fullname": name, "roleInOrg": members[user]}
        for name, members in accounts.orgs.items()
        if user in members
    ]
    return {
        "type": "user",
        "id": user,
        "name": user,
        "fullname": accounts.users[user],
        "email": f"{user}@localhost",
        "emailVerified": True,
        "isPro": False,
        "canPay": False,
        "avatarUrl": f"{call.base_url}/avatar.svg",
        "orgs": orgs,
        "auth": _auth(call),
    }


def _auth(call: Call) -> dict[str, Any]:
    grant = call.identity.grant
    if grant is not None:
        expires = datetime.fromtimestamp(grant.expires, UTC).isoformat(timespec="seconds")
        return {"type": "oauth", "expiresAt": expires, "scope": " ".join(sorted(grant.scopes))}
    return {
        "type": "access_token",
        "accessToken": {"displayName": call.identity.user, "role": call.identity.role},
    }


def check_read(call: Call) -> dict[str, Any]:
    """Succeed if the caller may download from the repository."""
    with call.hub.db.read() as connection:
        call.identity.require_files(call.repo(connection))
    return {}


def check_write(call: Call) -> dict[str, Any]:
    """Succeed if the caller may change the repository."""
    with call.hub.db.read() as connection:
        call.identity.require_repo_write(call.repo(connection))
    return {}
