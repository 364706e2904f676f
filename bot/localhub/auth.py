"""Who is asking, and what they may see and change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bot.localhub.config import Accounts, Role, hash_token
from bot.localhub.errors import (
    ForbiddenError,
    GatedRepoError,
    InvalidTokenError,
    RepoNotFoundError,
    UnauthorizedError,
)
from bot.localhub.grants import Grant
from bot.localhub.repos import Repo

_READ = ("read-repos", "write-repos", "manage-repos")


@dataclass(frozen=True)
class Identity:
    """The caller of one request. `user` is None for an anonymous one."""

    user: str | None
    role: Role
    accounts: Accounts
    grant: Grant | None = None

    def belongs_to(self, owner: str) -> bool:
        """Say whether the caller is `owner` or a member of that organisation."""
        return self._org_role(owner) is not None

    def can_read(self, repo: Repo) -> bool:
        """Say whether the caller may know that `repo` exists."""
        return not repo.private or (self.belongs_to(repo.owner) and self._granted(repo, *_READ))

    def can_read_collections(self, owner: str) -> bool:
        """Say whether the caller may know of the private collections of `owner`."""
        return self.belongs_to(owner) and self._allowed(*_READ)

    def require_user(self) -> str:
        """Return the caller's name, or raise `UnauthorizedError` for an anonymous one."""
        if self.user is None:
            raise UnauthorizedError("This action needs a token. Set HF_TOKEN or run `hf auth login`.")
        return self.user

    def require_read(self, repo: Repo) -> None:
        """Raise `RepoNotFoundError` unless the caller may see `repo`."""
        if not self.can_read(repo):
            raise RepoNotFoundError(anonymous=self.user is None)

    def require_files(self, repo: Repo) -> None:
        """Raise `RepoNotFoundError` or `GatedRepoError` unless the caller may download from `repo`."""
        self.require_read(repo)
        if repo.gated and not (self.belongs_to(repo.owner) and self._granted(repo, "gated-repos", *_READ)):
            error = GatedRepoError(f"Access to {repo.type} {repo.full_name} is restricted: ask {repo.owner} for it.")
            error.status = 401 if self.user is None else 403
            raise error

    def require_write_role(self) -> str:
        """Return the caller's name, or raise unless their token may write anything at all."""
        user = self.require_user()
        if self.role != "write":
            raise ForbiddenError("This token has the role 'read'. Writing needs a token with the role 'write'.")
        return user

    def require_write(self, owner: str) -> str:
        """Return the caller's name, or raise unless they may write in the namespace `owner`."""
        user = self.require_write_role()
        if self._org_role(owner) not in ("admin", "write"):
            raise ForbiddenError(f"You don't have the rights to write in the namespace {owner!r}.")
        return user

    def require_repo_write(self, repo: Repo) -> str:
        """Return the caller's name, or raise unless they may change `repo`."""
        self.require_read(repo)
        user = self.require_write(repo.owner)
        if not self._granted(repo, "write-repos", "manage-repos"):
            raise ForbiddenError("This app may change the repositories that it created, and no others.")
        return user

    def require_repo_manage(self, repo: Repo) -> str:
        """Return the caller's name, or raise unless they may delete, move or configure `repo`."""
        user = self.require_repo_write(repo)
        if not self._granted(repo, "manage-repos"):
            raise ForbiddenError("This app may not manage this repository.")
        return user

    def require_scope(self, *scopes: str) -> None:
        """Raise `ForbiddenError` if the caller is an app whose user did not allow it any of `scopes`."""
        if not self._allowed(*scopes):
            raise ForbiddenError(f"This app's token lacks the scope {' or '.join(scopes)}.")

    def _allowed(self, *scopes: str) -> bool:
        """Whether a person's own token asks, or an app that has one of the scopes."""
        return self.grant is None or bool(self.grant.scopes & set(scopes))

    def _granted(self, repo: Repo, *scopes: str) -> bool:
        """Whether a person's own token asks, or an app that has one of the scopes, or that created the repository."""
        if self._allowed(*scopes) or self.grant is None:
            return True
        return "contribute-repos" in self.grant.scopes and repo.id in self.grant.made

    def _org_role(self, owner: str) -> str | None:
        if self.user is None:
            return None
        if owner.lower() == self.user.lower():
            return "admin"
        for name, members in self.accounts.orgs.items():
            if name.lower() == owner.lower():
                return members.get(self.user)
        return None


def identify(
    accounts: Accounts, header: str | None, granted: Callable[[str], Grant | None] = lambda _: None
) -> Identity:
    """Return who sent the `Authorization` header.

    Raises:
        InvalidTokenError: the header holds no token that this Hub issued.
    """
    if not header:
        return Identity(None, "read", accounts)
    scheme, _, token = header.partition(" ")
    digest = hash_token(token.strip())
    known = accounts.tokens.get(digest)
    if known is None and (grant := granted(digest)) is not None and grant.user in accounts.users:
        role: Role = "write" if grant.scopes & {"contribute-repos", "write-repos", "manage-repos"} else "read"
        return Identity(grant.user, role, accounts, grant)
    if scheme.lower() != "bearer" or known is None or known[0] not in accounts.users:
        raise InvalidTokenError
    return Identity(known[0], known[1], accounts)
