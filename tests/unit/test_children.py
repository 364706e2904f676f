"""Children of builds that share a machine: what one gets, and what happens when that was not enough."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_backend import Bench

from bot import toolchain
from bot.admission import Admission
from bot.children import Children, Work
from bot.converter import Reply
from bot.errors import MemoryExceeded
from bot.journal import Journal
from bot.steps import Steps
from bot.telling import Telling

MIB = 2**20
PATIENCE = 60  # seconds; only a failing test waits so long
HOLDS_300_MIB = """
import time
open(request["out"] + "/left", "x").close()
held = b"x" * (300 * 2**20)
time.sleep(2)
open(request["out"] + "/m.gguf", "w").write("GGUF")
say("artifact", recipe="fake/int4", files=["m.gguf"], bits_per_weight=4.5)
"""


class Machine:
    """A machine with a budget, and the children of one build on it."""

    def __init__(self, bench: Bench, journal: Journal, budget: int) -> None:
        settings = bench.settings.model_copy(update={"memory_budget": budget, "threads": 2})
        self.admission = Admission(settings)
        steps = Steps("one", journal, lambda _, action: action(), lambda: False, lambda: False)
        self.telling = Telling(journal, "one", "fake/int4")
        self._children = Children(settings, self.admission, steps, 1_000_000, toolchain.code_path(settings=settings))
        self._out, self._journal = bench.out, journal

    def convert(self, expected: int) -> Reply:
        work = Work("fake", "convert fake/int4", expected, (), out=self._out)
        return self._children.call(work, {"verb": "convert", "out": str(self._out)}, self.telling)

    @contextmanager
    def neighbour(self, memory: int, leaves: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Another build's child that holds memory, until it `leaves`."""
        inside, done = threading.Event(), threading.Event()

        def stay() -> None:
            with self.admission.building(), self.admission.admitted(memory, lambda: False):
                inside.set()
                while not done.wait(0.1) and not leaves():
                    pass

        thread = threading.Thread(target=stay)
        with self.admission.building():
            thread.start()
            assert inside.wait(PATIENCE)
            yield
        done.set()
        thread.join()

    def said(self) -> str:
        return " ".join(line.text for line in self._journal.log("one"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    yield made
    made.close()


def test_a_child_that_held_more_than_its_neighbours_left_runs_again_alone(bench: Bench, journal: Journal) -> None:
    bench.program(HOLDS_300_MIB)
    machine = Machine(bench, journal, 1000 * MIB)
    with machine.neighbour(850 * MIB, leaves=lambda: "again" in machine.said()):
        reply = machine.convert(expected=100 * MIB)
    assert reply.artifacts[0].files[0].path == "m.gguf"
    assert "it runs again, alone" in machine.said()


def test_a_child_that_holds_more_than_the_whole_budget_is_stopped_for_good(bench: Bench, journal: Journal) -> None:
    bench.program(HOLDS_300_MIB)
    machine = Machine(bench, journal, 200 * MIB)
    with pytest.raises(MemoryExceeded, match="is its limit"):
        machine.convert(expected=100 * MIB)
    assert "again" not in machine.said()


def test_what_a_child_held_is_what_the_next_one_is_promised(bench: Bench, journal: Journal) -> None:
    bench.program(HOLDS_300_MIB)
    machine = Machine(bench, journal, 1000 * MIB)
    machine.convert(expected=100 * MIB)
    (bench.out / "left").unlink()
    # As much as was expected would fit beside the neighbour; as much as was held does not, and waits for it to leave.
    with machine.neighbour(850 * MIB, leaves=lambda: bool(machine.admission._waiting)):
        machine.convert(expected=100 * MIB)
    assert "again" not in machine.said()
