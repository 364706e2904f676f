"""Builds of people in the real engine: whose turn it is, and what waits for somebody to sign in."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from engine_worker import request, wait_until
from pydantic import SecretStr

from bot.builds import Awaits, Build, BuildRequest, Phase
from bot.engine import Engine
from bot.journal import Journal
from bot.settings import Settings
from bot.steps import Outcome, Steps
from bot.tokens import Keyring

CANARY = "hf_canary_0123456789"


def of(asker: str | None, number: int) -> BuildRequest:
    return request(number).model_copy(update={"asker": asker})


class Worker:
    """An engine with a keyring, whose builds publish with what the keyring has."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, backends=("gguf",))
        self.journal = Journal(f"sqlite:///{home / 'journal.sqlite'}")
        self.keys = Keyring()
        self.engine = Engine(self.settings, self.journal, self.keys)
        self.used: list[tuple[str, str | None]] = []
        self.go = threading.Event()
        self.go.set()

    def run(self, asked: BuildRequest, steps: Steps) -> Outcome:
        def publish() -> str:
            token = self.keys.asking(asked.asker)() if asked.asker else None
            self.used.append((asked.repo[-1], token))
            self.go.wait(300)
            return "done"

        steps.run("publish", publish)
        return Outcome()

    def lend(self, account: str, token: str = CANARY) -> None:
        self.keys.lend(account, SecretStr(token))
        self.engine.wake()

    def phase(self, build: Build) -> tuple[Phase, Awaits | None]:
        now = self.engine.build(build.id)
        return now.phase, now.awaits

    def close(self) -> None:
        self.engine.close()
        self.journal.close()


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def test_without_its_token_a_build_waits_and_lets_others_pass_and_goes_on_when_they_sign_in(worker: Worker) -> None:
    mine, other = worker.engine.submit(of("ada", 1), person=True), worker.engine.submit(of(None, 2), person=False)
    with worker.engine.working(worker.run):
        wait_until(lambda: worker.phase(other)[0] is Phase.DONE)
        assert worker.phase(mine) == (Phase.WAITING, Awaits.SIGN_IN)
        assert worker.engine.unfinished() == 0, "nobody waits for it to end"
        assert worker.engine.submit(of("ada", 1), person=True).id == mine.id
        worker.lend("ada")
        wait_until(lambda: worker.phase(mine)[0] is Phase.DONE)
        assert worker.used == [("2", None), ("1", CANARY)]
        wait_until(lambda: worker.keys.token("ada") is None)  # held for their builds, and there is none any more
    worker.close()


def test_after_a_restart_it_still_waits_and_can_be_stopped(worker: Worker, tmp_path: Path) -> None:
    worker.lend("ada")
    worker.keys.keep_only(())  # what a restart does to what was only in memory
    mine, kept = worker.engine.submit(of("ada", 1), person=True), worker.engine.submit(of("ada", 2), person=True)
    with worker.engine.working(worker.run):
        wait_until(lambda: {worker.phase(b) for b in (mine, kept)} == {(Phase.WAITING, Awaits.SIGN_IN)})
    worker.close()
    again = Worker(tmp_path)
    assert again.phase(mine) == (Phase.WAITING, Awaits.SIGN_IN)
    assert again.engine.cancel(mine.id).phase is Phase.CANCELLED
    with again.engine.working(again.run):
        again.lend("ada")
        wait_until(lambda: again.phase(kept)[0] is Phase.DONE)
        assert again.phase(mine) == (Phase.CANCELLED, None)
    again.close()


def test_the_token_is_in_no_file(worker: Worker, tmp_path: Path) -> None:
    worker.lend("ada")
    build = worker.engine.submit(of("ada", 1), person=True)
    worker.lend("ada")
    with worker.engine.working(worker.run):
        wait_until(lambda: worker.phase(build)[0] is Phase.DONE)
    assert worker.used == [("1", CANARY)]
    worker.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"ada" in path.read_bytes() for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in repr(worker.keys)


def test_a_token_that_is_about_to_end_is_none() -> None:
    keys = Keyring()
    keys.lend("ada", SecretStr(CANARY), time.time() + 30)
    assert keys.token("ada") is None


def test_one_person_s_further_builds_go_behind_others_and_before_the_watcher(worker: Worker) -> None:
    asked = [(None, 1, False), ("ada", 2, True), ("ada", 3, True), ("eve", 4, True)]
    for asker, number, person in asked:
        worker.engine.submit(of(asker, number), person=person)
        time.sleep(0.02)
    assert {b.request.repo[-1]: b.position for b in worker.engine.builds()} == {"2": 1, "4": 2, "3": 3, "1": 4}
    worker.close()


def test_one_person_runs_one_build_at_a_time_on_every_queue(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.settings = worker.settings.model_copy(update={"backends": ("gguf", "mlx")})
    worker.engine = Engine(worker.settings, worker.journal, worker.keys)
    worker.go.clear()
    worker.lend("ada")
    builds = [
        worker.engine.submit(request(n, backend=name).model_copy(update={"asker": "ada"}), person=True)
        for n, name in ((1, "gguf"), (2, "mlx"))
    ]
    worker.lend("ada")
    with worker.engine.working(worker.run):
        wait_until(lambda: {worker.phase(b) for b in builds} == {
            (Phase.RUNNING, None), (Phase.WAITING, Awaits.TURN)
        })  # fmt: skip
        assert len(worker.used) == 1
        [waits] = [b for b in builds if worker.phase(b)[1] is Awaits.TURN]
        assert worker.engine.build(waits.id).position == 1
        worker.go.set()
        wait_until(lambda: {worker.phase(b)[0] for b in builds} == {Phase.DONE})
    worker.close()
