"""Who may use the Hub: users, organisations and tokens in `hub.json`.

Tokens are kept as SHA-256 only (they are random and long, so a plain hash is enough); the text of a token is
known once, when it is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from filelock import FileLock

from bot.localhub.errors import BadRequestError
from bot.localhub.names import check_namespace

Role = Literal["read", "write"]
OrgRole = Literal["admin", "write", "read"]

DEFAULT_USER = "miller"
DEFAULT_ORG = "phimill"
APP_SECONDS = 8 * 3600  # as on the Hub
# What an app may ask its users for, and how they are told of it.
SCOPES = {
    "openid": "Know who you are",
    "profile": "See your name and picture",
    "gated-repos": "Read the gated repositories that you have access to",
    "read-repos": "Read all of your repositories",
    "contribute-repos": "Create repositories, and change the ones that it created",
    "write-repos": "Read and change all of your repositories",
    "manage-repos": "Read, change, create and delete all of your repositories and collections",
    "webhooks": "Manage your webhooks",
}


@dataclass
class Accounts:
    """The content of `hub.json`."""

    users: dict[str, str] = field(default_factory=dict)  # name -> full name
    orgs: dict[str, dict[str, OrgRole]] = field(default_factory=dict)  # name -> member -> role
    tokens: dict[str, tuple[str, Role]] = field(default_factory=dict)  # SHA-256 -> (user, role)
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)  # client id -> an `App`'s fields

    def app(self, client: str) -> App | None:
        """Return the OAuth app of that client id, if there is one."""
        return App(**self.apps[client]) if client in self.apps else None


@dataclass(frozen=True)
class App:
    """An OAuth app: a web page that people may sign in to. `seconds`: how long a token of its users lives."""

    name: str
    secret: str  # SHA-256
    redirects: list[str]
    scopes: list[str]
    seconds: int

    def redirects_to(self, url: str) -> bool:
        """Say whether `url` is one of the app's own; what it carries in its query is the app's business."""
        try:
            return _bare(url) in map(_bare, self.redirects)
        except ValueError:  # such as http://[
            return False


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

    def add_app(
        self, name: str, redirects: Sequence[str], scopes: Sequence[str], seconds: int = APP_SECONDS
    ) -> tuple[str, str]:
        """Register an OAuth app and return its client id and its secret, which is not kept. A known name keeps its id.

        Raises:
            BadRequestError: a redirect is no web address, or a scope is none of `SCOPES`.
        """
        for url in redirects:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc or set(url) & set(" ;,'\""):
                raise BadRequestError(f"{url!r} is no address to redirect to.")
        if unknown := set(scopes) - set(SCOPES):
            raise BadRequestError(f"No such scope: {', '.join(sorted(unknown))}.")
        secret = secrets.token_urlsafe(32)
        with self._edit() as accounts:
            client = next((key for key, app in accounts.apps.items() if app["name"] == name), str(uuid.uuid4()))
            wanted = list(dict.fromkeys(("openid", "profile", *scopes)))
            accounts.apps[client] = asdict(App(name, hash_token(secret), list(redirects), wanted, seconds))
        return client, secret

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


def _bare(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()


def hash_token(token: str) -> str:
    """Return how `hub.json` names a token."""
    return hashlib.sha256(token.encode()).hexdigest()
