"""The embedded Hub under any request: it answers in words, shows nothing hidden, and changes nothing for strangers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fenced_hub import Answer, FencedHub, alike
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_bodies import ABSENT, HIDDEN, ORG
from made_up_requests import MadeUp, requests
from starlette.routing import Route

from bot.localhub import create_app

FEW = 800
EXAMPLES = int(os.environ.get("PHIMILL_TEST_REQUESTS", FEW))
INSIDERS = ("ada", "miller's reader")
ROUTES = tuple(route for route in create_app(Path("/nowhere")).routes if isinstance(route, Route))


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FencedHub]:
    with FencedHub(tmp_path_factory.mktemp("any-request")) as fenced:
        yield fenced


def test_every_route_is_asked() -> None:
    assert len(ROUTES) == len(create_app(Path("/nowhere")).routes) > 100


# What was found to be answered with a fault of the Hub's own, and is refused in words now.
FOUND = (
    MadeUp("DELETE", "/api/repos/delete", "eve", body=rb'{"organization": "\ud800", "name": "x"}'),
    MadeUp("POST", "/api/models/eve/eves/commit/main", "eve", body=rb'{"key": "header", "value": {"summary": "x", '
           rb'"parentCommit": "\ud800"}}'),
    MadeUp("POST", "/api/repos/create", "eve", body=b'{"name": "\xed\xa0\x80"}'),
    MadeUp("GET", "/oauth/authorize?client_id=@client@&redirect_uri=http://[", "nobody"),
    MadeUp("POST", "/oauth/token", "wrong", (("Authorization", "Basic \xe9"),), b"grant_type=authorization_code"),
)  # fmt: skip


@pytest.mark.parametrize("made_up", FOUND, ids=lambda made_up: made_up.target[:20])
def test_what_was_a_fault_once_is_refused(fenced: FencedHub, made_up: MadeUp) -> None:
    answer = fenced.ask(made_up)
    assert 400 <= answer.status < 500
    _check_words(made_up, answer)


def test_an_app_that_may_only_know_who_one_is_sees_no_webhook_and_no_private_collection(fenced: FencedHub) -> None:
    fenced.reset()
    for path in ("settings/webhooks", "settings/webhooks/@miller's webhook@", f"collections/{ORG}/@hidden slug@"):
        made_up = MadeUp("GET", f"/api/{path}", "miller's app")
        assert fenced.ask(made_up).status in (403, 404)
        assert fenced.ask(replace(made_up, who="miller's reader")).status == 200
    assert not json.loads(fenced.ask(MadeUp("GET", f"/api/collections?owner={ORG}", "miller's app")).body)


@settings(max_examples=EXAMPLES, derandomize=EXAMPLES == FEW, suppress_health_check=list(HealthCheck))
@given(st.lists(requests(ROUTES), min_size=1, max_size=3))
def test_any_request_is_answered_or_refused_and_no_more(fenced: FencedHub, asked: list[MadeUp]) -> None:
    fenced.reset()
    for made_up in asked:
        answer = fenced.ask(made_up)
        _check_words(made_up, answer)
        if fenced.changed():
            assert fenced.untouched(made_up.who)
            fenced.note()
        else:
            _check_hidden_is_as_absent(fenced, made_up, answer)
        _check_nothing_is_told(fenced, made_up, answer)
    assert not fenced.fence.broken
    _check_root(fenced.root)


def _check_words(made_up: MadeUp, answer: Answer) -> None:
    """Never a fault of the Hub's own; an error says in a sentence what is wrong."""
    if answer.status == 0:
        assert made_up.announced is not None
        return
    assert answer.status < 500, answer
    assert "Traceback" not in answer.text
    if answer.status < 400 or made_up.method == "HEAD" or answer.body == b"Invalid HTTP request received.":
        return
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert made_up.target.startswith("/oauth/authorize")  # the form again, with what is wrong in it
        return
    error = json.loads(answer.body)["error"]
    assert isinstance(error, str)
    assert error


def _check_nothing_is_told(fenced: FencedHub, made_up: MadeUp, answer: Answer) -> None:
    if made_up.who in INSIDERS:
        return
    for secret in fenced.secrets():
        assert secret not in answer.text
    assert HIDDEN in made_up or f"{ORG}/{HIDDEN}" not in answer.text


def _check_hidden_is_as_absent(fenced: FencedHub, made_up: MadeUp, answer: Answer) -> None:
    """A private repo and one that does not exist answer alike."""
    # Whether a request that ends too early is still answered is a race.
    if HIDDEN in made_up and made_up.who not in INSIDERS and made_up.announced is None:
        assert alike(fenced.ask(made_up.about(ABSENT))) == alike(answer)


def _check_root(root: Path) -> None:
    """Nothing lies in the Hub's own folder but what belongs there."""
    known = r"blobs|tmp|xorbs|hub\.(json|lock|sqlite(-wal|-shm)?)|serving\.lock|signing\.key|openid\.pem"
    assert not [path.name for path in root.iterdir() if not re.fullmatch(known, path.name)]
