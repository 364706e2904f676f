"""`phimill advise` against a fake mill: what is asked of it, what is shown, exit codes."""

from __future__ import annotations

import json

import pytest
from fake_mill import REPO, TARGET, FakeMill, advice, choice

from bot.advisor import Advice
from bot.cli.entry import run
from bot.errors import UsageError
from bot.settings import get_settings


@pytest.fixture
def mill(monkeypatch: pytest.MonkeyPatch) -> FakeMill:
    made = FakeMill()
    get_settings.cache_clear()
    monkeypatch.setattr("bot.mill.Mill", lambda settings: made)
    return made


def test_advise_shows_the_pick_the_runner_up_why_and_how(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["advise", REPO, "--device", "phone", "--memory", "8GB", "--context", "4096", "--to", "me"]) == 0
    assert ("advise", REPO, "phone", 8 * 10**9, 4096, "me") in mill.calls
    said = capsys.readouterr().out
    pick, runner_up = (next(line for line in said.splitlines() if name in line) for name in ("take", "runner-up"))
    assert pick.split() == [
        *("take", "gguf/int4", "2.4", "GB", "537", "MB", "541", "MB", "3.5", "GB", "500", "MB", "0.0123"),
        f"{TARGET}@v1.0",
    ]
    assert "not published yet" in runner_up
    for part in ("Phone with 8.0 GB, 4.0 GB of it for a model; 4096 tokens", "It is the nearest.", "A note."):
        assert part in said
    assert "gguf/int4: Mind the [RoPE]." in said
    assert "Python:\n  pip install it\n  run()\n  again()\n" in said
    assert f"The card of {TARGET} has other ways to run it." in said


def test_the_device_s_usual_memory_and_context_are_left_to_the_mill(mill: FakeMill) -> None:
    assert run(["advise", REPO, "--device", "phone"]) == 0
    assert ("advise", REPO, "phone", None, None, None) in mill.calls
    assert mill.closed


def test_advise_prints_the_advice_as_one_object(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["advise", REPO, "--device", "phone", "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert Advice.model_validate(answer) == mill.answer
    assert answer["pick"]["needs"]["total"] == 3_478_000_000


def test_where_nothing_fits_the_smallest_is_shown_and_the_exit_code_is_6(
    mill: FakeMill, capsys: pytest.CaptureFixture[str]
) -> None:
    mill.answer = advice(None, smallest=choice("gguf/q2_k", -900_000_000))
    assert run(["advise", REPO, "--device", "phone"]) == 6
    said = capsys.readouterr().out
    assert "smallest" in said
    assert "-900 MB" in said
    assert "run()" not in said


def test_where_there_is_nothing_for_the_device_the_exit_code_is_3(
    mill: FakeMill, capsys: pytest.CaptureFixture[str]
) -> None:
    mill.answer = advice(None)
    assert run(["advise", REPO, "--device", "phone"]) == 3
    assert "KV cache" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "toaster"], "phone, iot, laptop"),
        (["--device", "phone", "--memory", "lots"], "8GB, 8 GiB or 512MB"),
        (["--device", "phone", "--context", "0"], "--context"),
        ([], "--device"),
    ],
)
@pytest.mark.usefixtures("mill")
def test_what_cannot_be_understood_is_explained(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["advise", REPO, *words]) == UsageError.exit_code
    assert said in capsys.readouterr().err
