"""The log: what a line looks like for people and for machines, whose lines go there, and that no secret does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOKEN = "hf_" + "cAnary42" * 4
SECRET = "known-to-nobody"

# What a service does before it serves, and then the test's own lines. One process each, for the log is a process's.
SERVICE = """
import logging, threading, warnings
from pathlib import Path
from bot import logs
from bot.redaction import SECRETS
from bot.settings import Settings
from structlog.contextvars import bound_contextvars
TOKEN, SECRET = {token!r}, {secret!r}
settings = Settings()
SECRETS.learn(TOKEN, *settings.secrets())
logs.for_services(settings)
log = logs.get_logger("bot.test")
"""


def said(tmp_path: Path, code: str, **env: str) -> str:
    """What a service writes on stderr while it runs this."""
    whole = {**os.environ, "PHIMILL_HOME": str(tmp_path), "HF_TOKEN": TOKEN, "PHIMILL_WEBHOOK_SECRET": SECRET, **env}
    program = SERVICE.format(token=TOKEN, secret=SECRET) + code
    ran = subprocess.run([sys.executable, "-c", program], env=whole, capture_output=True, text=True, check=False)
    assert ran.stdout == ""
    return ran.stderr


def lines(tmp_path: Path, code: str, **env: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said(tmp_path, code, **env).splitlines()]


def test_where_nobody_watches_a_line_is_json_with_the_build_that_it_is_about(tmp_path: Path) -> None:
    code = """
with bound_contextvars(build="b1", repo="microsoft/phi-4", backend="gguf", stage="convert"):
    log.info("It is made.", files=2)
log.debug("Not asked for.")
"""
    [line] = lines(tmp_path, code)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "It is made.", "files": 2, "level": "info", "logger": "bot.test",
        "build": "b1", "repo": "microsoft/phi-4", "backend": "gguf", "stage": "convert",
    }  # fmt: skip


def test_a_field_may_have_a_name_that_logging_uses_itself(tmp_path: Path) -> None:
    code = """
import stamina
log.warning("It is said.", args=(1, 2), name="n", msg="m", module="o")
logging.getLogger("stamina").setLevel(logging.WARNING)
stamina.retry(on=lambda _: not log.info("again"), attempts=2, wait_max=0)(lambda: 1 / 0)()
"""
    said, *_, retried = lines(tmp_path, code + "\n")[:3]
    assert (said["args_"], said["name_"], said["msg_"], said["module_"]) == ([1, 2], "n", "m", "o")
    assert "stamina" in retried["event"]


def test_lines_for_people_can_be_asked_for(tmp_path: Path) -> None:
    text = said(tmp_path, "log.warning('This round was skipped.', error='It is away.')", PHIMILL_LOG_FORMAT="console")
    assert "This round was skipped." in text
    assert "error='It is away.'" in text
    assert "\x1b" not in text


def test_a_level_can_be_asked_for(tmp_path: Path) -> None:
    code = "log.debug('a'); log.info('b'); log.error('c')"
    assert [line["event"] for line in lines(tmp_path, code, PHIMILL_LOG_LEVEL="debug")] == ["a", "b", "c"]
    assert [line["event"] for line in lines(tmp_path, code, PHIMILL_LOG_LEVEL="error")] == ["c"]


def test_what_libraries_say_goes_the_same_way_once(tmp_path: Path) -> None:
    names = ["uvicorn.error", "dbos", "huggingface_hub", "huggingface_hub.hf_api", "apscheduler"]
    code = f"""
import uvicorn
from bot.mill import Mill
Mill(settings).engine
uvicorn.Config("no:app", log_config=None, log_level="warning")
for name in {names}:
    logging.getLogger(name).error("%s says %s", "it", TOKEN)
logging.getLogger("httpx2").info("HTTP Request: GET ...")
"""
    found = lines(tmp_path, code)
    assert [(line["event"], line["logger"], line["level"]) for line in found] == [
        ("it says ***", name, "error") for name in names
    ]


def test_what_a_build_says_is_in_the_log_of_its_worker(tmp_path: Path) -> None:
    code = """
from bot.journal import Journal
journal = Journal(f"sqlite:///{settings.home}/journal.sqlite")
journal.write("b1", "info", "fetch", "100 % of it, with " + TOKEN)
journal.write("b1", "debug", "convert", "chatter")
journal.write("b1", "no such level", "convert", "odd")
"""
    found = lines(tmp_path, code)
    assert [(line["event"], line["build"], line["stage"]) for line in found] == [
        ("100 % of it, with ***", "b1", "fetch"),
        ("odd", "b1", "convert"),
    ]


def test_a_command_shows_builds_itself_and_logs_warnings_only(tmp_path: Path) -> None:
    code = """
from bot.journal import Journal
logs.for_commands()
log.info("a")
log.warning("w")
Journal(f"sqlite:///{settings.home}/journal.sqlite").write("b1", "warning", "s", "shown")
"""
    text = said(tmp_path, code)
    assert "shown" not in text
    assert len(text.splitlines()) == 1
    assert " w " in text


LEAKS = [
    "log.info(f'{TOKEN} {SECRET}')",
    "log.info('Said.', token=TOKEN, deep={'x': [{'y': SECRET}, TOKEN.encode()]})",
    "log.info('Sent.', headers=[('authorization', 'Basic ' + SECRET), (b'x-webhook-secret', b'another')])",
    "with bound_contextvars(repo=TOKEN): log.info('Bound.')",
    "logging.getLogger('bot.x').warning('%s and %s', TOKEN, {'secret': SECRET})",
    "logging.getLogger('bot.x').warning('extra', extra={'more': TOKEN})",
    "warnings.warn(f'odd: {SECRET}')",
    "log.info('Where.', stack_info=True, at=Path('/tmp') / TOKEN)",
]


@pytest.mark.parametrize("shape", ["json", "console"])
def test_no_secret_is_in_a_line(tmp_path: Path, shape: str) -> None:
    text = said(tmp_path, "\n".join(LEAKS), PHIMILL_LOG_FORMAT=shape)
    assert text.count("***") >= len(LEAKS)
    assert TOKEN not in text
    assert SECRET not in text
    assert "another" not in text


FAILS = "raise ValueError(f'refused {TOKEN} {SECRET}')"
CAUGHT = f"try:\n    try:\n        {FAILS}\n    except ValueError as e:\n        raise KeyError(SECRET) from e\n"
FAILURES = [
    CAUGHT + "except KeyError:\n    log.exception('Failed.')",
    CAUGHT + "except KeyError as e:\n    log.warning('Failed.', exc_info=e)",
    CAUGHT + "except KeyError:\n    logging.getLogger('uvicorn.error').exception('Failed.')",
    f"def fail(): {FAILS}\nt = threading.Thread(target=fail); t.start(); t.join()",
    FAILS,  # that nobody catches ends the process
]


@pytest.mark.parametrize("shape", ["json", "console"])
def test_no_secret_is_in_a_traceback_and_the_traceback_is_there(tmp_path: Path, shape: str) -> None:
    text = said(tmp_path, "\n".join(FAILURES), PHIMILL_LOG_FORMAT=shape)
    assert text.count("ValueError: refused ***") == len(FAILURES)
    assert "Traceback (most recent call last)" in text
    assert TOKEN not in text
    assert SECRET not in text


def test_a_log_that_cannot_be_written_spills_nothing(tmp_path: Path) -> None:
    code = "class Odd:\n    def __str__(self): raise OSError(TOKEN)\nlog.info('x', odd=Odd(), secret_text=TOKEN)"
    assert TOKEN not in said(tmp_path, code)
