"""The console script: runs a command and turns however it ends into an exit code."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from typer.exceptions import Abort

from bot import logs
from bot.cli import advice, builds, conversions, demonstration, hub, machine, services, space, tuning, verification
from bot.cli.app import app
from bot.cli.output import Output
from bot.cli.stopping import AGAIN, Terminated
from bot.errors import PhimillError, UsageError

INTERRUPTED, TERMINATED = 130, 143
CODES = {
    0: "done",
    1: "anything that is not below",
    2: "the command line cannot be understood",
    3: "the verdict refused it",
    4: "a variant was made but failed the gate",
    5: "the Hub cannot be reached, or said no",
    6: "not enough disk or memory",
    7: "what is published is not what its receipt says, or cannot be rebuilt",
    INTERRUPTED: "stopped by Ctrl-C",
    TERMINATED: "stopped by SIGTERM",
}

for _group in (conversions, advice, tuning, verification, builds, services, machine, hub, space, demonstration):
    app.add_typer(_group.commands)


def main() -> None:
    """Run the command line of this process."""
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)
    logs.for_commands()
    sys.exit(run(sys.argv[1:], _program()))


def run(arguments: Sequence[str], program: str = "phimill") -> int:
    """Run one command line and return its exit code."""
    output = Output()
    output.again = os.environ.get(AGAIN) or shlex.join([program, *arguments])
    try:
        # `typer.Exit(code)` makes this return the code.
        code = app(list(arguments), prog_name="phimill", standalone_mode=False, obj=output)
    except PhimillError as error:
        output.error(error)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except BrokenPipeError:
        # Whoever read our answer has read enough (`phimill status | head`).
        sys.stderr.close()
        return 0
    except Exception as error:
        return _misuse_or_mishap(error, output)
    return code if isinstance(code, int) else 0


def _program() -> str:
    """How this program can be called again: by its name, or as it was called where the name is not on the PATH."""
    called = sys.argv[0]
    return called if Path(called).name == "phimill" and not shutil.which("phimill") else "phimill"


def _on_signal(number: int, _frame: FrameType | None) -> None:
    # A whole process group is often told twice. Once is enough: the second would cut the tidying up short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _misuse_or_mishap(error: Exception, output: Output) -> int:
    """A command line that typer cannot read, or an error that nobody foresaw. Never a traceback."""
    if type(error).__module__.startswith("typer."):
        words = getattr(error, "format_message", error.__str__)()
        output.error(UsageError(words, "`phimill --help` lists the commands and their options."))
        return UsageError.exit_code
    output.error(PhimillError(f"{type(error).__name__}: {error}", "This is a bug in phimill; please report it."))
    return PhimillError.exit_code
