"""What somebody wants of a Space, checked before anything is changed: a wrong setting would stop the app's start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from bot.errors import UsageError
from bot.models import Frozen, RepoRef
from bot.redaction import SECRETS
from bot.settings import Settings

FREE_HARDWARE = "cpu-basic"
OURS = "PHIMILL_"
# Not of the type of a secret, and yet one: it may hold a password, or is one.
SECRET_NAMES = frozenset({"HF_TOKEN", "PHIMILL_DATABASE_URL"})


class Wish(Frozen):
    """What a Space should be. None, or a name that is not there: it stays as it is. Times are seconds, -1 is never."""

    space: str
    private: bool | None = None
    hardware: str | None = None
    sleep: int | None = None
    secrets: Mapping[str, SecretStr] = Field(default_factory=dict)
    variables: Mapping[str, str] = Field(default_factory=dict)


def checked(wish: Wish, endpoint: str) -> Wish:
    """The same wish.

    Raises:
        UsageError: it is not the name of a Space, there is no such setting, a setting cannot have this value, or what
            should be secret would be shown to everybody.
    """
    SECRETS.learn(*(secret.get_secret_value() for secret in wish.secrets.values()))
    address = wish.space.replace(f"{endpoint}/spaces/", "", 1)
    ref = RepoRef.parse(address, endpoint)
    if ref.revision:
        raise UsageError(f"{wish.space!r} names a revision.", "Give the Space as owner/name.")
    for name, value in wish.variables.items():
        if name in SECRET_NAMES or _is_secret(_setting(name)):
            raise UsageError(f"Everybody can read a Space's variables, so {name} must not be one.", "Use --secret.")
        _check_value(name, value)
    for name, secret in wish.secrets.items():
        _check_value(name, secret.get_secret_value())
    if both := wish.variables.keys() & wish.secrets.keys():
        raise UsageError(f"{', '.join(sorted(both))} is given as a secret and as a variable.", "Choose one.")
    return wish.model_copy(update={"space": ref.repo})


def _setting(name: str) -> Any:
    """The setting that a variable of the environment is read as; None when it is none of ours."""
    if not name.startswith(OURS):
        return None
    try:
        return Settings.model_fields[name.removeprefix(OURS).lower()]
    except KeyError:
        raise UsageError(f"There is no setting {name}.", "docs/operations.md lists them.") from None


def _is_secret(setting: Any) -> bool:
    return setting is not None and "SecretStr" in str(setting.annotation)


def _check_value(name: str, value: str) -> None:
    if (setting := _setting(name)) is None:
        return
    kind: TypeAdapter[Any] = TypeAdapter(Annotated[setting.annotation, setting])
    for parse in (kind.validate_strings, kind.validate_json):
        try:
            parse(value)
            return
        except ValidationError:
            continue
    # The value stays out of it: it may be a secret.
    raise UsageError(f"{name} cannot have this value.", "docs/operations.md says what it takes; lists are JSON.")
