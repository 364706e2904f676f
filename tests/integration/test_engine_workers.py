"""Several workers on one database: they start at once, ask at once, and one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest
import sqlalchemy as sa
from engine_worker import STEPS, open_engine, request, wait_until

from bot.builds import Build, Phase
from bot.engine import Engine
from bot.journal import Journal, connect
from bot.liveness import PostgresLeases

HERE = Path(__file__).parent
T = TypeVar("T")


def at_once(act: Callable[[int], T], times: int = 6) -> list[T]:
    """Call `act` in so many threads at the same moment."""
    barrier = Barrier(times)

    def start(number: int) -> T:
        barrier.wait()
        return act(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(start, range(times)))


@contextmanager
def worker(home: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "engine_worker.py"), str(home)],
        stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ.copy(),
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_workers_that_start_at_once_on_a_new_database_all_start(home: Path) -> None:
    opened = at_once(lambda _: open_engine(home))
    assert opened[0][0].submit(request(), person=True).id == opened[-1][0].builds()[0].id
    for engine, journal in opened:
        engine.close()
        journal.close()


def test_workers_may_note_the_same_thing_for_the_first_time_at_once(engine: Engine, home: Path) -> None:
    url = engine._settings.database_url or f"sqlite:///{home / 'journal.sqlite'}"
    journals = [Journal(url) for _ in range(6)]

    def note(name: str, number: int) -> None:
        journals[number].set_note(name, "noted")

    for name in "abcde":
        at_once(partial(note, name), len(journals))
        assert engine._journal.note(name) == "noted"
    for journal in journals:
        journal.close()


def test_two_workers_that_ask_for_the_same_at_once_get_one_build(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, journal = open_engine(home)
    look = engine.unfinished_builds

    def look_and_be_overtaken() -> tuple[Build, ...]:
        found = look()
        other.submit(request(), person=False)
        return found

    monkeypatch.setattr(engine, "unfinished_builds", look_and_be_overtaken)
    engine.submit(request(), person=False)
    assert len(engine.builds()) == 1
    other.close()
    journal.close()


def test_two_workers_share_a_queue_and_when_one_is_killed_the_other_finishes_its_build(home: Path) -> None:
    engine, journal = open_engine(home)
    with worker(home) as first, worker(home):
        builds = [engine.submit(request(n), person=True) for n in range(2)]
        wait_until(lambda: all(journal.log(b.id) for b in builds))  # each has one in hand
        os.killpg(first.pid, signal.SIGKILL)
        (home / "go").touch()
        wait_until(lambda: engine.unfinished() == 0)
    for build in builds:
        assert engine.build(build.id).phase is Phase.DONE
        ended = [line.stage for line in journal.log(build.id) if line.text == "ended"]
        assert ended == list(STEPS), "every step ended once, in order"
    begun = [sum(line.text == "begun" for line in journal.log(b.id)) for b in builds]
    assert sorted(begun) == [len(STEPS), len(STEPS) + 1], "the killed worker's step was begun twice"
    engine.close()
    journal.close()


def test_a_lease_survives_a_connection_that_the_server_dropped(postgres_url: str) -> None:
    mine, theirs = PostgresLeases(postgres_url), PostgresLeases(postgres_url)
    assert mine.take("worker")
    admin = connect(postgres_url)
    with admin.begin() as session:
        session.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
    assert not mine.held()
    assert not theirs.take("worker")
    for opened in (mine, theirs):
        opened.close()
    admin.dispose()
