"""`phimill space`: the mill on a Hugging Face Space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import opened_mill
from bot.cli.output import FormatOption, Output
from bot.errors import UsageError

if TYPE_CHECKING:
    from pydantic import SecretStr
    from rich.console import RenderableType

    from bot.space import Deployment

VisibilityOption = Annotated[
    bool | None,
    typer.Option(
        "--private/--public", help="Who may see it. Default: as it is; a new one is public.", show_default=False
    ),
]
HardwareOption = Annotated[
    str | None,
    typer.Option(
        "--hardware", metavar="FLAVOR", help="Such as cpu-upgrade. Default: as it is; a new one is on cpu-basic."
    ),
]
SleepOption = Annotated[
    int | None,
    typer.Option(
        "--sleep", metavar="SECONDS", min=-1, help="Idle seconds until it sleeps; -1: never. Default: as it is."
    ),
]
VariableOption = Annotated[
    list[str] | None,
    typer.Option("--variable", metavar="NAME=VALUE", help="A variable, which everybody can read; may be repeated."),
]
SecretOption = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME[=VARIABLE]",
        help="A secret with the value that the environment's variable VARIABLE, or NAME, has here; may be repeated.",
    ),
]

space = typer.Typer(no_args_is_help=True)
commands = typer.Typer()
commands.add_typer(space, name="space")


@space.callback()
def _group() -> None:
    """The mill on a Hugging Face Space."""


@space.command()
def deploy(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The Space. It is made if there is none.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")] = False,
    private: VisibilityOption = None,
    hardware: HardwareOption = None,
    sleep: SleepOption = None,
    variable: VariableOption = None,
    secret: SecretOption = None,
    format: FormatOption = None,
) -> None:
    """Put this checkout of phimill onto a Space, or bring the Space up to date.

    Only what differs is changed: the second time, nothing. What no option names stays as it is on the Space. A new
    Space publishes to its owner unless PHIMILL_NAMESPACE says otherwise.
    """
    from huggingface_hub import HfApi, get_token

    from bot import space as spaces
    from bot.space_wish import Wish, checked

    output = Output.of(context, format)
    with opened_mill() as mill:
        endpoint = mill.settings.endpoint
        wish = checked(
            Wish(
                space=name,
                private=private,
                hardware=hardware,
                sleep=sleep,
                secrets=_secrets(secret or ()),
                variables=dict(map(_variable, variable or ())),
            ),
            endpoint,
        )
        mill.publisher.check_may_write(wish.space.split("/")[0])
        done = spaces.deploy(HfApi(endpoint=endpoint, token=get_token()), wish, dry_run=dry_run)
    output.answer(done, lambda: _shown(done))


def _variable(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not name or not equals:
        raise UsageError(f"{given!r} sets no variable.", "Write it as NAME=VALUE.")
    return name, value


def _secrets(given: Sequence[str]) -> dict[str, SecretStr]:
    """Secrets with their values from the environment: a command line is read by other people."""
    from pydantic import SecretStr

    found = {}
    for one in given:
        name, _, source = one.partition("=")
        value = os.environ.get(source or name)
        if not name or not value:
            # What stands behind the = may be the secret itself.
            raise UsageError(
                f"The environment has no value for the secret {name}.",
                "Behind the = stands the name of a variable that holds it, not the secret.",
            )
        found[name] = SecretStr(value)
    return found


def _shown(done: Deployment) -> RenderableType:
    from rich.console import Group

    from bot.cli.render import cell

    if not done.changes:
        head = f"{done.url} is as it should be."
    else:
        head = f"{done.url} would be changed:" if done.dry_run else f"{done.url} was changed:"
    return Group(
        cell(head), *(cell(f"- {said}") for said in done.changes), *(cell(note, "dim") for note in done.notes)
    )
