"""A token that a converter prints, or that the Hub says back, is in no log, no database and no error."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_backend import Bench
from huggingface_hub import HfApi
from pydantic import SecretStr

from bot import converter, logs, sandbox, toolchain
from bot.builds import Failure
from bot.errors import ConverterFailed, PhimillError
from bot.journal import Journal
from bot.steps import Steps
from bot.telling import Telling
from bot.tokens import Keyring

LENT = "oauth-token-of-ann"
TOKEN = "hf_" + "Canary7" * 5


@pytest.fixture(autouse=True)
def _lent() -> Iterator[None]:
    keys = Keyring()
    keys.lend("ann", SecretStr(LENT))
    yield
    keys.keep_only(())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    yield journal
    journal.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the log of a service has, down to the last line."""
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logs.formatter(json=True, colors=False))
    return caplog


def nobody_is_shown(secret: str, journal: Journal, log: pytest.LogCaptureFixture, folder: Path) -> None:
    assert secret not in log.text
    assert secret not in str(journal.log("b1")) + str(journal.progress("b1"))
    for path in folder.glob("journal.sqlite*"):
        assert secret.encode() not in path.read_bytes(), path


PROGRAM = f"""
say("log", level="info", text="found {TOKEN}")
say("progress", stage="with {LENT}", done=1, total=2, unit="files")
print("as {TOKEN} and {LENT}", file=sys.stderr, flush=True)
print("Authorization: Bearer {LENT}", flush=True)
say("error", code="failed", message="cannot use {TOKEN}", hint="nor {LENT}")
sys.exit(1)
"""


def test_a_token_that_a_converter_prints_is_shown_to_nobody(
    tmp_path: Path, journal: Journal, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    tools = toolchain.Toolchain("fake", Path(sys.prefix), Path(sys.executable), "0" * 64, {"fake": "1"})
    monkeypatch.setattr(toolchain, "converters_root", lambda: bench.root)
    monkeypatch.setattr(toolchain, "ensure", lambda *_, **__: tools)
    bench.program(PROGRAM)
    telling = Telling(journal, "b1", "convert")
    with pytest.raises(ConverterFailed) as caught:
        converter.call(
            "fake", {"verb": "convert", "out": str(bench.out)}, read=[], write=[bench.out], work=bench.work,
            limits=sandbox.Limits(memory=2**30, wall=60), on_progress=telling.progress, on_log=telling.log,
            settings=bench.settings,
        )  # fmt: skip
    said = " ".join(line.text for line in journal.log("b1"))
    assert "found ***" in said
    assert "as *** and ***" in said
    for secret in (TOKEN, LENT):
        assert secret not in Failure.of(caught.value).model_dump_json()
        nobody_is_shown(secret, journal, log, tmp_path)


class _Echo(BaseHTTPRequestHandler):
    """A Hub that says back what it was sent, as a proxy's page of complaint does."""

    def do_GET(self) -> None:
        self.send_response(400)
        self.send_header("X-Error-Message", f"cannot take {self.headers['Authorization']} from {TOKEN}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_token_in_an_answer_of_the_hub_is_shown_to_nobody(
    tmp_path: Path, journal: Journal, log: pytest.LogCaptureFixture, echo: str
) -> None:
    steps = Steps.in_foreground("b1", journal)
    with pytest.raises(PhimillError) as caught:
        # Called as no module of ours does: what nobody foresaw is kept with its traceback.
        steps.run("look", lambda: HfApi(endpoint=echo, token=LENT).model_info("microsoft/phi"))
    assert "cannot take Bearer *** from ***" in journal.log("b1")[0].text
    [line] = [line for line in map(json.loads, log.text.splitlines()) if line["logger"] == "bot.journal"]
    assert (line["build"], line["stage"], line["level"]) == ("b1", "look", "error")
    for secret in (TOKEN, LENT):
        assert secret not in str(caught.value)
        nobody_is_shown(secret, journal, log, tmp_path)
