"""Answers that are remembered for a while."""

from __future__ import annotations

import pytest

from bot.errors import HubUnreachable
from bot.kept import Kept


def test_a_question_is_asked_once_and_again_when_its_answer_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [100.0], []
    monkeypatch.setattr("bot.kept.time.monotonic", lambda: now[0])
    kept: Kept[int] = Kept(60, 10)
    for at, answer in ((100, 1), (159, 1), (161, 2)):
        now[0] = at
        assert kept.get("a", lambda: asked.append(1) or len(asked)) == answer


def test_that_there_is_nothing_is_an_answer_too() -> None:
    asked: list[int] = []
    kept: Kept[None] = Kept(60, 10)
    for _ in range(2):
        kept.get("a", lambda: asked.append(1))
    assert asked == [1]


def test_the_oldest_answers_are_forgotten() -> None:
    kept: Kept[int] = Kept(60, 3)
    for number in range(5):
        kept.get(number, lambda number=number: number)
    assert [kept.get(number, lambda: -1) for number in (4, 3, 2, 0)] == [4, 3, 2, -1]


def test_an_error_is_not_an_answer() -> None:
    def broken() -> int:
        raise HubUnreachable("Away.", "Wait.")

    kept: Kept[int] = Kept(60, 3)
    with pytest.raises(HubUnreachable):
        kept.get("a", broken)
    assert kept.get("a", lambda: 1) == 1
