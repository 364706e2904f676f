"""Where fences are missing, everything that speaks of a build says so, and `strict` builds nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import hostile_mill
import pytest
from hostile_mill import CANARY

from bot import doctor, sandbox
from bot.builds import Build, Phase
from bot.ui import build_view

pytestmark = pytest.mark.skipif(not sandbox.probe().full, reason="this kernel has not all the fences")


@pytest.fixture
def _no_fences(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without Landlock and seccomp: the launcher finds neither package, and neither does the probe."""
    monkeypatch.setattr(sandbox, "_site", list)
    sandbox.probe.cache_clear()
    yield
    monkeypatch.undo()
    sandbox.probe.cache_clear()


@pytest.mark.usefixtures("_no_fences")
def test_without_fences_card_receipt_log_page_and_doctor_all_say_so(tmp_path: Path) -> None:
    with hostile_mill.working(tmp_path) as world:
        ended = world.grind("reads_the_token_file")
        files = world.published(ended.deed)
        report = doctor.examine(world.settings)
    assert CANARY in ended.said, "the deed is a real one: only the fences stop it"
    assert "(sandbox in force: limits)" in files["README.md"]
    assert json.loads(files["phimill.json"])["sandbox"] == "limits"
    assert [line for line in ended.log if line.startswith("info: hostile took") and line.endswith("(sandbox: limits)")]
    assert (report.sandbox, report.sandbox_full) == ("limits", False)
    running = Build(id="b", request=ended.build.request, phase=Phase.RUNNING, person=True, created=datetime.now(UTC))
    assert "limits" in build_view.details(running, (), str(sandbox.probe()), "http://hub", "en")


@pytest.mark.usefixtures("_no_fences")
@pytest.mark.parametrize(
    ("deed", "says"),
    [("hands_out_links", "x.bin is a link or lies behind one"), ("hands_out_a_device", "not a plain file")],
)
def test_without_fences_what_is_no_plain_file_is_made_and_never_published(
    tmp_path: Path, deed: str, says: str
) -> None:
    with hostile_mill.working(tmp_path) as world:
        ended = world.grind(deed)
    assert ended.deed.status == "failed"
    assert says in str(ended.deed.reason)
    assert ended.good.status == "published"


@pytest.mark.usefixtures("_no_fences")
def test_without_fences_a_daemon_in_a_session_of_its_own_does_not_outlive_its_build(tmp_path: Path) -> None:
    with hostile_mill.working(tmp_path) as world:
        ended = world.grind("leaves_a_daemon")
        assert "debug: loot: nothing" in ended.log
        assert world.alive() == []


@pytest.mark.usefixtures("_no_fences")
def test_strict_builds_nothing_without_fences_and_says_what_is_missing(tmp_path: Path) -> None:
    with hostile_mill.working(tmp_path, sandbox="strict") as world:
        ended = world.grind("behaves")
        problems = doctor.examine(world.settings).problems
    failure = ended.build.failure
    assert failure is not None
    assert failure.message == "The sandbox could not be set up: OSError: the kernel has no Landlock."
    assert "PHIMILL_SANDBOX=auto" in failure.hint
    assert {result.status for result in ended.build.results} <= {"failed"}
    assert "PHIMILL_SANDBOX=strict, but only limits is to be had here." in problems
    assert not world.canaries.touched()


def test_a_run_with_fewer_fences_than_the_card_would_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = str(sandbox.probe())
    monkeypatch.setattr(sandbox, "_site", list)  # they fell after the probe
    with hostile_mill.working(tmp_path) as world:
        ended = world.grind("reads_the_token_file")
    assert ended.build.failure is not None
    assert f"ran in the sandbox tier limits, and this process promises {full}" in ended.build.failure.message
    assert ended.build.results == ()
