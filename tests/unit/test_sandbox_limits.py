"""Every way a command can refuse to end, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bot import disk, sandbox
from bot.errors import BuildCancelled, ConverterStopped, NotEnoughRoom, PhimillError
from bot.sandbox_watch import _Lines, _Quota

MIB = 1024**2
Run = Callable[..., sandbox.Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python code; keyword arguments are limits, or go to `sandbox.run`."""

    def call(code: str, **changes: Any) -> sandbox.Outcome:
        arguments: dict[str, Any] = {"on_line": lambda _: None, "on_log": lambda _: None, "stdin": b""}
        limits: dict[str, Any] = {"memory": 512 * MIB, "wall": 120.0}
        for name, value in changes.items():
            (limits if name in sandbox.Limits.__slots__ else arguments)[name] = value
        arguments |= {"read": [], "write": [tmp_path], "work": tmp_path, "limits": sandbox.Limits(**limits)}
        return sandbox.run([sys.executable, "-c", textwrap.dedent(code)], **arguments)

    return call


def alive(canary: str) -> list[int]:
    """Processes whose command line holds the canary."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and canary in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def gone(canary: str, within: float = 120) -> bool:
    deadline = time.monotonic() + within
    while alive(canary) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(canary)


def test_the_request_goes_in_and_lines_and_logs_come_out(run: Run) -> None:
    lines: list[str] = []
    logs: list[str] = []
    code = """
        import sys
        print(sys.stdin.read().upper()); print("é"); print("10%\\r20%\\r", end="", file=sys.stderr)
    """
    outcome = run(code, stdin=b"hello" * 50_000, on_line=lines.append, on_log=logs.append)
    assert lines == ["HELLO" * 50_000, "é"]
    assert logs == ["10%", "20%"]
    assert outcome.returncode == 0
    assert outcome.tier == str(sandbox.probe())
    assert outcome.cpu > 0


def test_the_exit_code_or_the_signal_is_told(run: Run) -> None:
    assert run("raise SystemExit(7)").returncode == 7
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)").returncode == -signal.SIGSEGV


def share(pid: str) -> list[str]:
    """Which share of the processor a process's session has; nothing where time is not shared out among sessions."""
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().split()[-1:] if path.exists() else []


@pytest.mark.skipif(not share("self"), reason="time is not shared out among sessions")
def test_a_command_has_less_of_the_processor_than_the_bot_though_its_session_is_new(run: Run) -> None:
    seen: list[str] = []
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(0.5)"
    run(code, on_line=lambda pid: seen.extend(share(pid)))
    assert [int(nice) for nice in seen] == [min(int(share("self")[0]) + 5, 19)]


def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PhimillError, match="not a program"):
        sandbox.run(
            ["/no/such/program"],
            stdin=b"",
            read=[],
            write=[],
            work=tmp_path,
            limits=sandbox.Limits(memory=MIB, wall=1),
            on_line=print,
            on_log=print,
        )


def test_nothing_is_left_in_the_work_folder(run: Run, tmp_path: Path) -> None:
    with suppress(ConverterStopped):  # if it is looked at meanwhile: see the next test
        run("""
            import os, tempfile
            tempfile.mkstemp()
            open(os.path.expanduser("~/x"), "w")
            for _ in range(1500):
                os.mkdir("deep"); os.chdir("deep")
        """)
    assert list(tmp_path.iterdir()) == []


def test_folders_too_deep_to_be_looked_into_stop_it(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConverterStopped, match="cannot be looked into: File name too long"):
        run("""
            import os, time
            for _ in range(1500):
                os.mkdir("deep"); os.chdir("deep")
            time.sleep(60)
        """)
    assert list(tmp_path.iterdir()) == []


def test_files_without_end_stop_it_wherever_it_may_write(run: Run) -> None:
    for place in ("os.getcwd()", "os.environ['TMPDIR']"):
        code = f"import os, time\nfor n in range(60): os.mkdir({place} + '/' + str(n))\ntime.sleep(60)"
        with pytest.raises(ConverterStopped, match="at 50 files"):
            run(code, files=50)


