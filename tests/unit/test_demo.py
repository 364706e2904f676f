"""The demonstration's own part: accounts, the token, ports, and its surroundings. The whole of it is `make demo`."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from fake_mill import published

from bot import demo
from bot.cli.entry import run
from bot.errors import PhimillError, UsageError
from bot.localhub import HubConfig


def test_the_bot_s_account_cannot_write_where_it_reads(tmp_path: Path) -> None:
    config = HubConfig(tmp_path)
    demo._make_accounts(config)
    demo._make_accounts(config)
    assert config.accounts.orgs == {"microsoft": {"uploader": "admin"}, "phimill": {"miller": "admin"}}


def test_the_token_is_kept_for_the_owner_s_eyes_and_used_again(tmp_path: Path) -> None:
    config, file = HubConfig(tmp_path), tmp_path / "token"
    demo._make_accounts(config)
    token = demo._kept_token(config, file)
    assert demo._kept_token(config, file) == token
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("hf_of_another_hub")
    assert demo._kept_token(config, file) != "hf_of_another_hub"


def test_a_taken_port_is_left_alone() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo._port(port) != port


def test_nobody_s_hub_settings_reach_the_demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_my_own")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    environment = demo._environment(tmp_path, "http://127.0.0.1:1", "hf_demo", "make demo")
    assert environment["HF_TOKEN"] == "hf_demo"
    assert environment["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert "HF_HUB_OFFLINE" not in environment
    assert environment["PHIMILL_HOST"] == "127.0.0.1"
    assert json.loads(environment["PHIMILL_WATCH"]) == ["microsoft"]


def test_without_the_tiny_model_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "MODEL", tmp_path / "nothing")
    assert run(["demo", "--root", str(tmp_path)]) == UsageError.exit_code
    assert "Clone the repository" in capsys.readouterr().err


def test_a_hub_that_ends_at_once_is_an_error_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        pytest.raises(PhimillError, match="did not start"),
        demo._running([sys.executable, "-c", ""], {}) as process,
    ):
        demo._await(process, port)


def test_a_child_ends_with_the_demonstration() -> None:
    with demo._running([sys.executable, "-c", "import time; time.sleep(60)"], {}) as process:
        assert process.poll() is None
    assert process.returncode is not None


def test_the_table_of_one_round_is_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = demo.Demo(tmp_path, "http://127.0.0.1:1", "hf_demo", "")
    monkeypatch.setattr(shown, "bot", lambda *words: 0)
    monkeypatch.setattr(shown, "results", lambda: (published("gguf/int4", "already_published"),))
    monkeypatch.setattr(demo, "opened", lambda *_: nullcontext(shown))
    assert run(["demo", "--once"]) == 0
    said = capsys.readouterr()
    assert "1.4 MB   0.0123  93.4 %  phimill/Phi-3.5-tiny-instruct-GGUF@v1.0" in said.out
    assert "HF_ENDPOINT=http://127.0.0.1:1" in said.err
