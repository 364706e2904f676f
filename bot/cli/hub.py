"""`phimill hub`: the embedded Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import logs
from bot.cli.app import read_settings
from bot.errors import UsageError

if TYPE_CHECKING:
    from bot.localhub import HubConfig

Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder that keeps everything.")]


class Role(StrEnum):
    READ = "read"
    WRITE = "write"


hub = typer.Typer(no_args_is_help=True)
commands = typer.Typer()
commands.add_typer(hub, name="hub")


@hub.callback()
def _group() -> None:
    """The embedded Hub: the real protocol on your own machine."""


@hub.command()
def serve(
    root: Root,
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535, help="Port to listen on.")] = 8077,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve an embedded Hub until interrupted. On first use, make an account and print its token."""
    from bot.localhub import HubInUseError, HubTooNewError
    from bot.localhub import serve as serve_hub

    logs.for_services(read_settings())
    try:
        serve_hub(root, host, port)
    except HubInUseError as error:
        raise UsageError(str(error), "Stop it, or serve another folder.") from error
    except HubTooNewError as error:
        raise UsageError(str(error), "Upgrade phimill, or serve another folder.") from error
    except SystemExit as error:
        # What the server makes of an address that it cannot have.
        if error.code:
            raise UsageError(f"Cannot serve on {host}:{port}.", "Choose another --port.") from error


@hub.command("add-user")
def add_user(name: Annotated[str, typer.Argument(help="Name of the account.")], root: Root) -> None:
    """Add a user. A running Hub sees it at the next request."""
    with _accounts(root) as accounts:
        accounts.add_user(name)


@hub.command("add-org")
def add_org(
    name: Annotated[str, typer.Argument(help="Name of the organisation.")],
    members: Annotated[list[str], typer.Argument(help="Users that may write there; the first is its admin.")],
    root: Root,
) -> None:
    """Add an organisation, or replace its members."""
    with _accounts(root) as accounts:
        accounts.add_org(name, {member: "write" if at else "admin" for at, member in enumerate(members)})


@hub.command("add-token")
def add_token(
    user: Annotated[str, typer.Argument(help="Whose token it is.")],
    root: Root,
    role: Annotated[Role, typer.Option("--role", help="What it may do.")] = Role.WRITE,
) -> None:
    """Make a token and print it. It is not kept, only its SHA-256."""
    with _accounts(root) as accounts:
        typer.echo(accounts.add_token(user, role.value))


@hub.command("add-app")
def add_app(
    name: Annotated[str, typer.Argument(help="What people are told they sign in to.")],
    redirect: Annotated[list[str], typer.Argument(help="Where they may be sent back to: PAGE/login/callback.")],
    root: Root,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="What it may ask for, besides openid and profile. Repeatable.")
    ] = None,
) -> None:
    """Register an OAuth app, or renew its secret, and print its client id and secret. The secret is not kept."""
    with _accounts(root) as accounts:
        client, secret = accounts.add_app(name, redirect, scope or ["contribute-repos"])
        typer.echo(f"OAUTH_CLIENT_ID={client}\nOAUTH_CLIENT_SECRET={secret}")


@contextmanager
def _accounts(root: Path) -> Iterator[HubConfig]:
    from bot.localhub import HubConfig
    from bot.localhub.errors import HubError

    try:
        yield HubConfig(root)
    except HubError as error:
        raise UsageError(str(error), "Give another name.") from error
