"""Shows builds while they run: a live bar on a terminal, one line per stage elsewhere. Always on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from bot.builds import Build, LogLine, Progress
from bot.cli.output import Output, plain
from bot.cli.render import cell
from bot.ui import words

if TYPE_CHECKING:
    from bot.mill import Mill

LEVEL_STYLES = {"warning": "yellow", "error": "red"}
HIDDEN_LEVELS = frozenset({"debug"})


class _Lines:
    """Where nobody watches: a line when work says something new, none for the numbers in between."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str, style: str = "") -> None:
        self._console.print(cell(text, style))

    def show(self, progress: Progress | None, who: str = "") -> None:
        """How far `who` is; None: it is over."""


class _Bars(_Lines):
    """On a terminal: a bar under the log for everybody at work."""

    def __init__(self, bars: Bars) -> None:
        super().__init__(bars.console)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def show(self, progress: Progress | None, who: str = "") -> None:
        if progress is None:
            if who in self._tasks:
                self._bars.remove_task(self._tasks.pop(who))
            return
        if who not in self._tasks:
            self._tasks[who] = self._bars.add_task("starting", total=None, amount="", left="")
        self._bars.update(
            self._tasks[who],
            description=plain(words.doing(progress)),
            total=progress.total or None,
            completed=progress.done,
            amount=words.amount(progress),
            left=words.left(progress.eta),
        )


@contextmanager
def _display(console: Console) -> Iterator[_Lines]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}", style="dim", markup=False),
        TextColumn("{task.fields[left]}", style="dim", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


class Heard:
    """Shows what work in this process says, as `follow` shows what a build says. What `Telling` tells it to."""

    def __init__(self, display: _Lines) -> None:
        self._display = display

    def write(self, build: str, level: str, stage: str, text: str) -> None:
        _say(level, text, self._display)

    def set_progress(self, build: str, progress: Progress) -> None:
        self._display.show(progress)


@contextmanager
def hearing(console: Console) -> Iterator[Heard]:
    """Shows work in this process while inside."""
    with _display(console) as display:
        yield Heard(display)


def follow(
    mill: Mill, builds: Sequence[Build], output: Output, tend: Callable[[], None] = lambda: None
) -> tuple[Build, ...]:
    """Show these builds until each is over, and return how they ended. `tend` is called meanwhile."""
    if mill.paused:
        output.say("The mill is paused, so nothing starts. `phimill resume` lets builds go on.", "yellow")
    for build in builds:
        output.say(f"Build {words.short(build.id)}: {words.source(build.request)} with {build.request.backend}.")
    # Side by side, they have to say who speaks.
    names = {build.id: f"{build.request.backend}: " if len(builds) > 1 else "" for build in builds}
    ended: dict[str, Build] = {}
    with _display(output.messages) as display:
        for one, event in mill.follow(tuple(names), tend):
            if isinstance(event, Build):
                display.show(None, one)
                ended[one] = event
            elif isinstance(event, LogLine):
                _say(event.level, names[one] + event.text, display)
            else:
                display.show(event, one)
    return tuple(ended[one] for one in names)


def _say(level: str, text: str, display: _Lines) -> None:
    if level not in HIDDEN_LEVELS:
        display.say(f"  {text}", LEVEL_STYLES.get(level, "dim"))


def log_line(line: LogLine) -> Text:
    """One line of a build's log."""
    return Text.assemble(
        (f"{line.at:%H:%M:%S} ", "dim"),
        (f"{plain(line.stage)} ", "cyan"),
        cell(words.said(line), LEVEL_STYLES.get(line.level, "")),
    )
