"""The command line against a fake mill: answers, formats, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import timedelta
from typing import get_args

import pytest
from fake_mill import NOON, REPO, SHA, FakeMill, build, published, request, verdict

from bot.builds import Failure, LogLine, Phase, VariantResult
from bot.cli import output, render
from bot.cli.entry import run
from bot.cli.stopping import Terminated
from bot.errors import GateFailed, HubUnreachable, NotEnoughRoom, VerdictRefused
from bot.models import Status
from bot.releases import State
from bot.settings import get_settings


def test_every_state_of_a_variant_can_be_shown() -> None:
    assert set(render.STATE_STYLES) == set(get_args(State))
    assert set(render.VERDICT_STYLES) == set(Status)
    assert set(render.PHASE_STYLES) == set(Phase)
    assert set(render.RESULT_STYLES) == set(get_args(VariantResult.model_fields["status"].annotation))


@pytest.fixture
def mill(monkeypatch: pytest.MonkeyPatch) -> FakeMill:
    made = FakeMill()
    get_settings.cache_clear()
    monkeypatch.setattr("bot.mill.Mill", lambda settings: made)
    return made


def test_check_shows_a_verdict_per_recipe(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", REPO]) == 0
    said = capsys.readouterr()
    assert "gguf/int4" in said.out
    assert "yes" in said.out
    assert said.err == ""
    assert mill.closed


def test_check_exits_with_3_when_nothing_can_be_made(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.verdicts = (verdict("gguf/int4", Status.UNSUPPORTED, "No vision."),)
    assert run(["check", REPO]) == 3
    assert "No vision." in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--format", "json", "check", REPO], ["check", REPO, "--format", "json"]])
def test_json_can_be_asked_for_before_and_after_the_command(
    mill: FakeMill, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["release"]["sha"] == SHA


def test_convert_prints_one_object_as_json(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", REPO, "--format", "json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert set(answer) == {"release", "variants", "build"}
    assert answer["release"] == {"repo": REPO, "sha": SHA}
    assert answer["build"] == mill.ending.id
    assert [v["recipe"] for v in answer["variants"]] == ["gguf/int4", "gguf/int8"]
    assert answer["variants"][0]["tag"] == "v1.0"
    assert "Fetching the source." in said.err


def test_convert_lists_the_builds_of_several_backends(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.planned = (request(), request(backend="onnx"))
    run(["convert", REPO, "--format", "json"])
    assert json.loads(capsys.readouterr().out)["build"] == ["1" * 32 + "-1", "2" * 32 + "-1"]


def test_convert_passes_recipes_and_namespace_on(mill: FakeMill) -> None:
    assert run(["convert", REPO, "--recipe", "gguf/int4", "--recipe", "gguf/int8", "--to", "me"]) == 0
    assert ("plan", REPO, ("gguf/int4", "gguf/int8"), "me") in mill.calls


def test_convert_works_only_when_there_is_something_to_build(
    mill: FakeMill, capsys: pytest.CaptureFixture[str]
) -> None:
    mill.planned, mill.standing = (), (published("gguf/int4", "already_published"),)
    assert run(["convert", REPO]) == 0
    assert ("working",) not in mill.calls
    assert "already there" in capsys.readouterr().out


def test_convert_leaves_the_work_to_a_process_that_is_at_it(mill: FakeMill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mill, "others_working", lambda: True)
    assert run(["convert", REPO]) == 0
    assert ("working",) not in mill.calls


def test_a_dry_run_builds_nothing_and_shows_the_cards(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", REPO, "--dry-run"]) == 0
    assert "# A card" in capsys.readouterr().out
    assert not any(call[0] in ("submit", "working") for call in mill.calls)


@pytest.mark.parametrize(
    ("failure", "code"),
    [(GateFailed("It differs."), 4), (NotEnoughRoom("The disk is full."), 6), (HubUnreachable("Nobody there."), 5)],
)
def test_a_failed_build_gives_the_exit_code_of_its_error(
    mill: FakeMill, capsys: pytest.CaptureFixture[str], failure: GateFailed, code: int
) -> None:
    mill.ending = build(phase=Phase.FAILED, failure=Failure.of(failure))
    assert run(["convert", REPO]) == code
    assert failure.message in capsys.readouterr().err


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--recipe", "gguf/fp32"], 3)])
def test_a_refused_variant_is_an_error_only_when_it_was_named(mill: FakeMill, words: list[str], code: int) -> None:
    mill.standing = (published("gguf/fp32", "refused"),)
    assert run(["convert", REPO, *words]) == code


def test_a_variant_that_failed_the_gate_gives_4(mill: FakeMill) -> None:
    mill.ending = build(results=(published("gguf/int4"), published("gguf/int8", "gate_failed")))
    assert run(["convert", REPO]) == 4


def test_an_error_is_two_sentences_on_stderr(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.error = VerdictRefused("This is no Phi.", "Try another one.")
    assert run(["convert", REPO]) == 3
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Error: This is no Phi.\nTry another one.\n")


def test_an_error_as_json_is_one_object_on_stderr(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.error = HubUnreachable("Nobody there.", "Wait.")
    assert run(["convert", REPO, "--format", "json"]) == 5
    wrong = {"code": "hub_unreachable", "message": "Nobody there.", "hint": "Wait."}
    assert json.loads(capsys.readouterr().err) == {"error": wrong}


def test_an_error_that_nobody_foresaw_is_no_traceback(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.interruption = ZeroDivisionError("oops")
    assert run(["convert", REPO]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["chekc"], ["check"], ["check", REPO, "--format", "xml"], ["convert", "--nope"]])
def test_what_cannot_be_read_gives_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(("signal", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_an_interrupted_conversion_says_how_to_go_on(
    mill: FakeMill, capsys: pytest.CaptureFixture[str], signal: BaseException, code: int
) -> None:
    mill.interruption = signal
    assert run(["convert", REPO, "--to", "a b"]) == code
    said = capsys.readouterr().err
    assert f"Nothing is lost: run `phimill convert {REPO} --to 'a b'` to go on." in said
    assert mill.closed


def test_status_lists_builds(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.known = [build("a" * 32, Phase.WAITING, position=2)]
    mill.paused = True
    assert run(["status"]) == 0
    said = capsys.readouterr().out
    assert "aaaaaaaa" in said
    assert "number 2 in the queue" in said
    assert "Paused" in said


def test_status_of_one_build_shows_its_results(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.known = [build("a" * 32, results=(published("gguf/int4"),))]
    assert run(["status", "aaaa"]) == 0
    assert "phimill/Phi-3.5-tiny-instruct-GGUF@v1.0" in capsys.readouterr().out
    assert run(["status", "bbbb"]) == 2


def test_logs_prints_every_line_once(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.known = [build("a" * 32)]
    mill.lines = [
        LogLine(number=n, at=NOON + timedelta(seconds=n), level="info", stage="fetch", text=f"line {n}")
        for n in (1, 2)
    ]
    assert run(["logs", "aaaa", "-f"]) == 0
    assert capsys.readouterr().out == "12:00:01 fetch line 1\n12:00:02 fetch line 2\n"
    run(["logs", "aaaa", "--format", "json"])
    assert [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()] == [1, 2]


def test_cancel_and_retry_name_the_build(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.known = [build("a" * 32, Phase.RUNNING)]
    assert run(["cancel", "aaaa"]) == 0
    assert "cancelled" in capsys.readouterr().out
    assert run(["retry", "aaaa", "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["phase"] == "waiting"
    assert "phimill up" in said.err


def test_pause_and_resume(mill: FakeMill) -> None:
    assert run(["pause"]) == 0
    assert mill.paused
    assert run(["resume"]) == 0
    assert not mill.paused


def test_one_round_of_watching_ends_when_the_queue_is_empty(
    mill: FakeMill, capsys: pytest.CaptureFixture[str]
) -> None:
    mill.known = [build(phase=Phase.WAITING)]
    assert run(["watch", "--once", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["builds"][0]["id"] == mill.ending.id
    assert [call[0] for call in mill.calls] == ["working", "reconcile", "drain", "releases", "stopped working"]


def test_what_a_terminal_would_obey_is_not_printed(mill: FakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    mill.verdicts = (verdict("gguf/int4", Status.CAVEAT, "\x1b[31mred\x07 [bold]not bold[/] \u202eback"),)
    run(["check", REPO])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "\u202e" not in said
    assert "[bold]not bold[/]" in said


def test_recipes_are_listed_from_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes"]) == 0
    assert "gguf/int4" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("PHIMILL_POLL_SECONDS", "soon"), ("PHIMILL_WATCH", "microsoft")])
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    get_settings.cache_clear()
    monkeypatch.setenv(name, value)
    assert run(["status"]) == 2
    assert name.removeprefix("PHIMILL_").lower() in capsys.readouterr().err.lower()


def test_help_needs_nothing_heavy() -> None:
    heavy = {"gradio", "dbos", "bot.mill", "pydantic", "huggingface_hub"}
    code = f"import sys, bot.cli; print(*sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_reader_that_has_read_enough_is_no_error(mill: FakeMill, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(output.Output, "answer", closed)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert run(["status"]) == 0
