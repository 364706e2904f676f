"""Runs many command lines one after the other, each in a process of its own and with a limit on its time.

stdin: a line [seconds, ["check", "a/b"]] for each. stdout: a line {"code", "out", "err", "seconds"} for each.

What takes long is importing the command line, so that is done once: each process is a fork of this one.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from typing import IO, Any, NoReturn

import bot
from bot.cli.entry import run

HUNG = -1
STEP = 0.02
# The page takes long and no command here shows it; the others are programs of their own.
NOT_NEEDED = ("bot.ui", "bot.sandbox_launcher", "bot.tokenizer_probe")


def import_everything() -> None:
    """What a command would import when it needs it."""
    for module in pkgutil.iter_modules(bot.__path__, "bot."):
        if module.name not in NOT_NEEDED:
            importlib.import_module(module.name)
    importlib.import_module("huggingface_hub.hf_api")


def be(arguments: list[str], out: IO[bytes], err: IO[bytes]) -> NoReturn:
    """Be the command line, with stdout and stderr in two files."""
    os.setsid()
    os.close(0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    code = 70
    try:
        code = run(arguments)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(pid: int, seconds: float) -> int:
    """The exit code; HUNG for what had to be killed, with all that it had started."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        child, status = os.waitpid(pid, os.WNOHANG)
        if child:
            return os.waitstatus_to_exitcode(status)
        time.sleep(STEP)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HUNG


def ask(seconds: float, arguments: list[str]) -> dict[str, Any]:
    """Run one command line."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        pid = os.fork()
        if not pid:
            be(arguments, out, err)
        code = wait(pid, seconds)
        took = time.monotonic() - begun
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return {"code": code, "out": texts[0], "err": texts[1], "seconds": took}


def main() -> None:
    import_everything()
    for line in sys.stdin:
        seconds, arguments = json.loads(line)
        print(json.dumps(ask(seconds, arguments)), flush=True)


if __name__ == "__main__":
    main()
