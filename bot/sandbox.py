"""Runs one command that may be hostile: no token, no network, its own folders, and an end.

What holds on every system: an environment made from nothing, no inherited file descriptors, limits on
memory, time, file size and output, and nothing of it left alive afterwards, also when the bot is killed.
Where the kernel has Landlock and seccomp, the files of the machine, its other processes and every socket
are out of reach too. Which of these was in force is the run's `tier`; it is always said and, with
PHIMILL_SANDBOX=strict, always full.

`bot.sandbox_launcher` puts up the fences, `bot.sandbox_watch` enforces the limits.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bot import disk
from bot.errors import PhimillError
from bot.sandbox_watch import Child, Limits, Outcome, Tier
from bot.settings import GIB, get_settings

__all__ = ["Limits", "Outcome", "Tier", "probe", "run"]

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
# Files, not folders: all of /proc would hand over the bot's own environment.
READABLE = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def run(
    command: Sequence[str | Path],
    *,
    stdin: bytes,
    read: Sequence[Path],
    write: Sequence[Path],
    work: Path,
    limits: Limits,
    on_line: Callable[[str], None],
    on_log: Callable[[str], None],
    cancelled: Callable[[], bool] = lambda: False,
    on_memory: Callable[[int], None] = lambda _: None,
    env: Mapping[str, str] | None = None,
    strict: bool | None = None,
) -> Outcome:
    """Run `command` to its end in the calling thread.

    Args:
        command: the program (an absolute path or a name on the system's PATH) and its arguments.
        read: files and folders it may read. The program's own prefix and the system's libraries are added.
        write: folders it may also write.
        work: an existing folder; the run's home and temporary files live, and go, with a folder made in it.
        on_line: gets each line of stdout. An over-long line arrives in pieces of `limits.line` bytes.
        on_log: gets each line of stderr.
        on_memory: is told, a few times a second, how many bytes it holds.
        env: variables added to the few that are set.
        strict: refuse to run without Landlock and seccomp. Unset: as the settings say.

    Raises:
        ConverterStopped: it reached its limit of memory, time, processes, file size or output.
        NotEnoughRoom: the disk it writes to fell to `limits.disk_floor`.
        BuildCancelled: `cancelled` said so.
        PhimillError: it could not be started, or not in the tier that `strict` asks for.
    """
    strict = get_settings().sandbox == "strict" if strict is None else strict
    with _scratch(work) as scratch:
        argv = _absolute(command)
        spec = {
            "parent": os.getpid(),
            "command": argv,
            "cwd": str(scratch),
            "nice": 5,
            "strict": strict,
            "site": _site(),
            "rlimits": _rlimits(limits),
            "read": _present(*(str(path.resolve(strict=True)) for path in read), *READABLE),
            "write": [str(path.resolve(strict=True)) for path in (*write, scratch)],
            "execute": _present(*SYSTEM, *_prefixes(argv[0])),
            "devices": _present(*DEVICES),
        }
        environment = _environment(argv[0], scratch, limits) | dict(env or {})
        with Child(spec, environment, stdin, scratch) as child:
            return child.watch(limits, on_line, on_log, cancelled, on_memory)


@lru_cache(maxsize=1)
def probe() -> Tier:
    """The fences this machine really has, tried out once per process (a fifth of a second)."""
    spec: dict[str, Any] = {"parent": os.getpid(), "command": [], "cwd": "/", "nice": 0, "strict": False}
    spec |= {"site": _site(), "rlimits": {}, "read": [], "write": [], "execute": [], "devices": []}
    limits = Limits(memory=GIB, wall=30)
    with tempfile.TemporaryDirectory() as folder, Child(spec, {}, b"", Path(folder)) as child:
        child.watch(limits, lambda _: None, lambda _: None, lambda: False)
        return child.tier


@contextmanager
def _scratch(work: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".run-", dir=work)).resolve()
    try:
        for name in ("home", "tmp", "cache"):
            (folder / name).mkdir(mode=0o700)
        yield folder
    finally:
        disk.remove(folder)


def _absolute(command: Sequence[str | Path]) -> list[str]:
    found = shutil.which(command[0])
    if found is None:
        raise PhimillError(f"{command[0]} is not a program.", "Is the toolchain complete? Try `phimill doctor`.")
    return [os.path.abspath(found), *map(str, command[1:])]


def _present(*paths: str) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def _site() -> list[str]:
    """Where the launcher's two packages are; it starts too bare to find them itself."""
    specs = (find_spec("py_landlock"), find_spec("pyseccomp"))  # neither is there outside Linux
    found = {Path(spec.origin) for spec in specs if spec is not None and spec.origin}
    return sorted({str(path.parents[path.name == "__init__.py"]) for path in found})


def _prefixes(program: str) -> list[str]:
    """The folders a program needs: its virtual environment, and where the real one behind links lives."""
    if program.startswith(("/usr/", "/bin/")):
        return []
    near, real = Path(program).parent.parent, Path(program).resolve().parent.parent
    parts = [str(real / part) for part in ("bin", "lib", "lib64")]  # the prefix itself may be a home folder
    return [*parts, str(near)] if (near / "pyvenv.cfg").exists() else [*parts, program]


def _environment(program: str, scratch: Path, limits: Limits) -> dict[str, str]:
    threads = str(limits.threads)
    home, tmp, cache = (str(scratch / name) for name in ("home", "tmp", "cache"))
    return {
        "PATH": f"{os.path.dirname(program)}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": home,
        "USER": "phimill",
        "LOGNAME": "phimill",
        "TMPDIR": tmp,
        "XDG_CACHE_HOME": cache,
        "XDG_CONFIG_HOME": home,
        "XDG_DATA_HOME": home,
        "XDG_STATE_HOME": home,
        "HF_HOME": cache,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_SAFETENSORS_CONVERSION": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _rlimits(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": limits.open_files,
        # Counts every thread of the user, the bot's too, so it can only be far; the watch counts processes.
        "RLIMIT_NPROC": 8192,
        # Address space is no measure of memory, as weights are mapped. This is a far ceiling on private
        # memory, for what grows faster than the watch looks.
        "RLIMIT_DATA": 4 * limits.memory + 16 * GIB,
    }
