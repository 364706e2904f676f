"""The tokens that people lend for their builds: in the memory of this process, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pydantic import SecretStr

from bot.errors import SignInNeeded
from bot.redaction import SECRETS

# A token that is about to expire is not begun with.
MARGIN_SECONDS = 60.0


@dataclass(frozen=True)
class _Lent:
    token: SecretStr
    expires: float | None


class Keyring:
    """One token per account, from the moment it is lent until the account's last build is over."""

    def __init__(self) -> None:
        self._lent: dict[str, _Lent] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Keyring({len(self._lent)} accounts)"

    def lend(self, account: str, token: SecretStr, expires: float | None = None) -> None:
        """Keep `token` for the builds of `account`, until it `expires` (Unix time). The newest one counts."""
        SECRETS.learn(token.get_secret_value())
        with self._lock:
            before = self._lent.pop(account, None)
            self._lent[account] = _Lent(token, expires)
        _forget(before)

    def token(self, account: str) -> str | None:
        """The token that `account` lent, if it is still good."""
        with self._lock:
            lent = self._lent.get(account)
        if lent is None or (lent.expires is not None and lent.expires - MARGIN_SECONDS < time.time()):
            return None
        return lent.token.get_secret_value()

    def asking(self, account: str) -> Callable[[], str]:
        """What asks for the token of `account` each time it is called, and raises `SignInNeeded` without one."""

        def ask() -> str:
            token = self.token(account)
            if token is None:
                raise SignInNeeded(
                    f"The build needs the token of {account}, which was kept in memory only.",
                    f"It waits for {account} to sign in again.",
                )
            return token

        return ask

    def keep_only(self, accounts: Collection[str]) -> None:
        """Forget the tokens of everybody else: their builds are over."""
        with self._lock:
            over = [self._lent.pop(account) for account in set(self._lent) - set(accounts)]
        _forget(*over)


def _forget(*lent: _Lent | None) -> None:
    SECRETS.forget(*(one.token.get_secret_value() for one in lent if one is not None))
