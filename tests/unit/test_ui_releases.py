"""The dashboard: what is found, what a page shows, and what is shown when the Hub is away."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from fake_mill import NOON, SHA, FakeMill

from bot.desk import Desk
from bot.errors import HubUnreachable
from bot.releases import ReleaseRow, State
from bot.settings import Settings
from bot.ui.board import KEPT, PER_PAGE, Board, Query
from bot.ui.boards import Boards
from bot.ui.language import LANGUAGES
from bot.ui.latest import Latest
from bot.ui.releases_tab import NOTHING, _look
from bot.ui.releases_view import listing
from bot.visitor import OPERATOR, STRANGER

HUB = "https://huggingface.co"


def row(name: str, recipe: str, state: State = "published", **more: object) -> ReleaseRow:
    return ReleaseRow.model_validate(
        {"repo": f"microsoft/{name}", "sha": SHA, "recipe": recipe, "state": state, **more}
    )


BOARD = Board(
    [
        row("Phi-4-mini", "gguf/int4", tag="v1.0", kl=0.01, date=NOON, url=f"{HUB}/phimill/Phi-4-mini-GGUF"),
        row("Phi-4-mini", "mlx/fp32", "unsuited", detail="It is for models without LongRoPE."),
        row("phi-2", "gguf/int4", "failed", detail="The disk is full.", build="b" * 32 + "-1"),
        row("phi-2", "gguf/int8"),
        row("Phi-3", "onnx/int4", "stale"),
    ]
)


def found(query: Query, board: Board = BOARD) -> list[str]:
    return [f"{r.repo.split('/')[1]} {r.recipe}" for own in board.page(query).releases for r in own]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Query(text="MINI phi"), ["Phi-4-mini gguf/int4", "Phi-4-mini mlx/fp32"]),
        (Query(backend="gguf", state="published"), ["Phi-4-mini gguf/int4", "phi-2 gguf/int8"]),
        (Query(precision="FP32"), ["Phi-4-mini mlx/fp32"]),
        (Query(state="building"), []),
    ],
)
def test_only_what_matches_everything_asked_for_is_found(query: Query, names: list[str]) -> None:
    assert found(query) == names


def test_releases_come_by_name_or_with_trouble_first() -> None:
    assert [own[0].repo for own in BOARD.page(Query(sort="name")).releases] == [
        "microsoft/phi-2", "microsoft/Phi-3", "microsoft/Phi-4-mini",
    ]  # fmt: skip
    assert [own[0].repo for own in BOARD.page(Query(sort="trouble")).releases] == [
        "microsoft/phi-2", "microsoft/Phi-3", "microsoft/Phi-4-mini",
    ]  # fmt: skip
    assert found(Query(state="published", sort="trouble"))[0].startswith("Phi-4-mini")


def test_a_page_that_is_not_there_is_the_nearest_one() -> None:
    board = Board([row(f"Phi-{n}", "gguf/int4") for n in range(PER_PAGE + 1)])
    assert [board.page(Query(page=page)).page for page in (-3, 1, 2, 99)] == [1, 1, 2, 2]
    assert found(Query(page=2), board) == [f"Phi-{PER_PAGE} gguf/int4"]


def test_what_was_searched_for_is_not_kept_for_ever() -> None:
    board, made = Board([row("Phi-4", "gguf/int4")]), []
    for number in range(3 * KEPT):
        board.remember(number, lambda: made.append(1))
    assert len(board._kept) <= KEPT
    board.remember(3 * KEPT - 1, lambda: made.append(1))
    assert len(made) == 3 * KEPT


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_line_says_where_each_variant_stands_and_why(language: str) -> None:
    html = str(listing(BOARD.page(Query()), language, HUB))
    assert "int4 v1.0 · KL 0.0100" in html
    assert "2026-01-02" in html
    assert "fp32: It is for models without LongRoPE." in html
    assert f'href="?build={"b" * 32}-1"' in html
    assert 'href="?compare=microsoft%2Fphi-2"' in html


def look(boards: Boards, desk: Desk, before: Any = NOTHING, query: Query | None = None) -> tuple[Any, ...]:
    asked = query or Query()
    return _look(
        boards, desk, OPERATOR, before, asked.text, asked.backend, asked.precision, asked.state, asked.sort, asked.page
    )


def test_what_did_not_change_is_not_sent_again() -> None:
    mill = FakeMill()
    mill.rows = (row("Phi-4", "gguf/int4"),)
    desk = Desk(mill)  # type: ignore[arg-type]
    boards = Boards(desk)
    first = look(boards, desk)
    assert "Phi-4" in str(first[1])
    assert "Phi-4" not in str(look(boards, desk, first[0])[1])
    assert mill.calls.count(("releases",)) == 1


def test_an_empty_dashboard_says_what_is_watched() -> None:
    desk = Desk(FakeMill(Settings(watch=("somebody",))))  # type: ignore[arg-type]
    assert "somebody" in str(look(Boards(desk), desk)[1])


def test_a_hub_that_is_away_at_first_is_explained() -> None:
    mill = FakeMill()
    mill.error = HubUnreachable("The Hub does not answer.", "Try again later.")
    desk = Desk(mill)  # type: ignore[arg-type]
    assert "The Hub does not answer." in str(look(Boards(desk), desk)[1])


def test_a_hub_that_went_away_leaves_the_last_known_table_with_its_age() -> None:
    mill = FakeMill()
    mill.rows = (row("Phi-4", "gguf/int4"),)
    desk = Desk(mill)  # type: ignore[arg-type]
    boards = Boards(desk)
    look(boards, desk)
    mill.error = HubUnreachable("The Hub does not answer.", "Try again later.")
    boards.of(OPERATOR)._look()
    html = str(look(boards, desk)[1])
    assert "The Hub does not answer." in html
    assert "1 min ago" in html
    assert "Phi-4" in html


def test_nobody_waits_while_an_old_answer_is_asked_for_again() -> None:
    blocked, answers = threading.Event(), iter(["first", "second"])

    def ask() -> str:
        answer = next(answers)
        if answer == "second":
            assert blocked.wait(60)
        return answer

    latest = Latest(ask, seconds=0)
    assert latest.get(60).value == "first"
    assert latest.get(60).value == "first"  # and the second question has begun
    assert latest.get(60).value == "first"
    blocked.set()


def test_a_mistake_of_ours_is_a_sentence_too(caplog: pytest.LogCaptureFixture) -> None:
    known = Latest(lambda: 1 / 0, 60).get(60)
    assert known.value is None
    assert known.error is not None
    assert "ZeroDivisionError" in caplog.text


def test_strangers_do_not_see_what_stands_in_a_private_repo() -> None:
    mill = FakeMill()
    mill.rows = (row("Phi-4", "gguf/int4", tag="v7.7", private=True),)
    boards = Boards(Desk(mill))  # type: ignore[arg-type]
    seen = [boards.of(who).get(60).value for who in (STRANGER, replace(STRANGER, name="ann"), OPERATOR)]
    assert [each is not None and "v7.7" in str(listing(each.page(Query()), "en", HUB)) for each in seen] == [
        False, False, True,
    ]  # fmt: skip
