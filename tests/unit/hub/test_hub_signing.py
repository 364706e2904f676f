"""Signed upload URLs and access tokens."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub.errors import ForbiddenError, UnauthorizedError
from bot.localhub.signing import Signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """A signer with a fresh key."""
    return Signer(tmp_path_factory.mktemp("key") / "signing.key")


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def test_what_was_signed_is_good_after_a_restart(tmp_path: Path) -> None:
    url = Signer(tmp_path / "key").sign_url("http://h/p", "/p", 60, size=3)
    Signer(tmp_path / "key").check_url("/p", query_of(url))
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_another_path_value_or_key_is_refused(signer: Signer, tmp_path: Path) -> None:
    query = query_of(signer.sign_url("http://h/p", "/p", 60, size=3))
    signer.check_url("/p", query)
    for path, changed in (
        ("/q", query),
        ("/p", query | {"size": "4"}),
        ("/p", query | {"expires": "99999999999"}),
        ("/p", query | {"more": "1"}),
        ("/p", query | {"signature": "é"}),
        ("/p", {}),
    ):
        with pytest.raises(ForbiddenError):
            signer.check_url(path, changed)
    with pytest.raises(ForbiddenError):
        Signer(tmp_path / "other").check_url("/p", query)


def test_a_signature_expires(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    query = query_of(signer.sign_url("http://h/p", "/p", 60))
    token = signer.issue({"user": "a"}, int(time.time()) + 60)
    late = time.time() + 61
    monkeypatch.setattr("bot.localhub.signing.time.time", lambda: late)
    with pytest.raises(ForbiddenError):
        signer.check_url("/p", query)
    with pytest.raises(UnauthorizedError):
        signer.read(token)


def test_a_token_carries_its_claims(signer: Signer) -> None:
    assert signer.read(signer.issue({"user": "ä"}, 2**33))["user"] == "ä"


@given(token=st.text(max_size=80))
def test_no_made_up_token_is_read(signer: Signer, token: str) -> None:
    with pytest.raises(UnauthorizedError):
        signer.read(token)
