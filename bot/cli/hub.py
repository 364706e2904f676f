"""`phimill hub`: the embedded Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot.errors import UsageError

hub = typer.Typer(no_args_is_help=True)
commands = typer.Typer()
commands.add_typer(hub, name="hub")


@hub.callback()
def _group() -> None:
    """The embedded Hub: the real protocol on your own machine."""


@hub.command()
def serve(
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder that keeps everything.")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535, help="Port to listen on.")] = 8077,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve an embedded Hub until interrupted. On first use, make an account and print its token."""
    from bot.localhub import HubInUseError
    from bot.localhub import serve as serve_hub

    try:
        serve_hub(root, host, port)
    except HubInUseError as error:
        raise UsageError(str(error), "Stop it, or serve another folder.") from error
    except SystemExit as error:
        # What the server makes of an address that it cannot have.
        if error.code:
            raise UsageError(f"Cannot serve on {host}:{port}.", "Choose another --port.") from error
