"""Who may use the Hub: users, organisations and tokens in `hub.json`.

Tokens are kept as SHA-256 only (they are random and long, so a plain hash is enough); the text of a token is
known once, when it is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from bot.localhub.errors import BadRequestError
from bot.localhub.names import check_namespace

Role = Literal["read", "write"]
OrgRole = Literal["admin", "write", "read"]

DEFAULT_USER = "miller"
DEFAULT_ORG = "phimill"


@dataclass
class Accounts:
    """The content of `hub.json`."""

    users: dict[str, str] = field(default_factory=dict)  # name -> full name
    orgs: dict[str, dict[str, OrgRole]] = field(default_factory=dict)  # name -> member -> role
    tokens: dict[str, tuple[str, Role]] = field(default_factory=dict)  # SHA-256 -> (user, role)


class HubConfig:
    """`hub.json` in the Hub's root. Changes made by another process are seen at the next request."""

    def __init__(self, root: Path) -> None:
        self._path = root / "hub.json"
        self._stamp: tuple[int, int] | None = None
        self._accounts = Accounts()

    @property
    def accounts(self) -> Accounts:
        """The users, organisations and tokens as they stand now."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return self._accounts
        # Every save makes a new file, so the inode tells two saves in one clock tick apart.
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._accounts = Accounts(**json.loads(self._path.read_text("utf-8")))
            self._stamp = stamp
        return self._accounts

    def ensure_default(self) -> str | None:
        """Make one user and one organisation if there are none, and return the user's new write token."""
        if self.accounts.users:
            return None
        self.add_user(DEFAULT_USER)
        self.add_org(DEFAULT_ORG, {DEFAULT_USER: "admin"})
        return self.add_token(DEFAULT_USER, "write")

    def add_user(self, name: str, fullname: str = "") -> None:
        """Add a user, or change their full name.

        Raises:
            BadRequestError: the name is malformed, or taken (in any letter case).
        """
        check_namespace(name)
        with self._edit() as accounts:
            _check_free(name, accounts, known=accounts.users)
            accounts.users[name] = fullname or name

    def add_org(self, name: str, members: dict[str, OrgRole]) -> None:
        """Add an organisation, or replace its members.

        Raises:
            BadRequestError: the name is malformed or taken (in any letter case), or a member is no user.
        """
        check_namespace(name)
        with self._edit() as accounts:
            _check_free(name, accounts, known=accounts.orgs)
            if unknown := set(members) - set(accounts.users):
                raise BadRequestError(f"No such user: {', '.join(sorted(unknown))}.")
            accounts.orgs[name] = members

    def add_token(self, user: str, role: Role) -> str:
        """Make a token for `user` and return its text, which is not kept.

        Raises:
            BadRequestError: there is no such user.
        """
        token = f"hf_{secrets.token_urlsafe(27)}"
        with self._edit() as accounts:
            if user not in accounts.users:
                raise BadRequestError(f"No such user: {user}.")
            accounts.tokens[hash_token(token)] = (user, role)
        return token

    def _edit(self) -> _Edit:
        return _Edit(self, self._path)


class _Edit:
    """Read, change and replace `hub.json` with other editors kept out."""

    def __init__(self, config: HubConfig, path: Path) -> None:
        self._config = config
        self._path = path
        self._lock = FileLock(path.with_suffix(".lock"))

    def __enter__(self) -> Accounts:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        self._accounts = Accounts(**json.loads(json.dumps(asdict(self._config.accounts))))
        return self._accounts

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None:
                draft = self._path.with_suffix(".new")
                descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(asdict(self._accounts), file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, self._path)
        finally:
            self._lock.release()


def _check_free(name: str, accounts: Accounts, known: Collection[str]) -> None:
    """Raise `BadRequestError` if another namespace has the name, in any letter case."""
    others = {*accounts.users, *accounts.orgs} - ({name} & set(known))
    if name.lower() in map(str.lower, others):
        raise BadRequestError(f"The namespace {name!r} is taken.")


def hash_token(token: str) -> str:
    """Return how `hub.json` names a token."""
    return hashlib.sha256(token.encode()).hexdigest()
