"""What a hostile converter tries, tried for real. Each script does the deed and says how it went."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import sandbox
from bot.errors import PhimillError

pytestmark = pytest.mark.skipif(not sandbox.probe().full, reason="this kernel has not all the fences")

Attempt = Callable[..., str]
TRY = """
import ctypes, os, signal, socket, sys
def attempt(deed):
    try:
        print("DONE", deed())
    except OSError as error:
        print("REFUSED", error.strerror)
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Run Python in the fence and return what it printed; `source` is readable, `out` writable."""
    for name in ("work", "source", "out", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "config.json").write_text("weights")
    (tmp_path / "elsewhere" / "token").write_text("hf_canary")

    def run(code: str, **env: str) -> str:
        lines: list[str] = []
        sandbox.run(
            [sys.executable, "-c", TRY + code],
            stdin=b"",
            read=[tmp_path / "source"],
            write=[tmp_path / "out"],
            work=tmp_path / "work",
            limits=sandbox.Limits(memory=2**30, wall=120),
            on_line=lines.append,
            on_log=lines.append,
            env={"T": str(tmp_path), "BOT": str(os.getpid()), **env},
        )
        return "\n".join(lines)

    return run


def test_the_source_is_readable_and_the_output_folder_writable(attempt: Attempt, tmp_path: Path) -> None:
    said = attempt("""
os.makedirs(os.environ["T"] + "/out/a/b")
with open(os.environ["T"] + "/out/a/b/x", "w") as out:
    out.write(open(os.environ["T"] + "/source/config.json").read())
os.rename(os.environ["T"] + "/out/a/b/x", os.environ["T"] + "/out/x")
print(sorted(os.listdir(os.environ["T"] + "/source")))
""")
    assert said == "['config.json']"
    assert (tmp_path / "out" / "x").read_text() == "weights"
    assert (tmp_path / "out" / "x").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "deed",
    [
        "open(T + '/source/config.json', 'w')",
        "open(T + '/source/new', 'w')",
        "os.unlink(T + '/source/config.json')",
        "os.truncate(T + '/source/config.json', 0)",
        "os.rename(T + '/source/config.json', T + '/out/x')",
        "os.link(T + '/source/config.json', T + '/out/x')",
        "open(T + '/elsewhere/token').read()",
        "os.listdir(T + '/elsewhere')",
        "os.link(T + '/elsewhere/token', T + '/out/x')",
        "os.symlink(T + '/elsewhere/token', T + '/out/x')",
        "os.mkfifo(T + '/out/x')",
        "open(T + '/elsewhere/new', 'w')",
        "open('/tmp/phimill-escape', 'w')",
        "open('/dev/shm/phimill-escape', 'w')",
        "open('/etc/passwd').read()",
        "open('/etc/shadow').read()",
        "os.listdir('/')",
        "open('/proc/' + BOT + '/environ', 'rb').read()",
        "open('/proc/' + str(os.getppid()) + '/environ', 'rb').read()",
        "open('/proc/' + str(os.getppid()) + '/mem', 'r+b')",
        "os.listdir('/proc/' + BOT + '/fd')",
        "open('/proc/self/oom_score_adj', 'w')",
        "os.chroot(T + '/out')",
        "os.chown(T + '/elsewhere/token', 12345, 12345)",
    ],
)
def test_files_beyond_the_grant_are_out_of_reach(attempt: Attempt, deed: str, tmp_path: Path) -> None:
    said = attempt(f"T, BOT = os.environ['T'], os.environ['BOT']\nattempt(lambda: {deed})")
    assert said.startswith("REFUSED"), said
    assert (tmp_path / "source" / "config.json").read_text() == "weights"


def test_a_mode_change_reports_success_and_changes_nothing(attempt: Attempt, tmp_path: Path) -> None:
    token = tmp_path / "elsewhere" / "token"
    before = token.stat()
    said = attempt("""
path = os.environ["T"] + "/elsewhere/token"
os.chmod(path, 0o777)
os.utime(path, (1, 1))
call(libc.syscall(452, -100, path.encode(), 0o777, 0))
import shutil
shutil.copy2(os.environ["T"] + "/source/config.json", os.environ["T"] + "/out/copy")
print("fine")
""")
    assert said == "fine"
    after = token.stat()
    assert (before.st_mode, before.st_mtime) == (after.st_mode, after.st_mtime)
    assert (tmp_path / "out" / "copy").read_text() == "weights"


def test_an_output_file_cannot_be_executed(attempt: Attempt) -> None:
    said = attempt("""
path = os.environ["T"] + "/out/tool"
with open("/usr/bin/env", "rb") as real, open(path, "wb") as copy:
    copy.write(real.read())
attempt(lambda: os.execv(path, [path]))
""")
    assert said.startswith("REFUSED"), said


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_UNIX", "AF_VSOCK"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"])
def test_no_socket_of_any_kind_opens(attempt: Attempt, family: str, kind: str) -> None:
    said = attempt(f"attempt(lambda: socket.socket(socket.{family}, socket.{kind}))")
    assert said == "REFUSED Operation not permitted"


def test_a_socket_pair_works_but_leads_nowhere(attempt: Attempt) -> None:
    said = attempt("""
