"""How numbers and times are spelled."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fake_mill import NOON, build, published, request, verdict

from bot.builds import Failure, Phase, Progress, Target
from bot.models import Status
from bot.ui import words


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, ""),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_423_000, "1.4 MB"),
        (7.64e9, "7.6 GB"),
        (2e15, "2000 TB"),
    ],
)
def test_sizes_are_counted_in_thousands(count: float | None, said: str) -> None:
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, ""), (0.0, "0.0000"), (0.01234, "0.0123"), (3.2e-6, "3.2e-06"), (1e-4, "0.0001")]
)
def test_small_divergences_are_not_rounded_away(value: float | None, said: str) -> None:
    assert words.nats(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "just now"), (200, "3 min ago"), (7300, "2 h ago"), (90000, "yesterday"), (300000, "3 days ago")],
)
def test_times_are_told_as_people_do(seconds: int, said: str) -> None:
    assert words.ago(NOON, NOON + timedelta(seconds=seconds)) == said


def test_progress_counts_in_its_own_unit() -> None:
    assert words.amount(Progress(stage="fetch", done=1.5e6, total=3e6, unit="B")) == "1.5 MB of 3.0 MB"
    assert words.amount(Progress(stage="prove", done=3, total=12, unit="windows")) == "3 of 12 windows"
    assert words.amount(Progress(stage="prove")) == ""


def test_where_a_build_stands_is_one_phrase() -> None:
    assert words.outcome(build(phase=Phase.WAITING, position=2)) == "number 2 in the queue"
    assert words.outcome(build(phase=Phase.RUNNING, progress=Progress(stage="fetch"))) == "fetch"
    assert (
        words.outcome(build(phase=Phase.FAILED, failure=Failure(code="error", message="Disk full."))) == "Disk full."
    )
    assert words.outcome(build(results=(published("gguf/int4"), published("gguf/int8")))) == "2 published"


def test_reasons_that_several_recipes_share_are_said_once() -> None:
    alike = [
        verdict("gguf/int4", Status.CAVEAT, "Short contexts."),
        verdict("gguf/int8", Status.CAVEAT, "Short contexts."),
    ]
    assert words.grounds(alike) == [("Every recipe", "Short contexts.", ())]
    assert words.grounds([*alike, verdict("gguf/fp16")]) == [("gguf/int4, gguf/int8", "Short contexts.", ())]
    assert words.grounds([verdict("gguf/fp16")]) == []


def test_pull_lines_name_the_hub_the_file_and_the_version() -> None:
    for line in words.pull_lines("phimill/x-GGUF", "v1.0", "x-Q4_K_M.gguf", "http://127.0.0.1:1", "hf", "python"):
        assert line.startswith("HF_ENDPOINT=http://127.0.0.1:1 ")
        assert "x-Q4_K_M.gguf" in line


def test_where_a_build_publishes_to_is_one_repo_or_a_number_of_them() -> None:
    one = request()
    assert words.targets(one) == "phimill/Phi-3.5-tiny-instruct-GGUF as v1.0"
    more = (*one.targets, Target(repo="phimill/another", version="v2.0", recipes=()))
    assert words.targets(one.model_copy(update={"targets": more})) == "2 repos of phimill"
