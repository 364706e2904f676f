"""Whose token is it, and where may it write? Asked of the Hub, and remembered for a minute."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from huggingface_hub import HfApi
from pydantic import SecretStr

from bot.errors import AccessDenied
from bot.hub_errors import translated
from bot.kept import Kept
from bot.models import Frozen

REMEMBERED_SECONDS = 60.0
MOST = 1000


class Account(Frozen):
    """Who a token belongs to. `writable` are the namespaces in which it may make repos, the account's own first."""

    name: str
    writable: tuple[str, ...]


def account_of(me: dict[str, Any]) -> Account:
    """Read an answer of `whoami`."""
    role = me.get("auth", {}).get("accessToken", {}).get("role", "write")
    orgs = sorted(org["name"] for org in me.get("orgs", []) if org.get("roleInOrg", "write") != "read")
    return Account(name=me["name"], writable=() if role == "read" else (me["name"], *orgs))


class Accounts:
    """The accounts of one Hub, by token. Only the digest of a token is kept, and for a minute."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._known: Kept[Account | None] = Kept(REMEMBERED_SECONDS, MOST)

    def of(self, token: SecretStr) -> Account | None:
        """The account that `token` belongs to; None if the Hub does not know it (any more).

        Raises:
            HubUnreachable
        """
        secret = token.get_secret_value()
        return self._known.get(hashlib.sha256(secret.encode()).hexdigest(), lambda: self._ask(secret))

    def _ask(self, secret: str) -> Account | None:
        try:
            with translated("the token"):
                return account_of(HfApi(endpoint=self._endpoint, token=secret).whoami())
        except AccessDenied:
            return None


@cache
def accounts(endpoint: str) -> Accounts:
    """The accounts of the Hub at `endpoint`, shared by everything in this process."""
    return Accounts(endpoint)
