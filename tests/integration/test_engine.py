from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.builds import Failure
from bot.engine import Engine
from bot.errors import BuildCancelled, HubUnreachable, PhimillError, UsageError
from bot.journal import Journal, connect
from bot.liveness import PostgresLeases
from bot.models import BuildRequest, Phase, VariantResult
from bot.settings import Settings
from bot.steps import MAX_TRIES, Outcome, Steps

HERE = Path(__file__).parent


def request(number: int = 1) -> BuildRequest:
    return BuildRequest(
        repo=f"microsoft/Phi-{number}", sha="1" * 40, backend="gguf", recipes=("gguf/int4",),
        namespace="phimill", toolchain="t", version="v1.0",
    )  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on either database; what works on one works on the other."""
    monkeypatch.delenv("PHIMILL_DATABASE_URL", raising=False)
    if request.param == "postgres":
        monkeypatch.setenv("PHIMILL_DATABASE_URL", request.getfixturevalue("postgres_url"))
    return tmp_path


@pytest.fixture
def engine(home: Path) -> Iterator[Engine]:
    settings = Settings(home=home)
    journal = Journal(settings.database_url or f"sqlite:///{home / 'journal.sqlite'}")
    engine = Engine(settings, journal)
    yield engine
    engine.close()
    journal.close()


@contextmanager
def worker(home: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "engine_worker.py"), str(home), str(seconds)],
        stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ.copy(),
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def done(results: tuple[VariantResult, ...] = ()) -> Outcome:
    return Outcome(results=results)


def test_a_build_is_queued_run_and_remembered(engine: Engine) -> None:
    result = VariantResult(recipe="gguf/int4", status="published", kl_mean=1e-3)
    assert engine.submit(request(), person=True).phase is Phase.WAITING
    with engine.working(lambda _request, _steps: done((result,))):
        wait_until(lambda: engine.unfinished() == 0)
    build = engine.builds()[0]
    assert (build.phase, build.results, build.person, build.failure) == (Phase.DONE, (result,), True, None)
    assert build.finished is not None
    assert build.finished >= build.created


def test_the_same_request_at_the_same_time_is_one_build(engine: Engine) -> None:
    assert engine.submit(request(), person=True).id == engine.submit(request(), person=False).id
    assert len(engine.builds()) == 1


def test_a_request_for_less_than_what_is_being_made_is_the_same_build(engine: Engine) -> None:
    more = request().model_copy(update={"recipes": ("gguf/int4", "gguf/int8")})
    running = engine.submit(more, person=False)
    assert engine.submit(request().model_copy(update={"version": "v1.1"}), person=False).id == running.id
    assert engine.submit(request(2), person=True).id != running.id


def test_what_a_person_asks_for_does_not_wait_behind_the_watcher_that_asked_first(engine: Engine) -> None:
    engine.submit(request(1), person=False)
    engine.submit(request(2), person=False)
    hurried = engine.submit(request(2), person=True)
    assert (hurried.person, hurried.position) == (True, 1)
    assert engine.unfinished() == 2


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


def test_people_go_before_the_watcher_and_then_the_oldest(engine: Engine) -> None:
    order: list[str] = []
    for number, person in enumerate([False, False, True, True]):
        engine.submit(request(number), person=person)
        time.sleep(0.02)
    assert {b.request.repo: b.position for b in engine.builds()} == {
        "microsoft/Phi-2": 1, "microsoft/Phi-3": 2, "microsoft/Phi-0": 3, "microsoft/Phi-1": 4,
    }  # fmt: skip

    def run(asked: BuildRequest, _steps: Steps) -> Outcome:
        order.append(asked.repo[-1])
        return done()

    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    assert order == ["2", "3", "0", "1"]


def test_an_error_is_kept_with_its_kind_and_its_hint(engine: Engine) -> None:
    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        try:
            steps.run("fetch", lambda: (_ for _ in ()).throw(HubUnreachable("It is away.", "Wait.")))
        except PhimillError as error:
            return Outcome(failure=Failure.of(error))
        return done()

    engine.submit(request(), person=True)
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    build = engine.builds()[0]
    assert build.phase is Phase.FAILED
    assert build.failure is not None
    error = build.failure.error()
    assert isinstance(error, HubUnreachable)
    assert (error.message, error.hint) == ("It is away.", "Wait.")


def test_an_unforeseen_error_leaves_its_traceback_in_the_log_and_a_sentence_for_people(
    engine: Engine,
) -> None:
    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        try:
            steps.run("convert", lambda: 1 // 0)
        except PhimillError as error:
            return Outcome(failure=Failure.of(error))
        return done()

    build = engine.submit(request(), person=True)
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    failure = engine.build(build.id).failure
    assert failure is not None
    assert "ZeroDivisionError" in failure.message
    assert "Traceback" in engine._journal.log(build.id)[0].text


def test_a_failed_build_can_be_tried_again_and_a_finished_one_not(engine: Engine) -> None:
    failing = [True]

    def run(_request: BuildRequest, _steps: Steps) -> Outcome:
        return Outcome(failure=Failure(code="hub", message="no")) if failing else done()

    engine.submit(request(), person=True)
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
        failing.clear()
        again = engine.retry(engine.builds()[0].id)
        wait_until(lambda: engine.unfinished() == 0)
    assert again.id.endswith("-2")
    assert engine.build(again.id).phase is Phase.DONE
    with pytest.raises(UsageError, match="is done"):
        engine.retry(again.id)


def test_a_running_build_is_cancelled_for_good(engine: Engine) -> None:
    started: list[bool] = []

    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        def convert() -> None:
            started.append(True)
            while not steps.cancelled():
                time.sleep(0.1)
            raise BuildCancelled("cancelled")

        steps.run("convert", convert)
        return done()

    build = engine.submit(request(), person=True)
    with engine.working(run):
        wait_until(lambda: bool(started))
        engine.cancel(build.id)
        wait_until(lambda: engine.build(build.id).phase is Phase.CANCELLED)
    with engine.working(run):
        time.sleep(1.5)
    assert len(started) == 1


def test_a_waiting_build_that_is_cancelled_never_runs(engine: Engine) -> None:
    build = engine.submit(request(), person=True)
    engine.cancel(build.id)
    with engine.working(lambda _request, _steps: pytest.fail("it ran")):
        time.sleep(1.5)
    assert engine.build(build.id).phase is Phase.CANCELLED


def test_a_build_in_hand_when_its_worker_stops_is_finished_by_the_next_one(engine: Engine) -> None:
    ran: list[str] = []

    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        def wait() -> None:
            ran.append("prove")
            while len(ran) < 3 and not steps.cancelled():
                time.sleep(0.05)
            if steps.cancelled():
                raise BuildCancelled("stopping")

        steps.run("fetch", lambda: ran.append("fetch"))
        steps.run("prove", wait)
        return done()

    build = engine.submit(request(), person=True)
    with engine.working(run):
        wait_until(lambda: "prove" in ran)
    assert engine.build(build.id).phase is Phase.RUNNING
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    assert engine.build(build.id).phase is Phase.DONE
    assert ran == ["fetch", "prove", "prove"]


def test_pausing_lets_no_step_begin_until_the_mill_is_resumed(engine: Engine) -> None:
    ran: list[str] = []

    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        steps.run("fetch", lambda: ran.append("fetch"))
        return done()

    engine.pause()
    engine.submit(request(), person=True)
    with engine.working(run):
        time.sleep(2)
        assert (engine.paused, ran) == (True, [])
        engine.resume()
        wait_until(lambda: engine.unfinished() == 0)
    assert ran == ["fetch"]


def test_a_step_that_takes_its_worker_down_every_time_is_given_up(engine: Engine) -> None:
    build = engine.submit(request(), person=True)
    for _ in range(MAX_TRIES):
        engine._journal.begin_step(build.id, "convert")

    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        try:
            steps.run("convert", lambda: pytest.fail("it ran once more"))
        except PhimillError as error:
            return Outcome(failure=Failure.of(error))
        return done()

    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    failure = engine.build(build.id).failure
    assert failure is not None
    assert "brought its worker down" in failure.message


@pytest.mark.parametrize("text", ["", "zzz"])
def test_an_unknown_build_is_a_usage_error(engine: Engine, text: str) -> None:
    with pytest.raises(UsageError, match="not a build"):
        engine.build(text)


def test_a_build_may_be_named_by_the_beginning_of_its_id(engine: Engine) -> None:
    build = engine.submit(request(), person=True)
    assert engine.build(build.id[:6]) == build


def test_two_workers_share_a_queue_and_when_one_is_killed_the_other_finishes_its_build(home: Path) -> None:
    from tests.integration.engine_worker import STEPS, open_engine

    engine, journal = open_engine(home)
    builds = [engine.submit(request(n), person=True) for n in range(2)]
    with worker(home, seconds=2) as first, worker(home, seconds=2):
        wait_until(lambda: all(journal.log(b.id) for b in builds))
        os.killpg(first.pid, signal.SIGKILL)
        wait_until(lambda: engine.unfinished() == 0, 60)
    for build in builds:
        assert engine.build(build.id).phase is Phase.DONE
        ended = [line.stage for line in journal.log(build.id) if line.text == "ended"]
        assert ended == list(STEPS), "every step ended once, in order"
    begun = [sum(line.text == "begun" for line in journal.log(b.id)) for b in builds]
    assert sorted(begun) == [len(STEPS), len(STEPS) + 1], "the killed worker's step was begun twice"
    engine.close()
    journal.close()
