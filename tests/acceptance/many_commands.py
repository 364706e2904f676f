"""Runs many command lines in one process, as the console script runs one: starting Python costs the most.

python many_commands.py < [["check", "a/b"], ...] > [{"code": 5, "out": "", "err": "..."}, ...]
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from bot.cli.entry import run


def main() -> None:
    answers = []
    for arguments in json.load(sys.stdin):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = run(arguments)
        answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
