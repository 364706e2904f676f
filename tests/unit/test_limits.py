"""What one person, one address and everybody together may ask for."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from fake_mill import NOON, build, request

from bot.builds import Build, Phase
from bot.errors import Busy
from bot.limits import Allowance, Limits, network, seconds_per_build
from bot.settings import Settings
from bot.visitor import OPERATOR, Visitor

ADA = Visitor(name="ada", address="192.0.2.1")


def of(asker: str | None, number: int = 1, phase: Phase = Phase.WAITING) -> Build:
    return build(f"{number:032d}", phase, asked=request().model_copy(update={"asker": asker}))


def test_an_allowance_is_used_up_and_comes_back() -> None:
    now = 0.0
    allowance = Allowance(2, 60, lambda: now)
    assert [allowance.take("ada") for _ in range(2)] == [0, 0]
    assert allowance.take("ada") == 60
    assert allowance.take("eve") == 0
    now = 30.0
    assert allowance.take("ada") == 30
    now = 60.0
    assert allowance.take("ada") == 0


def test_more_than_is_left_is_not_taken_in_part() -> None:
    allowance = Allowance(3, 60)
    assert allowance.take("ada", 2) == 0
    assert allowance.take("ada", 2) > 0
    assert allowance.take("ada", 1) == 0


def test_too_many_questions_from_one_address_are_refused_for_a_while() -> None:
    limits = Limits(Settings(address_reads=2))
    for _ in range(2):
        limits.read(ADA)
    with pytest.raises(Busy, match=r"Come back in about 1 min\."):
        limits.read(Visitor(name="eve", address="192.0.2.1"))
    limits.read(Visitor(address="192.0.2.2"))
    for _ in range(5):
        limits.read(OPERATOR)


def test_one_person_has_so_many_builds_at_once() -> None:
    limits = Limits(Settings(person_waiting=3))
    waiting = [of("ada", number) for number in range(2)]
    limits.build(ADA, 1, waiting, ())
    with pytest.raises(Busy, match="You have 2 builds in the queue, and 3 is the most"):
        limits.build(ADA, 2, waiting, ())
    limits.build(Visitor(name="eve", address="192.0.2.2"), 2, waiting, ())


def test_a_full_queue_says_when_to_come_back() -> None:
    limits = Limits(Settings(queue_limit=4, person_waiting=100))
    waiting = [of(f"person {number}", number) for number in range(4)]
    ended = [
        build(f"{n:032d}", Phase.DONE).model_copy(update={"finished": NOON + timedelta(minutes=20 * n)})
        for n in range(5)
    ]
    with pytest.raises(Busy, match=r"The queue is full: 4 builds. Come back in about 40 min\."):
        limits.build(ADA, 2, waiting, ended)
    limits.build(OPERATOR, 2, waiting, ended)


def test_the_watcher_s_builds_leave_room_for_people() -> None:
    watched = [of(None, number).model_copy(update={"person": False}) for number in range(9)]
    Limits(Settings(queue_limit=1)).build(ADA, 1, watched, ())


@pytest.mark.parametrize("setting", ["person_daily", "address_daily"])
def test_a_day_has_a_limit(setting: str) -> None:
    limits = Limits(Settings(**{setting: 2}))
    limits.build(ADA, 2, (), ())
    with pytest.raises(Busy, match=r"in a day. Come back in about 24 h\."):
        limits.build(ADA, 1, (), ())


def test_the_pace_is_believed_within_bounds() -> None:
    assert seconds_per_build(()) == 600
    at_once = [of("ada", n, Phase.DONE).model_copy(update={"finished": NOON}) for n in range(5)]
    assert seconds_per_build(at_once) == 60


def test_a_subscriber_s_whole_network_is_one_address() -> None:
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2:ffff::1") != network("2001:db8:1:3::1")
    assert network("192.0.2.1") != network("192.0.2.2")
    assert re.fullmatch("testclient", network("testclient"))
