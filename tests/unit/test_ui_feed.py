"""The feed, as a feed reader reads it."""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import feedparser
from fake_mill import NOON, SHA, FakeMill
from fastapi import FastAPI
from starlette.testclient import TestClient

from bot.desk import Desk
from bot.errors import HubUnreachable
from bot.releases import ReleaseRow
from bot.ui.boards import Boards
from bot.ui.feed import add_feed, atom

ACCOUNT = "https://huggingface.co/phimill"
HERE = "https://phimill.example/feed.xml"


def row(recipe: str, repo: str = "Phi-4-GGUF", tag: str | None = "v1.0", **more: object) -> ReleaseRow:
    told = {"repo": "microsoft/Phi-4", "sha": SHA, "recipe": recipe, "state": "published", "url": f"{ACCOUNT}/{repo}"}
    return ReleaseRow.model_validate({**told, "tag": tag, "kl": 0.01, "date": NOON, **more})


def read(*rows: ReleaseRow) -> feedparser.FeedParserDict:
    found = feedparser.parse(atom(rows, ACCOUNT, HERE))
    assert not found.bozo, found.get("bozo_exception")
    return found


def test_a_version_is_one_entry_that_leads_to_it() -> None:
    found = read(row("gguf/int4"), row("gguf/int8"))
    assert (found.version, found.feed.id, found.feed.title) == ("atom10", ACCOUNT, "phimill: phimill")
    (entry,) = found.entries
    assert (entry.id, entry.link, entry.title) == (
        f"{ACCOUNT}/Phi-4-GGUF/tree/v1.0", f"{ACCOUNT}/Phi-4-GGUF/tree/v1.0", "Phi-4-GGUF v1.0: int4, int8",
    )  # fmt: skip
    assert entry.updated == found.feed.updated == NOON.isoformat()
    assert "microsoft/Phi-4@0123456" in entry.summary


def test_the_newest_comes_first_and_of_a_repo_its_newest_version() -> None:
    later = NOON + timedelta(days=1)
    found = read(row("gguf/int4", tag="v1.9"), row("gguf/int8", tag="v1.10"), row("mlx/int4", "Phi-4-mlx", date=later))
    assert [entry.title for entry in found.entries] == ["Phi-4-mlx v1.0: int4", "Phi-4-GGUF v1.10: int8"]


def test_what_is_private_or_not_there_is_left_out() -> None:
    assert read(row("gguf/int4", private=True), row("gguf/int8", "x", tag=None, state="missing")).entries == []


def test_hostile_names_are_text_and_no_character_breaks_the_feed() -> None:
    (entry,) = read(row("gguf/</title><script>\x00\x0b\ud800&")).entries
    assert entry.title_detail.type == "text/plain"
    assert html.unescape(entry.title).startswith("Phi-4-GGUF v1.0: </title><script>")
    assert "\x00" not in entry.title


def get(mill: FakeMill) -> Any:
    app = FastAPI()
    add_feed(app, Boards(Desk(mill)), ACCOUNT)  # type: ignore[arg-type]
    with TestClient(app) as client:
        return client.get("/feed.xml?x=1")


def test_the_server_has_the_feed_at_its_address() -> None:
    mill = FakeMill()
    mill.rows = (row("gguf/int4"), row("gguf/int8", "secret", private=True))
    answer = get(mill)
    assert answer.headers["content-type"].startswith("application/atom+xml")
    assert len(feedparser.parse(answer.content).entries) == 1
    assert b'href="http://testserver/feed.xml"' in answer.content


def test_without_the_hub_the_feed_says_when_to_come_back() -> None:
    mill = FakeMill()
    mill.error = HubUnreachable("The Hub does not answer.", "Try again later.")
    answer = get(mill)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert answer.json()["detail"] == "The Hub does not answer. Try again later."
