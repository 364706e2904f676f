"""SQLite connections: many readers, one writer, every commit on disk before it is acknowledged."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

# Of schema.sql. A new table or index needs no new number: it is made where it is missing.
SCHEMA_VERSION = 1


class HubTooNewError(RuntimeError):
    """A newer phimill has changed the records."""


class Database:
    """The Hub's records in one SQLite file (WAL). Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._writer = threading.Lock()
        connection = self._take()
        connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] > SCHEMA_VERSION:
            connection.close()
            raise HubTooNewError(f"{path} was written by a newer phimill.")
        connection.executescript(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._idle.append(connection)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one consistent state for as long as it is held."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.rollback()
            with self._idle_lock:
                self._idle.append(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield the only writing connection; what it did is durable on exit, or undone on an exception."""
        with self._writer:
            connection = self._take()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            finally:
                if connection.in_transaction:
                    connection.rollback()
                with self._idle_lock:
                    self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections. Call it when no request is running."""
        with self._idle_lock:
            while self._idle:
                self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._idle:
                return self._idle.pop()
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        # FULL: an acknowledged commit survives a power cut, not only a killed process.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection
