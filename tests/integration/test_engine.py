from __future__ import annotations

import json
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from dbos._sys_db import SystemDatabase
from dbos._utils import retriable_postgres_exception
from engine_worker import request, wait_until

from bot import logs, recipes, worker
from bot.builds import BuildRequest, Failure, Phase, VariantResult
from bot.engine import Engine
from bot.errors import BuildCancelled, HubUnreachable, PhimillError, UsageError
from bot.steps import MAX_TRIES, Outcome, Steps


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


def test_what_is_logged_during_a_build_names_the_build(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(logs.formatter(json=True, colors=False))

    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        steps.run("convert gguf/int4", lambda: logging.getLogger("somewhere.else").info("It is made."))
        steps.journal.write(steps.build, "info", "convert", "It was said.")
        return Outcome(failure=Failure(code="gate_failed", message="No."))

    build = engine.submit(request(), person=True)
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    found = [line for line in map(json.loads, caplog.text.splitlines()) if "build" in line]
    assert {(line["build"], line["repo"], line["backend"]) for line in found} == {
        (build.id, "microsoft/Phi-1", "gguf")
    }
    assert [(line["event"], line.get("stage"), line.get("failure")) for line in found] == [
        ("The build begins.", None, None),
        ("It is made.", "convert gguf/int4", None),
        ("It was said.", "convert", None),
        ("The build is over.", None, "gate_failed"),
    ]


def test_the_same_request_at_the_same_time_is_one_build(engine: Engine) -> None:
    assert engine.submit(request(), person=True).id == engine.submit(request(), person=False).id
    assert len(engine.builds()) == 1


def test_a_request_for_less_than_what_is_being_made_is_the_same_build(engine: Engine) -> None:
    running = engine.submit(request(1, "gguf/int4", "gguf/int8"), person=False)
    assert engine.submit(request(1, version="v1.1"), person=False).id == running.id
    assert engine.submit(request(2), person=True).id != running.id
    assert engine.submit(request(1, "gguf/int4", "gguf/fp16"), person=False).id != running.id


def test_what_a_person_asks_for_does_not_wait_behind_the_watcher_that_asked_first(engine: Engine) -> None:
    engine.submit(request(1), person=False)
    engine.submit(request(2), person=False)
    hurried = engine.submit(request(2), person=True)
    assert (hurried.person, hurried.position) == (True, 1)
    assert engine.unfinished() == 2


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


def test_a_build_that_is_taken_when_the_database_goes_away_is_not_left_lying(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    look = SystemDatabase.get_workflow_statuses

    def away_once(self: SystemDatabase, workflows: list[str]) -> Any:
        if not taken:
            taken.extend(workflows)
            raise RuntimeError("the server closed the connection")
        return look(self, workflows)

    def away(self: SystemDatabase, workflow: str) -> Any:
        raise RuntimeError("the server closed the connection")

    monkeypatch.setattr(SystemDatabase, "get_workflow_statuses", away_once)
    monkeypatch.setattr(SystemDatabase, "get_workflow_status", away)
    monkeypatch.setattr(worker, "RESCUE_SECONDS", 0.5)
    build = engine.submit(request(), person=True)
    with engine.working(lambda _request, _steps: done()):
        wait_until(lambda: engine.unfinished() == 0)
    assert taken == [build.id]
    assert engine.build(build.id).phase is Phase.DONE


def test_a_server_whose_socket_is_gone_is_one_that_dbos_waits_for() -> None:
    gone = sa.create_engine("postgresql+psycopg://mill@/mill?host=/nowhere")
    with pytest.raises(sa.exc.OperationalError, match="connection is bad") as failed:
        gone.connect()
    assert retriable_postgres_exception(failed.value)


@pytest.fixture
def two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many backends as these tests are about, whatever there is."""
    known = {name: SimpleNamespace(id=name) for name in ("gguf", "other")}
    monkeypatch.setattr(recipes, "backends", lambda: known)


@pytest.mark.usefixtures("two_backends")
def test_builds_of_two_backends_go_side_by_side(engine: Engine) -> None:
    together = threading.Barrier(2)

    def run(_request: BuildRequest, steps: Steps) -> Outcome:
        steps.run("convert", lambda: together.wait(300))  # neither ends before both have begun
        return done()

    builds = [engine.submit(request(backend=name), person=False) for name in ("gguf", "other")]
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    assert [engine.build(build.id).phase for build in builds] == [Phase.DONE, Phase.DONE]


@pytest.mark.usefixtures("two_backends")
def test_two_builds_of_one_backend_go_one_after_the_other(engine: Engine) -> None:
    said: list[str] = []

    def run(asked: BuildRequest, steps: Steps) -> Outcome:
        said.append(f"{asked.backend} {asked.repo[-1]} begins")
        if asked.repo[-1] == "1":
            wait_until(lambda: "other 3 ends" in said)  # the queue is looked at meanwhile, and more than once
        said.append(f"{asked.backend} {asked.repo[-1]} ends")
        return done()

    for number, name in ((1, "gguf"), (2, "gguf"), (3, "other")):
        engine.submit(request(number, backend=name), person=number == 1)
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    assert [line for line in said if line.startswith("gguf")] == [
        "gguf 1 begins", "gguf 1 ends", "gguf 2 begins", "gguf 2 ends",
    ]  # fmt: skip


@pytest.mark.usefixtures("two_backends")
def test_a_worker_without_a_backend_leaves_its_builds_to_one_that_has_it(engine: Engine) -> None:
    ran: list[str] = []

    def run(asked: BuildRequest, _steps: Steps) -> Outcome:
        ran.append(asked.backend)
        return done()

    build = engine.submit(request(1, backend="other"), person=True)
    engine.submit(request(2), person=False)
    engine._settings = engine._settings.model_copy(update={"backends": ("gguf",)})
    assert engine.unfinished() == 1, "what is left to others is not waited for"
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    assert (ran, engine.build(build.id).phase) == (["gguf"], Phase.WAITING)
    engine._settings = engine._settings.model_copy(update={"backends": ("other",)})
    with engine.working(run):
        wait_until(lambda: engine.unfinished() == 0)
    assert ran == ["gguf", "other"]


@pytest.mark.usefixtures("two_backends")
def test_each_backend_has_a_line_of_its_own(engine: Engine) -> None:
    for number, name in enumerate(["gguf", "other", "gguf"]):
        engine.submit(request(number, backend=name), person=False)
        time.sleep(0.02)  # what is as urgent goes by its time of arrival, in milliseconds
    assert {b.request.repo: b.position for b in engine.builds()} == {
        "microsoft/Phi-0": 1, "microsoft/Phi-1": 1, "microsoft/Phi-2": 2,
    }  # fmt: skip


def test_builds_of_an_older_version_are_in_nobody_s_way(engine: Engine) -> None:
    """Their requests have another form; what they were to make is planned again."""
    old = {"repo": "microsoft/Phi-1", "backend": "gguf", "recipes": ["gguf/int4"], "version": "v1.0"}
    engine._store._client.enqueue(
        {"queue_name": "builds", "workflow_name": "build", "workflow_id": "0" * 32 + "-1", "app_version": "1"},
        old,
        False,
    )
    assert (engine.builds(), engine.unfinished(), engine.latest(request())) == ((), 0, None)
    engine.submit(request(), person=False)
    with engine.working(lambda _request, _steps: done()):
        wait_until(lambda: engine.unfinished() == 0)
    assert [b.phase for b in engine.builds()] == [Phase.DONE]


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
