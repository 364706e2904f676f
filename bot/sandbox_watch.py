"""Watches one sandboxed command: its output line by line, its memory, time and disk, and its end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import psutil

from bot import disk
from bot.errors import BuildCancelled, ConverterStopped, MemoryExceeded, PhimillError
from bot.settings import GIB

TICK = 0.25  # seconds between looks at memory, time, disk and the cancel flag
LINE_COST = 256  # bytes of output that a line counts for beside its own: each is kept, and a database is slow
LAST_WORDS = 5.0  # seconds to read what is left in the pipes once everything has ended
LAUNCHER = Path(__file__).with_name("sandbox_launcher.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use. Bytes and seconds; `threads` is advice to the libraries, the rest is enforced."""

    memory: int
    wall: float
    file_size: int = 1024 * GIB
    files: int = 20_000
    threads: int = 1
    open_files: int = 4096
    processes: int = 128
    output: int = 64 * 1024**2
    line: int = 4 * 1024**2
    disk_floor: int = 0


@dataclass(frozen=True, slots=True)
class Tier:
    """Which fences stand. `landlock` is the ABI in force, 0 for none."""

    landlock: int
    seccomp: bool

    @property
    def full(self) -> bool:
        return bool(self.landlock) and self.seccomp

    def __str__(self) -> str:
        parts = [f"landlock{self.landlock}"] * bool(self.landlock) + ["seccomp"] * self.seccomp
        return "+".join(parts) or "limits"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended by itself. `returncode` is negative for a signal; memory in bytes, times in seconds."""

    returncode: int
    tier: str
    peak_memory: int
    wall: float
    cpu: float


class Child:
    """A launcher and the command behind it. Leaving the context ends whatever still runs."""

    def __init__(self, spec: dict[str, Any], env: Mapping[str, str], stdin: bytes, cwd: Path) -> None:
        self.started = time.monotonic()
        self.tier = Tier(0, False)
        self.peak = 0
        self._writes = spec["write"]
        self._exit: dict[str, Any] | None = None
        self._tree: list[psutil.Process] = []
        self.control, theirs = socket.socketpair()
        with theirs, _read_only(stdin) as request:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(theirs.fileno())],
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=dict(env),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._pipes = (cast(IO[bytes], self.process.stdout), cast(IO[bytes], self.process.stderr))
        with suppress(BrokenPipeError):  # a launcher that is dead already is noticed by the watch
            self.control.sendall(json.dumps(spec).encode() + b"\n")

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        # The launcher takes the closing of its socket for the bot's death, and ends everything.
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=15)
        self.process.kill()
        self.process.wait()
        _sweep(self.process.pid, self._tree)
        for pipe in self._pipes:
            pipe.close()

    def watch(
        self,
        limits: Limits,
        on_line: Callable[[str], None],
        on_log: Callable[[str], None],
        cancelled: Callable[[], bool],
        on_memory: Callable[[int], None] = lambda _: None,
    ) -> Outcome:
        """Hand over output and enforce the limits until the command has ended."""
        streams: tuple[Any, ...] = (*self._pipes, self.control)
        quota = _Quota(limits.output)
        sinks = (
            _Lines(on_line, quota, limits.line, b"\n"),
            _Lines(on_log, quota, limits.line, b"\r"),  # progress bars end their lines so
            _Lines(self._hear, _Quota(1024**2), 1024**2, b"\n"),
        )
        with selectors.DefaultSelector() as selector:
            for stream, sink in zip(streams, sinks, strict=True):
                selector.register(stream, selectors.EVENT_READ, sink)
            due = 0.0
            end = float("inf")
            while selector.get_map() and time.monotonic() < end:
                for key, _ in selector.select(timeout=max(0.0, due - time.monotonic())):
                    if key.data.feed(os.read(key.fd, 65536)):
                        continue
                    selector.unregister(key.fileobj)
                    if key.fileobj is self.control:
                        # The launcher leaves nobody who could still write, unless it was itself killed.
                        end = time.monotonic() + (LAST_WORDS if self._exit else 0)
                if time.monotonic() >= due:
                    on_memory(self._check(limits, cancelled))
                    due = time.monotonic() + TICK
        return self._outcome(limits)

    def _hear(self, line: str) -> None:
        message = json.loads(line)
        if "started" in message:
            self.tier = Tier(**message["started"])
        elif "failed" in message:
            hint = "PHIMILL_SANDBOX=auto runs without the missing fence." if "kernel has no" in line else ""
            raise PhimillError(f"The sandbox could not be set up: {message['failed']}.", hint)
        else:
            self._exit = message

    def _check(self, limits: Limits, cancelled: Callable[[], bool]) -> int:
        """Enforce the limits; the bytes that are held now."""
        if cancelled():
            raise BuildCancelled("The build was cancelled.")
        if time.monotonic() - self.started > limits.wall:
            raise ConverterStopped(
                f"The converter was stopped after {limits.wall:g} s, the time it is given.",
                "Raise PHIMILL_BUILD_TIMEOUT if the model is large and the machine slow.",
            )
        self._tree = tree = _tree(self.process.pid)
        if len(tree) > limits.processes:
            raise ConverterStopped(f"The converter was stopped at {limits.processes} processes.")
        held = sum(_held(process.pid) for process in tree)
        if held > limits.memory:
            held = sum(_held_exactly(process.pid) for process in tree)
        self.peak = max(self.peak, held)
        if held > limits.memory:
            figures = f"{held / GIB:.1f} GiB of memory; {limits.memory / GIB:.1f} is its limit"
            raise MemoryExceeded(
                f"The converter was stopped at {figures}.",
                "Raise PHIMILL_MEMORY_BUDGET, or use a machine with more memory.",
                limit=limits.memory,
            )
        if limits.disk_floor:
            disk.check_room(self._writes, limits.disk_floor)
        disk.check_count(self._writes, limits.files)
        return held

    def _outcome(self, limits: Limits) -> Outcome:
        if self._exit is None or self._exit["exit"] is None:
            raise ConverterStopped("The converter's supervisor was killed.", "Is memory short?")
        code = int(self._exit["exit"])
        if code == -signal.SIGXFSZ:
            raise ConverterStopped(
                f"The converter was stopped at a file of {limits.file_size / GIB:.1f} GiB, the most allowed."
            )
        wall = time.monotonic() - self.started
        return Outcome(code, str(self.tier), self.peak, wall, float(self._exit["cpu"]))


@contextmanager
def _read_only(content: bytes) -> Iterator[IO[bytes]]:
    """A nameless file: unlike a pipe nobody has to feed it, and with this descriptor nobody can fill it."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with open(file.name, "rb") as reader:
            yield reader