a, b = socket.socketpair()
a.sendall(b"inside")
print(b.recv(6).decode())
attempt(lambda: a.connect("/run/docker.sock"))
attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW))
""")
    assert said.splitlines() == ["inside"] + 3 * ["REFUSED Operation not permitted"]


def test_nothing_arrives_at_a_listener_of_the_bot(attempt: Attempt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = str(server.getsockname()[1])
        attempt("attempt(lambda: socket.create_connection(('127.0.0.1', int(os.environ['PORT']))))", PORT=port)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "deed",
    [
        "os.kill(int(os.environ['BOT']), signal.SIGKILL)",
        "os.kill(int(os.environ['BOT']), 0)",
        "os.kill(os.getppid(), signal.SIGTERM)",
        "os.kill(-1, signal.SIGKILL)",
        "os.killpg(os.getpgid(int(os.environ['BOT'])), signal.SIGKILL)",
        "call(libc.syscall(234, int(os.environ['BOT']), int(os.environ['BOT']), 9))",
        "signal.pidfd_send_signal(os.pidfd_open(int(os.environ['BOT'])), signal.SIGKILL)",
        "__import__('resource').prlimit(int(os.environ['BOT']), 7, (0, 0))",
        "os.setpriority(os.PRIO_PROCESS, int(os.environ['BOT']), 19)",
        "call(libc.ptrace(16, int(os.environ['BOT']), 0, 0))",
        "os.setsid()",
        "os.setpgid(0, 0)",
        "call(libc.unshare(0x10000000))",
        "call(libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0))",
        "call(libc.syscall(425, 1, 0))",
        "call(libc.syscall(321, 0, 0, 0))",
        "call(libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0))",
        "call(libc.shmget(0, 1 << 20, 0o1600))",
        "call(libc.prctl(1, 0, 0, 0, 0))",
        "os.memfd_create('hidden')",
        "os.setuid(12345)",
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="raw system call numbers")
def test_other_processes_and_the_kernel_are_out_of_reach(attempt: Attempt, deed: str) -> None:
    said = attempt(f"attempt(lambda: {deed})")
    assert said.startswith("REFUSED"), said


def test_the_environment_holds_nothing_of_the_bot(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://canary:secret@proxy")
    monkeypatch.setenv("PYTHONPATH", "/canary")
    monkeypatch.setenv("LD_PRELOAD", "")
    said = attempt("print(sorted(os.environ)); print(dict(os.environ))")
    assert "canary" not in said
    assert "LD_PRELOAD" not in said
    assert "HF_TOKEN" not in said


def test_no_file_descriptor_of_the_bot_is_inherited(attempt: Attempt, tmp_path: Path) -> None:
    with open(tmp_path / "elsewhere" / "token") as secret:
        os.set_inheritable(secret.fileno(), True)
        said = attempt("""
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
print([number for number in range(256) if is_open(number)])
""")
    assert said == "[0, 1, 2]"


def test_the_request_cannot_be_filled(attempt: Attempt) -> None:
    assert attempt("attempt(lambda: os.write(0, bytes(1 << 20)))") == "REFUSED Bad file descriptor"


def test_root_has_no_powers_inside(attempt: Attempt) -> None:
    said = attempt("""
class Head(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
sets = (ctypes.c_uint32 * 6)()
call(libc.capget(ctypes.byref(Head(0x20080522, 0)), sets))
print(sum(sets))
print(libc.prctl(39, 0, 0, 0, 0))
""")
    assert said == "0\n1"


def test_a_thread_of_the_bot_can_use_it_too(attempt: Attempt) -> None:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(attempt("print('inside')")))
    thread.start()
    thread.join()
    assert said == ["inside"]


def test_strict_refuses_when_a_fence_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_site", list)  # the launcher then finds neither package

    def run(strict: bool) -> sandbox.Outcome:
        return sandbox.run(
            ["true"],
            stdin=b"",
            read=[],
            write=[],
            work=tmp_path,
            limits=sandbox.Limits(memory=2**30, wall=120),
            on_line=print,
            on_log=print,
            strict=strict,
        )

    assert run(strict=False).tier == "limits"
    with pytest.raises(PhimillError, match="could not be set up"):
        run(strict=True)


def test_fences_are_the_same_for_what_the_command_starts(attempt: Attempt) -> None:
    said = attempt("""
import subprocess
code = "import socket\\ntry: socket.socket()\\nexcept OSError as e: print(e.strerror)"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
""")
    assert said == "Operation not permitted"


def test_the_launcher_imports_nothing_of_the_bot() -> None:
    launcher = Path(sandbox.__file__).with_name("sandbox_launcher.py")
    check = f"import runpy, sys; runpy.run_path({str(launcher)!r}); print('bot' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
