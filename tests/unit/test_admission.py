"""Who may run a converter now: what several builds get of one machine, and in which order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bot import admission
from bot.admission import Admission, Grant, Peaks
from bot.errors import BuildCancelled
from bot.journal import Journal
from bot.settings import Settings

CORES, BUDGET = 4, 100
PATIENCE = 30  # seconds; only a failing test waits so long


@pytest.fixture
def machine() -> Admission:
    return Admission(Settings(threads=CORES, memory_budget=BUDGET))


class Child(threading.Thread):
    """Somebody who asks for memory, notes when it comes in, and stays until it is let go."""

    def __init__(self, machine: Admission, memory: int, order: list[str], *, name: str, person: bool = False) -> None:
        super().__init__(name=name, daemon=True)
        self._machine, self._memory, self._order, self._person = machine, memory, order, person
        self.grant: Grant | None = None
        self.error: BaseException | None = None
        self.cancelled, self.inside, self.leave = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            with self._machine.admitted(self._memory, self.cancelled.is_set, person=self._person) as self.grant:
                self._order.append(self.name)
                self.inside.set()
                assert self.leave.wait(PATIENCE)
        except BaseException as error:
            self.error = error

    def begin(self) -> Child:
        """Start, and be in line or inside."""
        before = len(self._machine._waiting)
        self.start()
        until(lambda: self.inside.is_set() or len(self._machine._waiting) > before)
        return self

    def end(self) -> None:
        self.leave.set()
        self.join(PATIENCE)
        assert not self.is_alive()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.001)


def never() -> bool:
    return False


@contextmanager
def builds(machine: Admission, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(machine.building())
        yield


# --- how much ------------------------------------------------------------------------------------------------


def test_whoever_is_alone_gets_every_core_and_the_whole_budget(machine: Admission) -> None:
    with machine.building(), machine.admitted(10, never) as grant:
        assert grant == Grant(threads=CORES, memory=BUDGET)


@pytest.mark.parametrize(("count", "threads"), [(1, 4), (2, 2), (3, 1), (4, 1), (9, 1)])
def test_builds_that_go_on_side_by_side_share_the_cores(machine: Admission, count: int, threads: int) -> None:
    with builds(machine, count), machine.admitted(10, never) as grant:
        assert grant.threads == threads


def test_cores_that_nobody_has_the_memory_to_use_go_to_who_comes_now(machine: Admission) -> None:
    with builds(machine, 4), machine.admitted(BUDGET // 2 + 1, never) as grant:
        assert grant.threads == CORES


@pytest.mark.parametrize(("behind", "threads"), [(40, 1), (80, CORES)])
def test_who_waits_next_decides_whether_cores_are_left_for_them(machine: Admission, behind: int, threads: int) -> None:
    order: list[str] = []
    with builds(machine, 4):
        with machine.admitted(60, never):
            first = Child(machine, 50, order, name="first").begin()
            second = Child(machine, behind, order, name="second").begin()
        until(first.inside.is_set)
        assert first.grant is not None
        assert first.grant.threads == threads
        first.end()
        second.end()


def test_a_build_that_has_ended_leaves_its_share_to_the_others(machine: Admission) -> None:
    with machine.building():
        with machine.building():
            pass
        with machine.admitted(10, never) as grant:
            assert grant.threads == CORES


def test_a_share_that_has_grown_is_cut_to_what_the_others_leave(machine: Admission) -> None:
    with ExitStack() as running:
        with builds(machine, 4):
            for _ in range(3):
                assert running.enter_context(machine.admitted(10, never)).threads == 1
        with machine.building(), machine.admitted(10, never) as grant:
            assert grant.threads == 1


def test_a_child_may_hold_what_the_others_were_not_promised(machine: Admission) -> None:
    with builds(machine, 2), machine.admitted(40, never), machine.admitted(30, never) as grant:
        assert grant.memory == BUDGET - 40


def test_what_fits_exactly_fits(machine: Admission) -> None:
    with builds(machine, 2), machine.admitted(40, never), machine.admitted(BUDGET - 40, never) as grant:
        assert grant == Grant(threads=CORES, memory=BUDGET - 40), "it leaves nobody room, so it gets all cores"


def test_a_child_that_broke_gives_back_what_it_had(machine: Admission) -> None:
    with pytest.raises(ZeroDivisionError), machine.admitted(90, never):
        raise ZeroDivisionError
    with machine.admitted(90, never) as grant:
        assert grant == Grant(threads=CORES, memory=BUDGET)


def test_there_are_never_more_of_them_than_cores_nor_do_they_get_more_memory_than_the_budget() -> None:
    machine, dice = Admission(Settings(threads=CORES, memory_budget=BUDGET)), random.Random(1)
    inside: dict[int, tuple[int, int]] = {}
    guard, wrong, ran = threading.Lock(), list[str](), list[int]()

    def child(number: int, memory: int) -> None:
        with machine.building(), machine.admitted(memory, never, person=number % 3 == 0) as grant:
            with guard:
                inside[number] = (grant.threads, memory)
                held = sum(memory for _, memory in inside.values())
                crowded = len(inside) > CORES or (held > BUDGET and len(inside) > 1)
                if crowded or not 1 <= grant.threads <= CORES:
                    wrong.append(f"{inside}")
                ran.append(number)
            time.sleep(0)
            with guard:
                del inside[number]

    for number in range(60):
        memory = dice.randint(1, BUDGET * 5 // 4)
        threading.Thread(target=child, args=(number, memory), daemon=True).start()
    until(lambda: len(ran) == 60)
    assert sorted(ran) == list(range(60))
    assert not wrong


# --- in which order ------------------------------------------------------------------------------------------


def test_one_that_needs_more_than_there_is_runs_alone(machine: Admission) -> None:
    order: list[str] = []
    with builds(machine, 3):
        small = Child(machine, 1, order, name="small").begin()
        large = Child(machine, 5 * BUDGET, order, name="large").begin()
        late = Child(machine, 1, order, name="late").begin()
        assert order == ["small"]
        small.end()
        assert large.inside.wait(PATIENCE)
        assert large.grant is not None
        assert large.grant.memory == BUDGET
        assert order == ["small", "large"]
        large.end()
        assert late.inside.wait(PATIENCE)
        late.end()


def test_a_small_one_does_not_overtake_a_large_one_that_waits(machine: Admission) -> None:
    order: list[str] = []
    with builds(machine, 3):
        running = Child(machine, 40, order, name="running").begin()
        large = Child(machine, 70, order, name="large").begin()
        small = Child(machine, 50, order, name="small").begin()  # it would fit beside the one that runs
        assert order == ["running"]
        running.end()
        assert large.inside.wait(PATIENCE)
        assert order == ["running", "large"]
        large.end()
        assert small.inside.wait(PATIENCE)
        small.end()


def test_who_came_first_goes_first(machine: Admission) -> None:
    order: list[str] = []
    with builds(machine, 1):
        children = [Child(machine, BUDGET, order, name=str(number)).begin() for number in range(5)]
        for child in children:
            assert child.inside.wait(PATIENCE)
            child.end()
    assert order == ["0", "1", "2", "3", "4"]


def test_people_go_before_the_watcher_that_asked_first(machine: Admission) -> None:
    order: list[str] = []
    running = Child(machine, BUDGET, order, name="running").begin()
    watchers = Child(machine, BUDGET, order, name="watcher's").begin()
    persons = Child(machine, BUDGET, order, name="person's", person=True).begin()
    running.end()
    assert persons.inside.wait(PATIENCE)
    persons.end()
    assert watchers.inside.wait(PATIENCE)
    watchers.end()
    assert order == ["running", "person's", "watcher's"]


def test_who_is_cancelled_while_waiting_leaves_the_line(machine: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "POLL_SECONDS", 0.01)
    order: list[str] = []
    with builds(machine, 3):
        running = Child(machine, 40, order, name="running").begin()
        large = Child(machine, 70, order, name="large").begin()
        small = Child(machine, 50, order, name="small").begin()
        large.cancelled.set()
        large.join(PATIENCE)
        assert isinstance(large.error, BuildCancelled)
        assert small.inside.wait(PATIENCE), "nobody is in its way any more"
        assert running.is_alive()
        small.end()
        running.end()
    assert order == ["running", "small"]


# --- what was seen before ------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    yield journal
    journal.close()


def test_the_first_time_the_estimate_is_all_there_is(journal: Journal) -> None:
    assert Peaks(journal).corrected("convert x/int4", 3_800_000_000, 7) == 7


def test_what_was_seen_corrects_the_estimate_in_proportion_to_the_parameters(journal: Journal) -> None:
    Peaks(journal).remember("convert x/int4", 2_000_000_000, 5_000_000_000)
    assert Peaks(journal).corrected("convert x/int4", 4_000_000_000, 7) == 10_000_000_000


@pytest.mark.parametrize(
    ("work", "parameters"),
    [("convert x/int4", 999_999_999), ("convert x/int4", 10_000_000_000), ("evaluate x/int4", 2_000_000_000)],
    ids=["a much smaller model", "a much larger model", "other work"],
)
def test_what_was_seen_says_nothing_about(journal: Journal, work: str, parameters: int) -> None:
    Peaks(journal).remember("convert x/int4", 2_000_000_000, 5_000_000_000)
    assert Peaks(journal).corrected(work, parameters, 7) == 7


@pytest.mark.parametrize("less", [0, 1_000_000_000], ids=["one that ended before it was looked at", "less work"])
def test_the_most_that_was_seen_is_what_counts(journal: Journal, less: int) -> None:
    """A variant whose base lies there already, or whose child ends at once, says nothing about the next one."""
    for peak in (less, 5_000_000_000, less):
        Peaks(journal).remember("convert x/int4", 2_000_000_000, peak)
    assert Peaks(journal).corrected("convert x/int4", 2_000_000_000, 7) == 5_000_000_000


def test_a_child_that_was_never_seen_to_hold_anything_leaves_the_estimate_as_it_is(journal: Journal) -> None:
    Peaks(journal).remember("convert x/int4", 2_000_000_000, 0)
    assert Peaks(journal).corrected("convert x/int4", 2_000_000_000, 7) == 7