class _Quota:
    """Bytes of output that are left, for both streams together."""

    def __init__(self, total: int) -> None:
        self.total = self.left = total

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise ConverterStopped(f"The converter was stopped after {self.total / 1024**2:.0f} MiB of output.")


class _Lines:
    """Cuts a stream of bytes into lines of bounded length."""

    def __init__(self, emit: Callable[[str], None], quota: _Quota, longest: int, also: bytes) -> None:
        self._emit, self._quota, self._longest, self._also = emit, quota, longest, also
        self._rest = bytearray()

    def feed(self, data: bytes) -> bool:
        """Take what was read. False at the end of the stream, once the last line is out."""
        self._quota.spend(len(data))
        *lines, rest = data.replace(self._also, b"\n").split(b"\n")
        for line in lines:
            self._add(line)
            self._flush()
        self._add(rest)
        if not data:
            self._flush()
        return bool(data)

    def _add(self, part: bytes) -> None:
        self._rest += part
        while len(self._rest) > self._longest:
            self._say(self._rest[: self._longest])
            del self._rest[: self._longest]

    def _flush(self) -> None:
        if self._rest:
            self._say(self._rest)
            self._rest.clear()

    def _say(self, line: bytearray) -> None:
        self._quota.spend(LINE_COST)
        self._emit(line.decode(errors="replace"))


def _tree(pid: int) -> list[psutil.Process]:
    """The descendants of `pid`, without itself."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _held(pid: int) -> int:
    """Bytes that only this process's end would free. Mapped files do not count: the kernel can drop them."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return sum(
                int(line.split()[1]) * 1024
                for line in status
                if line.startswith((b"RssAnon:", b"RssShmem:", b"VmSwap:"))
            )
    except OSError:
        pass
    try:
        return 0 if sys.platform == "linux" else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _held_exactly(pid: int) -> int:
    """As `_held`, with pages shared after a fork counted once. Slow, so asked only when it decides."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in rollup.readlines()[1:]}
        return sizes[b"Pss_Anon:"] + sizes[b"Pss_Shmem:"] + sizes[b"SwapPss:"]
    except (OSError, KeyError):
        return _held(pid)


def _sweep(session: int, seen: list[psutil.Process]) -> None:
    """Kill what is left of a session and of a tree. Nothing is, unless the launcher itself was killed."""
    for process in seen:
        with suppress(psutil.Error):  # among them: the number belongs to another process by now
            process.kill()
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
