"""Shows builds while they run: a live bar on a terminal, one line per stage elsewhere. Always on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
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
    """Where nobody watches: a line when a build says something new, none for the numbers in between."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str, style: str = "") -> None:
        self._console.print(cell(text, style))

    def show(self, progress: Progress) -> None:
        pass


class _Bar(_Lines):
    """On a terminal: one bar under the log."""

    def __init__(self, bars: Bars) -> None:
        super().__init__(bars.console)
        self._bars = bars
        self._task = bars.add_task("starting", total=None, amount="", left="")

    def show(self, progress: Progress) -> None:
        self._bars.update(
            self._task,
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
        yield _Bar(bars)


def follow(
    mill: Mill, builds: Sequence[Build], output: Output, tend: Callable[[], None] = lambda: None
) -> tuple[Build, ...]:
    """Show these builds until each is over, and return how they ended. `tend` is called meanwhile."""
    if mill.paused:
        output.say("The mill is paused, so nothing starts. `phimill resume` lets builds go on.", "yellow")
    ended = []
    for build in builds:
        output.say(f"Build {words.short(build.id)}: {words.source(build.request)} with {build.request.backend}.")
        with _display(output.messages) as display:
            ended += [event for event in mill.follow(build.id, tend) if _shown(event, display)]
    return tuple(event for event in ended if isinstance(event, Build))


def _shown(event: Progress | LogLine | Build, display: _Lines) -> bool:
    """Show one event; true for the last one, the build itself."""
    if isinstance(event, Progress):
        display.show(event)
    elif isinstance(event, LogLine) and event.level not in HIDDEN_LEVELS:
        display.say(f"  {event.text}", LEVEL_STYLES.get(event.level, "dim"))
    return isinstance(event, Build)


def log_line(line: LogLine) -> Text:
    """One line of a build's log."""
    return Text.assemble(
        (f"{line.at:%H:%M:%S} ", "dim"),
        (f"{plain(line.stage)} ", "cyan"),
        cell(words.said(line), LEVEL_STYLES.get(line.level, "")),
    )
