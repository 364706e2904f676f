"""Runs a command and measures it together with everything it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.figures import Usage

LOOK_SECONDS = 0.2
BLOCK = 512  # bytes; the unit of ru_oublock
_CONVERTER = re.compile(r"converters\.(\w+)")


def measured(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Usage:
    """Run `command` to its end, with its output in `log`. Its exit code is part of the answer."""
    with log.open("ab") as out:
        began, busy = time.monotonic(), _busy()
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    peak = Peak(process.pid)
    try:
        await_end(process.pid)
        wall = time.monotonic() - began
        busy = _busy() - busy
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)  # a script's tools as well
        process.wait()
        raise
    finally:
        peak.stop()
    read = bytes_read(process.pid)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    return Usage(
        wall=wall,
        cpu=cpu,
        peak=peak.highest,
        anonymous=peak.anonymous,
        holders=peak.holders,
        read=read,
        written=used.ru_oublock * BLOCK,
        others=max(busy - cpu, 0),
        code=process.returncode,
    )


def _busy() -> float:
    """Seconds that all cores have worked so far."""
    times = psutil.cpu_times()
    return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))


def await_end(pid: int) -> None:
    """Wait until a child of ours has ended, and leave it to be looked at: nobody has collected it yet."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def bytes_read(pid: int) -> int:
    """Bytes that came through read calls, to a process and to the children it has waited for."""
    return _accounts(pid).get("rchar", 0)


def bytes_written(pid: int) -> int:
    """Bytes that were made dirty on a disk, through calls or through a mapping, by the same."""
    return _accounts(pid).get("write_bytes", 0)


def _accounts(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return {}  # not Linux
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


class Peak:
    """The most memory that a process and its descendants held at once, until `stop`."""

    def __init__(self, pid: int) -> None:
        self.highest = self.anonymous = 0
        self.holders: dict[str, int] = {}
        self._root, self._over = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with suppress(psutil.Error):
                self._look()

    def _look(self) -> None:
        processes = [self._root, *self._root.children(recursive=True)]
        held = {process: _held(process) for process in processes}
        total = sum(pss for pss, _ in held.values())
        self.anonymous = max(self.anonymous, sum(anonymous for _, anonymous in held.values()))
        if total > self.highest:
            holders: Counter[str] = Counter()
            for process, (pss, _) in held.items():
                holders[_name(process)] += pss
            self.highest, self.holders = total, dict(holders.most_common())


def _held(process: psutil.Process) -> tuple[int, int]:
    """PSS, and the part of it that only the process's end would free."""
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0  # it has ended meanwhile
    sizes = {line.split()[0]: 1024 * int(line.split()[1]) for line in rollup}
    return sizes["Pss:"], sizes["Pss_Anon:"] + sizes["Pss_Shmem:"] + sizes.get("SwapPss:", 0)


def _name(process: psutil.Process) -> str:
    """The backend of a converter; everything else of a mill is the mill."""
    try:
        found = _CONVERTER.search(" ".join(process.cmdline()))
    except psutil.Error:
        found = None
    return found[1] if found else "the rest"
