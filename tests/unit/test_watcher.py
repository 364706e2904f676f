from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from bot.errors import HubUnreachable
from bot.watcher import ticking

SHORT = 0.1
PATIENCE = 120.0  # seconds; only a hang takes so long, however busy the machine


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_the_first_look_is_at_once_and_others_follow() -> None:
    looks: list[float] = []
    with ticking(lambda: looks.append(time.monotonic()), SHORT):
        wait_until(lambda: len(looks) >= 3)


def test_nothing_looks_any_more_after_the_end() -> None:
    looks: list[int] = []
    with ticking(lambda: looks.append(1), SHORT):
        wait_until(lambda: bool(looks))
    seen = len(looks)
    time.sleep(3 * SHORT)
    assert len(looks) == seen


def test_two_looks_never_run_at_once() -> None:
    inside, most, looks = [0], [0], [0]
    guard = threading.Lock()

    def look() -> None:
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(3 * SHORT)
        with guard:
            inside[0] -= 1
            looks[0] += 1

    with ticking(look, SHORT):
        wait_until(lambda: looks[0] >= 3)
    assert most == [1]


def test_a_hub_that_is_away_costs_a_round_and_not_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise HubUnreachable("It is away.", "Wait.")

    with caplog.at_level(logging.WARNING), ticking(look, SHORT):
        wait_until(lambda: len(looks) >= 2)
    assert "It is away. Wait." in [vars(line).get("error") for line in caplog.records]


def test_a_clock_that_goes_back_a_day_does_not_stop_the_watch_for_a_day() -> None:
    looks: list[int] = []
    with time_machine.travel(datetime.now(UTC), tick=True) as traveller, ticking(lambda: looks.append(1), SHORT):
        wait_until(lambda: bool(looks))
        traveller.move_to(datetime.now(UTC) - timedelta(days=1), tick=True)
        seen = len(looks)
        wait_until(lambda: len(looks) >= seen + 3)
