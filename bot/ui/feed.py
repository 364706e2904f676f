"""What was published, as an Atom feed (RFC 4287): one entry per repo and version, public repos only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from fastapi import FastAPI, HTTPException, Request, Response

from bot.errors import PhimillError
from bot.releases import ReleaseRow
from bot.ui import words
from bot.ui.boards import Boards

PATH = "/feed.xml"
# How a browser or a reader that is given the page's address finds the feed.
LINK = f'<link rel="alternate" type="application/atom+xml" title="phimill" href="{PATH[1:]}">'
MOST = 100  # entries
WAIT = 10.0  # seconds for a server's first look at the Hub
_ATOM = "http://www.w3.org/2005/Atom"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def add_feed(app: FastAPI, boards: Boards, account: str) -> None:
    """Serve the feed. `account` is the address of what publishes, and the feed's lasting name."""

    @app.get(PATH)
    def feed(request: Request) -> Response:
        board, _, error = boards.public.get(WAIT)
        if board is None:
            wrong = error or PhimillError("Nothing is known yet.", "Try again in a minute.")
            raise HTTPException(503, f"{wrong.message} {wrong.hint}".strip(), {"Retry-After": "60"})
        here = str(request.url.replace(query=""))
        made = board.remember(("feed", here), lambda: atom(board.rows, account, here))
        return Response(made, media_type="application/atom+xml")


def atom(rows: Sequence[ReleaseRow], account: str, here: str) -> bytes:
    """The feed as it is served at the address `here`."""
    entries = sorted(_published(rows), key=lambda own: (_date(own), own[0].url or ""), reverse=True)[:MOST]
    feed = Element("feed", xmlns=_ATOM)
    _text(feed, "id", account)
    _text(feed, "title", f"phimill: {account.rpartition('/')[2]}")
    _text(feed, "updated", (_date(entries[0]) if entries else datetime.fromtimestamp(0, UTC)).isoformat())
    SubElement(SubElement(feed, "author"), "name").text = "phimill"
    SubElement(feed, "link", rel="self", href=_clean(here))
    SubElement(feed, "link", rel="alternate", href=_clean(account))
    for own in entries:
        _entry(feed, own)
    made: bytes = tostring(feed, encoding="utf-8", xml_declaration=True)
    return made


def _published(rows: Iterable[ReleaseRow]) -> list[list[ReleaseRow]]:
    """The variants of each repo's newest version."""
    repos: dict[str, list[ReleaseRow]] = {}
    for row in rows:
        if row.url and row.tag and row.date and not row.private:
            repos.setdefault(row.url, []).append(row)
    newest = {url: max((row.tag or "" for row in own), key=_order) for url, own in repos.items()}
    return [[row for row in own if row.tag == newest[url]] for url, own in repos.items()]


def _order(tag: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d{1,9}", tag)))


def _date(own: Sequence[ReleaseRow]) -> datetime:
    return own[0].date or datetime.fromtimestamp(0, UTC)


def _entry(feed: Element, own: Sequence[ReleaseRow]) -> None:
    first, names = own[0], [row.recipe.split("/", 1)[-1] for row in own]
    where = f"{first.url}/tree/{first.tag}"
    entry = SubElement(feed, "entry")
    _text(entry, "id", where)
    _text(entry, "title", f"{(first.url or '').rpartition('/')[2]} {first.tag}: {', '.join(names)}")
    _text(entry, "updated", _date(own).isoformat())
    SubElement(entry, "link", rel="alternate", href=_clean(where))
    distances = ", ".join(f"{name} {words.nats(row.kl)}" for name, row in zip(names, own, strict=True))
    _text(entry, "summary", f"Made from {first.repo}@{first.sha[:7]}. Mean KL in nats: {distances}.")


def _text(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = _clean(text)


def _clean(text: str) -> str:
    """Without the characters that no XML can hold."""
    return _NOT_XML.sub("\ufffd", text)
