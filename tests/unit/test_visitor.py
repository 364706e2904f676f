"""Who sent a request."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from bot import accounts as accounts_of
from bot.accounts import Account
from bot.errors import AccessDenied
from bot.settings import Settings
from bot.ui import access
from bot.ui.access import visitor
from bot.visitor import Visitor

SPACE = {
    "SYSTEM": "spaces", "SPACE_ID": "phimill/phimill", "OAUTH_CLIENT_ID": "c", "OAUTH_CLIENT_SECRET": "s",
    "OAUTH_SCOPES": "openid", "OPENID_PROVIDER_URL": "http://127.0.0.1:1",
}  # fmt: skip


class KnownTokens:
    def of(self, token: Any) -> Account | None:
        return {"hf_ada": Account(name="ada", writable=("ada",))}.get(token.get_secret_value())


@pytest.fixture(autouse=True)
def _space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SPACE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(access, "accounts", lambda endpoint: KnownTokens())


def sent(session: dict[str, Any] | None = None, **headers: str) -> Any:
    """A request with these headers, in a session."""
    scope = {"session": {"oauth_info": session}} if session else {}
    spelled = {"host": "page.example", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return SimpleNamespace(
        headers=spelled, client=SimpleNamespace(host="192.0.2.9"), request=SimpleNamespace(scope=scope)
    )


def info(**more: Any) -> dict[str, Any]:
    return {
        "access_token": "hf_ada", "expires_at": time.time() + 600, "userinfo": {"preferred_username": "ada"}, **more
    }  # fmt: skip


def who(session: dict[str, Any] | None = None, **headers: str) -> Visitor:
    return visitor(Settings(), sent(session, **headers))


def test_whoever_signed_in_is_named_and_brings_a_token() -> None:
    found = who(info(), origin="https://page.example")
    assert (found.name, found.operator) == ("ada", False)
    assert found.token is not None
    assert found.token.get_secret_value() == "hf_ada"
    assert "hf_ada" not in repr(found)


def test_a_session_that_is_over_or_broken_is_nobody() -> None:
    for broken in (info(expires_at=time.time() - 1), info(expires_at=None), info(access_token=""), info(userinfo={})):
        assert who(broken, origin="https://page.example").name is None


def test_a_request_from_another_site_is_nobody_s() -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://evil.example", "x_forwarded_host": "evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        assert who(info(), **headers).name is None, headers


def test_a_space_s_own_name_is_its_own_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_HOST", "phimill.hf.space, mill.example")
    assert who(info(), origin="https://mill.example").name == "ada"


def test_a_program_is_who_its_token_says() -> None:
    assert who(authorization="Bearer hf_ada").name == "ada"
    with pytest.raises(AccessDenied, match="does not know this token"):
        who(authorization="Bearer hf_guess")
    for nothing in ("", "Basic YTpi", "Bearer ", "Bearer \u00e9", "Bearer " + "x" * 3000):
        assert who(authorization=nothing).name is None


def test_where_people_sign_in_nobody_is_taken_for_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not who().operator
    monkeypatch.delenv("SPACE_ID")
    assert who().operator
    assert not visitor(Settings(host="0.0.0.0"), sent()).operator


def test_an_address_is_what_our_own_proxy_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    assert who(x_forwarded_for="10.0.0.1, 192.0.2.7").address == "192.0.2.7"
    monkeypatch.delenv("SPACE_ID")
    assert who(x_forwarded_for="10.0.0.1, 192.0.2.7").address == "192.0.2.9"
    assert visitor(Settings(proxies=2), sent(x_forwarded_for="1.1.1.1, 192.0.2.7, 10.0.0.1")).address == "192.0.2.7"


def test_an_account_says_where_it_may_write() -> None:
    me = {"name": "ada", "orgs": [{"name": "z", "roleInOrg": "write"}, {"name": "b", "roleInOrg": "read"}]}
    assert accounts_of.account_of(me) == Account(name="ada", writable=("ada", "z"))
    assert accounts_of.account_of({**me, "auth": {"accessToken": {"role": "read"}}}).writable == ()
