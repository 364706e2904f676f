"""What the doctor says of this machine, and of machines made up for it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import key_files
import pytest

from bot import doctor, sandbox, toolchain
from bot.settings import Settings


class Whoami(http.server.BaseHTTPRequestHandler):
    """The two answers of the Hub that the doctor asks for."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Bearer hf_canary"
        account = {"name": "ada", "auth": {"accessToken": {"role": "read"}}}
        answer: object = [] if self.path.startswith("/api/models") else account
        self.send_response(200 if known or answer == [] else 401)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Whoami) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(Settings, "endpoint", endpoint)
        yield endpoint
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "not" / "yet", toolchains=tmp_path / "chains")


def with_token(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    monkeypatch.setattr(doctor, "get_token", lambda: token)


def test_the_report_names_the_account_and_never_the_token(
    hub: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_token(monkeypatch, "hf_canary")
    report = doctor.examine(settings)
    assert (report.hub.reachable, report.hub.name, report.hub.role) == (True, "ada", "read")
    assert "The Hub token may only read, so nothing can be published." in report.problems
    assert "hf_canary" not in report.model_dump_json()
    assert report.sandbox == str(sandbox.probe())
    assert report.machine.memory_budget < report.machine.memory
    assert report.machine.home_free > 0


def test_a_wrong_token_is_a_problem_but_the_hub_is_there(
    hub: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_token(monkeypatch, "hf_wrong")
    state = doctor.examine(settings).hub
    assert state.reachable
    assert state.problem
    assert "hf_wrong" not in state.model_dump_json()


def test_without_a_token_reading_works(hub: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with_token(monkeypatch, None)
    report = doctor.examine(settings)
    assert report.hub.problem is None
    assert any("no Hub token" in problem for problem in report.problems)


def test_a_hub_that_is_not_there_is_said_to_be_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with_token(monkeypatch, None)
    monkeypatch.setattr(Settings, "endpoint", "http://127.0.0.1:9")
    assert not doctor.examine(settings).hub.reachable


def test_it_says_with_which_key_is_signed_or_what_is_wrong_with_it(
    hub: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_token(monkeypatch, None)
    assert doctor.examine(settings).signing == doctor.SigningState()
    key = key_files.make(tmp_path)
    report = doctor.examine(settings.model_copy(update={"signing_key": key.private}))
    assert report.signing.fingerprint == key.fingerprint
    report = doctor.examine(settings.model_copy(update={"signing_key": key.public}))
    assert report.signing.fingerprint is None
    assert [problem for problem in report.problems if f"no private key in PEM form in {key.public}" in problem]


def test_a_missing_compiler_is_a_problem_only_where_one_is_needed(
    hub: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, options in (("built", "needs_compiler = true"), ("plain", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").touch()
        (tmp_path / name / "toolchain.toml").write_text(options)
    monkeypatch.setattr(toolchain, "converters_root", lambda: tmp_path)
    monkeypatch.setattr("bot.doctor.shutil.which", lambda _: None)
    states = doctor.examine(settings).backends
    assert [(state.backend, state.ready, bool(state.problem)) for state in states] == [
        ("built", False, True),
        ("plain", False, False),
    ]


def test_the_memory_budget_is_what_was_set_or_a_share_of_what_is_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_memory", lambda: 1000)
    assert doctor.memory_budget(settings) == 800
    assert doctor.memory_budget(settings.model_copy(update={"memory_budget": 5})) == 5


def test_the_limit_of_a_cgroup_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "limited"
    group.mkdir()
    (group / "memory.max").write_text("123456\n")
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(doctor, "CGROUPS", tmp_path)
    monkeypatch.setattr("bot.doctor.Path.read_text", _reading(Path.read_text, "0::/limited/inner\n"))
    assert list(doctor._cgroup_limits()) == [123456]


def _reading(real: object, groups: str) -> object:
    def read_text(path: Path) -> str:
        return groups if path == Path("/proc/self/cgroup") else real(path)  # type: ignore[operator]

    return read_text
