from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.builds import Progress
from bot.journal import Journal
from bot.telling import Telling


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")


def test_log_lines_are_numbered_per_build_and_read_from_where_one_left_off(journal: Journal) -> None:
    for text in ("one", "two", "three"):
        journal.write("a", "info", "fetch", text)
    journal.write("b", "info", "fetch", "other")
    assert [(line.number, line.text) for line in journal.log("a", after=1)] == [(2, "two"), (3, "three")]
    assert [line.number for line in journal.log("b")] == [1]


def test_a_line_that_no_database_can_hold_is_made_one_that_it_can(journal: Journal) -> None:
    journal.write("a", "info" * 9, "s" * 99, "nul\x00 byte")
    assert journal.log("a")[0].text == "nul byte"


def test_the_newest_progress_is_kept(journal: Journal) -> None:
    assert journal.progress("a") is None
    journal.set_progress("a", Progress(stage="fetch", done=1, total=4))
    journal.set_progress("a", Progress(stage="fetch", done=2, total=4, unit="bytes"))
    found = journal.progress("a")
    assert found is not None
    assert (found.done, found.percent) == (2, 50.0)


def test_tries_of_a_step_count_until_it_ends(journal: Journal) -> None:
    assert [journal.begin_step("a", "convert") for _ in range(3)] == [1, 2, 3]
    assert journal.begin_step("a", "prove") == 1
    journal.end_step("a", "convert")
    assert journal.begin_step("a", "convert") == 1


def test_notes_can_be_set_and_set_again(journal: Journal) -> None:
    assert journal.note("paused") is None
    journal.set_note("paused", "yes")
    journal.set_note("paused", "")
    assert journal.note("paused") == ""


def test_what_was_written_is_there_for_the_next_process(journal: Journal, tmp_path: Path) -> None:
    journal.write("a", "info", "fetch", "kept")
    journal.close()
    assert [line.text for line in Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}").log("a")] == ["kept"]


def test_several_builds_may_write_at_once(journal: Journal) -> None:
    def write(build: str) -> None:
        for number in range(20):
            journal.write(build, "info", "s", str(number))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([line.text for line in journal.log(name)] == [str(n) for n in range(20)] for name in "abcd")


def test_builds_that_note_the_same_thing_at_once_leave_one_of_their_notes(journal: Journal) -> None:
    names, start, wrong = [f"peak:{number}" for number in range(20)], threading.Barrier(4), list[BaseException]()

    def note(value: str) -> None:
        try:
            for name in names:
                start.wait(30)
                journal.set_note(name, value)
        except BaseException as error:
            wrong.append(error)
            start.abort()

    threads = [threading.Thread(target=note, args=(value,)) for value in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {journal.note(name) for name in names} <= set("abcd")


def test_a_stage_says_how_long_it_will_take(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 101.0, 111.0, 111.1])
    monkeypatch.setattr("bot.telling.time", SimpleNamespace(monotonic=lambda: next(clock)))
    telling = Telling(journal, "a", "fetch", "gguf/int4")
    telling.progress("weights", 0, 40, "bytes")
    telling.progress("weights", 10, 40, "bytes")
    telling.progress("weights", 11, 40, "bytes")
    found = journal.progress("a")
    assert found is not None
    assert (found.stage, found.done, found.eta) == ("fetch: weights", 10, pytest.approx(30))


def test_the_last_word_of_a_stage_is_never_dropped(journal: Journal) -> None:
    telling = Telling(journal, "a", "fetch")
    telling.progress("weights", 1, 2, "files")
    telling.progress("weights", 2, 2, "files")
    found = journal.progress("a")
    assert found is not None
    assert found.percent == 100


def test_notes_are_found_by_how_their_names_begin(journal: Journal) -> None:
    for name in ("why:a", "why:b", "why%:c", "seen:a"):
        journal.set_note(name, name)
    assert journal.notes("why:") == {"why:a": "why:a", "why:b": "why:b"}
    assert journal.notes("why%") == {"why%:c": "why%:c"}


def test_the_memory_a_child_holds_is_told_until_it_ends(journal: Journal) -> None:
    telling = Telling(journal, "a", "convert", "gguf/int4")
    telling.memory(5_000)
    telling.progress("export", 1, 2, "files")
    said = journal.progress("a")
    assert said is not None
    assert (said.memory, said.stage) == (5_000, "convert: export")
    telling.memory(0)
    said = journal.progress("a")
    assert said is not None
    assert said.memory is None
