"""A person's turn while the database comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from bot.builds import Awaits
from bot.journal import Journal
from bot.parking import Parking
from bot.steps import Interrupted
from bot.tokens import Keyring


class Database:
    """Stored builds, none of which is pending, on a server that is away for the next `outages` questions."""

    def __init__(self) -> None:
        self.outages = 0
        self.stopped: list[str] = []

    def stored(self, **_: Any) -> Sequence[Any]:
        self._answer()
        return ()

    def cancel(self, build: str) -> None:
        self._answer()
        self.stopped.append(build)

    def _answer(self) -> None:
        if self.outages:
            self.outages -= 1
            raise OperationalError("select", {}, ValueError("the server closed the connection"))


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")


@pytest.fixture
def parking(database: Database, journal: Journal) -> Parking:
    return Parking(journal, Keyring(), 1, database)


def test_a_build_s_turn_waits_for_a_database_that_is_away(parking: Parking, database: Database) -> None:
    database.outages = 2
    with parking.turn("one", "ada", "me"):
        assert database.outages == 0


def test_a_second_build_is_parked_though_the_database_is_away_for_a_moment(
    parking: Parking, database: Database, journal: Journal
) -> None:
    with parking.turn("one", "ada", "me"):
        database.outages = 2
        with pytest.raises(Interrupted), parking.turn("two", "ada", "me"):
            pytest.fail("a person has one build at a time")
        assert (database.stopped, journal.parked()) == (["two"], {"two": Awaits.TURN})


def test_what_a_build_came_to_is_kept_though_the_database_is_away_at_its_end(
    parking: Parking, database: Database, journal: Journal
) -> None:
    journal.park("two", Awaits.TURN)

    def build() -> str:
        with parking.turn("one", "ada", "me"):
            database.outages = 1
            return "published"

    assert build() == "published"
    assert database.outages == 0, "it was asked, in vain"


class Moving:
    """One stored build, to which something happens as soon as somebody has looked for those that wait or run."""

    def __init__(self, state: str, meanwhile: Callable[[Moving], None]) -> None:
        self.state = state
        self.meanwhile = meanwhile

    def stored(self, *, status: list[str], workflow_ids: Sequence[str] = ("one",), **_: Any) -> list[Any]:
        there = self.state in status and "one" in workflow_ids
        found = [SimpleNamespace(workflow_id="one", status=self.state)] if there else []
        meanwhile, self.meanwhile = self.meanwhile, lambda _: None
        meanwhile(self)
        return found


@pytest.mark.parametrize("looked", [True, False], ids=["after it was looked for", "before"])
def test_a_build_that_is_woken_while_somebody_counts_is_counted_once(journal: Journal, *, looked: bool) -> None:
    def wake(store: Moving) -> None:
        store.state = "ENQUEUED"
        journal.unpark("one")

    journal.park("one", Awaits.SIGN_IN)
    store = Moving("CANCELLED", wake)
    if not looked:
        wake(store)
    found, parked = Parking(journal, Keyring(), 1, store).unfinished()
    assert [status.workflow_id for status in found] == ["one"]
    assert parked == ({"one": Awaits.SIGN_IN} if looked else {})


def test_a_build_that_is_parked_while_somebody_counts_is_counted_once(journal: Journal) -> None:
    def park(store: Moving) -> None:
        journal.park("one", Awaits.SIGN_IN)
        store.state = "CANCELLED"

    found, parked = Parking(journal, Keyring(), 1, Moving("PENDING", park)).unfinished()
    assert ([status.workflow_id for status in found], parked) == (["one"], {"one": Awaits.SIGN_IN})


def test_an_error_that_is_not_the_database_s_is_not_waited_for(journal: Journal) -> None:
    class Broken(Database):
        def stored(self, **_: Any) -> Sequence[Any]:
            raise ValueError("a bug")

    parking = Parking(journal, Keyring(), 1, Broken())
    with pytest.raises(ValueError, match="a bug"), parking.turn("one", "ada", "me"):
        pytest.fail("nobody knows whether it is its turn")