def test_a_closed_folder_is_taken_away_too(tmp_path: Path) -> None:
    (tmp_path / "tree" / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "closed").chmod(0o300)
    assert disk.remove(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_short_lines_count_for_more_than_their_bytes(run: Run, stream: str) -> None:
    lines: list[str] = []
    code = f"import sys\nwhile True: sys.{stream}.write('x' + chr(10))"
    with pytest.raises(ConverterStopped, match="of output"):
        run(code, output=MIB, on_line=lines.append, on_log=lines.append)
    assert len(lines) <= 4096


def test_held_memory_over_the_limit_stops_it(run: Run) -> None:
    with pytest.raises(ConverterStopped, match="GiB of memory") as stopped:
        run("held = []\nwhile True: held.append(bytearray(b'x') * 10_000_000)", memory=256 * MIB)
    assert "PHIMILL_MEMORY_BUDGET" in stopped.value.hint


def test_memory_is_counted_over_the_whole_tree(run: Run) -> None:
    with pytest.raises(ConverterStopped, match="GiB of memory"):
        run(
            """
            import os, time
            for _ in range(4):
                if os.fork() == 0:
                    held = bytearray(b"x") * 100_000_000
                    time.sleep(60)
            time.sleep(60)
            """,
            memory=256 * MIB,
        )


def test_memory_shared_after_a_fork_is_counted_once(run: Run) -> None:
    outcome = run(
        """
        import os, time
        held = bytearray(b"x") * 200_000_000
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
        os.wait()
        """,
        memory=300 * MIB,
    )
    assert 190 * MIB < outcome.peak_memory < 300 * MIB


def test_a_mapped_file_is_not_held_memory(run: Run, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(300 * MIB))
    outcome = run(
        f"""
        import mmap, time
        with open({str(weights)!r}, "rb") as file:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            sum(view[::4096])
            time.sleep(0.6)
        """,
        memory=100 * MIB,
    )
    assert outcome.returncode == 0
    assert 0 < outcome.peak_memory < 100 * MIB


def test_a_fork_bomb_is_stopped_and_gone(run: Run) -> None:
    code = "import os  # canary-bomb\nwhile True:\n try: os.fork()\n except OSError: pass"
    with pytest.raises(ConverterStopped):
        run(code, processes=32)
    assert gone("canary-bomb")


def test_a_file_without_end_is_stopped(run: Run, tmp_path: Path) -> None:
    code = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nout = open('{tmp_path}/big', 'wb')\n"
    with pytest.raises(ConverterStopped, match="a file of"):
        run(code + "while True: out.write(bytes(65536))", file_size=20 * MIB)
    assert (tmp_path / "big").stat().st_size == 20 * MIB


def test_a_disk_that_fills_up_stops_it(run: Run) -> None:
    with pytest.raises(NotEnoughRoom):
        run("import time; time.sleep(60)", disk_floor=2**60)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("text", ["'x' * 1000 + chr(10)", "'x' * 1000"])
def test_output_without_end_is_stopped(run: Run, stream: str, text: str) -> None:
    with pytest.raises(ConverterStopped, match="1 MiB of output"):
        run(f"import sys\nwhile True: sys.{stream}.write({text})", output=MIB)


def test_a_long_line_arrives_in_pieces() -> None:
    lines: list[str] = []
    cutter = _Lines(lines.append, _Quota(10_000), 10, b"\r")
    for data in (b"abc", b"def\nx\r\n\n", b"y" * 25, b"\nend"):
        assert cutter.feed(data)
    assert not cutter.feed(b"")
    assert lines == ["abcdef", "x", "y" * 10, "y" * 10, "y" * 5, "end"]


def test_time_up_stops_it(run: Run) -> None:
    with pytest.raises(ConverterStopped, match="after 1 s"):
        run(
            "import signal, time  # canary-late\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)",
            wall=1.0,
        )
    assert gone("canary-late", within=0)


def test_cancelling_ends_the_command_however_long_it_would_go_on(run: Run) -> None:
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(BuildCancelled):
        run("import time; time.sleep(3600)  # canary-cancelled", cancelled=cancelled)
    assert len(asked) == 3, "it is not asked again"
    assert gone("canary-cancelled", within=0)


def test_a_listener_that_raises_ends_the_command(run: Run) -> None:
    def listener(_: str) -> None:
        raise KeyError("canary")

    with pytest.raises(KeyError):
        run("import time; print('canary-listener', flush=True); time.sleep(60)", on_line=listener)
    assert gone("canary-listener", within=0)


def test_a_daemon_that_forked_twice_is_gone_when_run_returns(run: Run) -> None:
    lines: list[str] = []
    run(
        """
        import os, time  # canary-daemon
        if os.fork() == 0:
            try:
                os.setsid()
            except OSError:
                pass
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        os.wait()
        print("parent ends", flush=True)
        """,
        on_line=lines.append,
    )
    assert lines == ["parent ends"]
    assert gone("canary-daemon", within=0)


def test_a_daemon_in_a_session_of_its_own_is_gone_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_site", list)  # without seccomp a new session can be made
    code = """
        import os, time  # canary-session
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                print("own session", flush=True)
                time.sleep(60)
            os._exit(0)
        os.wait()
    """
    lines: list[str] = []
    assert run(code, on_line=lines.append).tier == "limits"
    assert lines == ["own session"]
    assert gone("canary-session", within=0)


BOT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
from pathlib import Path
from bot import sandbox
if not {fenced}:
    sandbox._site = list
code = "import os, time\\nos.fork()\\nos.fork()\\nprint('up', flush=True)\\ntime.sleep(3600)  # {canary}"
sandbox.run([sys.executable, "-c", code], stdin=b"", read=[], write=[], work=Path({work!r}),
    limits=sandbox.Limits(memory=2**30, wall=3600), on_line=lambda s: print(s, flush=True), on_log=print)
"""


def bot_with_children(canary: str, work: Path, fenced: bool) -> subprocess.Popen[str]:
    """A separate bot in the middle of a run whose command has three descendants."""
    code = BOT.format(canary=canary, work=str(work), fenced=fenced)
    bot = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert bot.stdout is not None
    assert [bot.stdout.readline() for _ in range(4)] == ["up\n"] * 4
    return bot


@pytest.mark.parametrize("fenced", [True, False])
def test_killing_the_bot_kills_the_command_and_its_descendants(tmp_path: Path, fenced: bool) -> None:
    canary = f"canary-orphan-{fenced}"
    with bot_with_children(canary, tmp_path, fenced) as bot:
        assert len(alive(canary)) >= 4
        bot.kill()
        bot.wait()
        assert gone(canary)


def test_interrupting_the_bot_ends_the_command(tmp_path: Path) -> None:
    with bot_with_children("canary-interrupt", tmp_path, True) as bot:
        os.kill(bot.pid, signal.SIGINT)
        bot.wait(timeout=120)
        assert gone("canary-interrupt", within=0)


def test_killing_the_supervisor_ends_the_run(run: Run) -> None:
    def kill(_: str) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.ZombieProcess):
                if "sandbox_launcher" in " ".join(child.cmdline()):
                    child.kill()

    with pytest.raises(ConverterStopped, match="supervisor"):
        run(
            "import os, time\nos.fork()\nprint('canary-supervisor', flush=True)\ntime.sleep(60)",
            on_line=kill,
        )
    assert gone("canary-supervisor", within=0)
