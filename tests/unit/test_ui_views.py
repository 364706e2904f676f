"""The page's HTML: what it shows, and that nothing from outside becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import gradio as gr
import pytest
from fake_mill import NOON, SHA, FakeMill, advice, build, choice, published, release, request, verdict
from markupsafe import Markup

from bot.builds import Failure, LogLine, Phase, Progress, VariantResult
from bot.desk import Desk
from bot.errors import UsageError
from bot.models import Status
from bot.offer import Offer
from bot.recipes import Snippet, all_recipes
from bot.releases import ReleaseRow
from bot.search import Found
from bot.settings import Settings
from bot.ui import advice_tab, build_view, builds_tab, verdict_view
from bot.ui.access import is_loopback, people_may_build
from bot.ui.board import Board, Query
from bot.ui.markup import chip, complaint, link, tag
from bot.ui.recent import Recent
from bot.ui.releases_view import listing
from bot.ui.snippet_view import snippets
from bot.visitor import OPERATOR

HUB = "http://127.0.0.1:7861"
EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
OURS = {
    "div",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "span",
    "a",
    "button",
    "code",
    "p",
    "strong",
    "h2",
    "h3",
    "pre",
}
OURS |= {"ul", "li", "label", "input", "details", "summary", "figure", "figcaption"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.names |= {name for name, _ in attrs}


def _assert_tame(html: str) -> None:
    parser = _Tags()
    parser.feed(html)
    assert parser.seen <= OURS
    assert not any(name.startswith("on") for name in parser.names)


def test_a_running_build_shows_its_progress() -> None:
    going = Progress(stage="convert", recipe="gguf/int4", done=1, total=4, unit="files", eta=30)
    html = str(build_view.listing([build(phase=Phase.RUNNING, progress=going)], False, HUB, "en"))
    assert "convert gguf/int4" in html
    assert "25 % · 1 of 4 files · 30 s left" in html
    assert "width: 25.0%" in html


def test_an_empty_queue_and_a_pause_are_said_in_words() -> None:
    html = str(build_view.listing([], True, HUB, "en"))
    assert "No builds yet" in html
    assert "paused" in html


def test_a_build_that_is_not_there_says_so_and_leads_back() -> None:
    mill = FakeMill()
    mill.known = [build("a" * 32)]
    recent = Recent(lambda: (mill.builds(), False), 0)
    _, shown, log, *_ = builds_tab._look(recent, Desk(mill), OPERATOR, "zzzz", Markup(), ())
    assert "is not a build" in shown
    assert "All builds" in shown
    assert log == ""


def test_what_did_not_change_is_not_sent_again() -> None:
    mill = FakeMill()
    recent = Recent(lambda: (mill.builds(), False), 0)
    shown, *first = builds_tab._look(recent, Desk(mill), OPERATOR, "", Markup(), ())
    assert "No builds yet" in first[0]
    assert builds_tab._look(recent, Desk(mill), OPERATOR, "", Markup(), shown) == (shown, *[gr.skip()] * 5)


def test_published_variants_link_to_their_tag() -> None:
    html = str(build_view.details(build(results=(published("gguf/int4"),)), (), "", HUB, "en"))
    assert f'href="{HUB}/phimill/Phi-3.5-tiny-instruct-GGUF/tree/v1.0"' in html


def test_builds_with_hostile_words_are_text() -> None:
    evil = build(
        phase=Phase.FAILED,
        failure=Failure(code="error", message=EVIL, hint=EVIL),
        results=(VariantResult(recipe=EVIL, status="refused", reason=EVIL),),
        asked=request(EVIL, repo=EVIL, backend=EVIL),
    )
    line = LogLine(number=1, at=NOON, level=EVIL, stage=EVIL, text=EVIL)
    _assert_tame(
        f"{build_view.listing([evil], False, HUB, 'en')}{build_view.details(evil, (), EVIL, HUB, 'en')}"
        f"{build_view.log([line], 'en')}{snippets([Snippet(title=EVIL, language='sh', code=EVIL)], 'en')}"
    )


def test_releases_and_verdicts_with_hostile_words_are_text() -> None:
    row = ReleaseRow(repo=EVIL, sha=SHA, recipe=EVIL, state="refused", detail=EVIL, url=f"javascript:{EVIL}", tag=EVIL)
    _assert_tame(str(listing(Board([row]).page(Query()), "en", HUB)))
    _assert_tame(str(verdict_view.grounds([verdict(EVIL, Status.CAVEAT, EVIL)], "en")))
    _assert_tame(str(verdict_view.facts(release(EVIL), "en")))
    _assert_tame(str(verdict_view.found([Found(repo=EVIL, release=True)], "en")))
    offer = Offer(recipe=all_recipes()[0], verdict=verdict(EVIL, Status.UNSUPPORTED, EVIL), repo=EVIL, tag=EVIL)
    _assert_tame(str(verdict_view.matrix([offer], (), EVIL, "en", choice=True)))
    _assert_tame(str(complaint(UsageError(EVIL, EVIL))))


def test_the_advice_says_which_why_and_how() -> None:
    html = str(advice_tab.shown(advice(choice("gguf/int4"), choice("gguf/q4_0", published=False)), "en"))
    for text in ("Phone with 8.0 GB, 4.0 GB of it", "It is the nearest.", "gguf/int4", "500 MB", "not published yet"):
        assert text in html
    assert "pip install it\nrun()\nagain()" in html
    assert "A note." in html


def test_where_nothing_fits_the_advice_has_the_smallest_and_no_snippet() -> None:
    html = str(advice_tab.shown(advice(None, smallest=choice("gguf/q2_k", left=-300_000_000)), "en"))
    assert "-300 MB" in html
    assert "snippet" not in html


def test_advice_with_hostile_words_is_text() -> None:
    hostile = choice("gguf/int4").model_copy(update={"title": EVIL, "repo": EVIL, "caveats": (EVIL,)})
    _assert_tame(
        str(advice_tab.shown(advice(hostile).model_copy(update={"why": EVIL, "notes": (EVIL,), "repo": EVIL}), "en"))
    )


def test_only_web_addresses_become_links() -> None:
    assert str(link("x", "javascript:alert(1)")) == "x"
    assert 'rel="noopener noreferrer"' in str(link("x", "https://huggingface.co"))


def test_attributes_are_escaped_and_none_is_left_out() -> None:
    assert str(tag("p", "a<b", data_x='"', cls=None)) == '<p data-x="&#34;">a&lt;b</p>'
    assert str(chip("x", "done")) == '<span class="chip done">x</span>'


@pytest.mark.parametrize(
    ("host", "here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_only_loopback_is_this_machine_alone(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_a_space_never_lets_strangers_build(monkeypatch: pytest.MonkeyPatch) -> None:
    assert people_may_build(Settings(host="127.0.0.1"))
    monkeypatch.setenv("SPACE_ID", "phimill/phimill")
    assert not people_may_build(Settings(host="127.0.0.1"))


def test_many_visitors_cost_one_question() -> None:
    asked: list[int] = []
    recent = Recent(lambda: asked.append(1) or len(asked), 60)
    assert [recent.get(), recent.get()] == [1, 1]
    recent.forget()
    assert recent.get() == 2
