"""Who is alive. A worker holds a lease for as long as its process lives; the operating system or the database server
drops it the moment the process dies, however it dies. So a free lease means a dead worker: liveness, never age.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from filelock import FileLock, Timeout

# A server that was restarted has dropped everybody's leases; each worker notices within five seconds.
SETTLING_SECONDS = 20.0


class Leases(Protocol):
    """Mutual exclusion by name, held until closed or dead."""

    def take(self, name: str) -> bool:
        """Try to take the lease; False when somebody alive holds it."""

    def release(self, name: str) -> None: ...

    def held(self) -> bool:
        """Whether any other process holds a lease."""

    @property
    def settled(self) -> bool:
        """Whether a free lease means a dead worker: not while the living may still have to take theirs again."""

    def close(self) -> None: ...


class FileLeases:
    """Leases of the processes of one machine: locked files."""

    settled = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, FileLock] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str) -> bool:
        lock = FileLock(self._folder / f"{name}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._locks[name] = lock
        return True

    def release(self, name: str) -> None:
        lock = self._locks.pop(name, None)
        if lock is not None:
            # Unlinked while still locked, so that nobody can be left holding a file that is gone.
            (self._folder / f"{name}.lock").unlink(missing_ok=True)
            lock.release()

    def held(self) -> bool:
        for path in self._folder.glob("*.lock"):
            name = path.name.removesuffix(".lock")
            if name in self._locks:
                continue
            if not self.take(name):
                return True
            self.release(name)
        return False

    def close(self) -> None:
        for name in list(self._locks):
            self.release(name)


class PostgresLeases:
    """Leases of the workers of one Postgres: session advisory locks on a connection kept open for them."""

    _CLASS = 0x7068696D  # "phim": our corner of the advisory lock space

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT")
        self._session = self._engine.connect()
        self._lost = -math.inf
        self._names: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def _ask(self, function: str, name: str) -> bool:
        return bool(self._scalar(f"SELECT {function}(:cls, :number)", self._key(name)))

    def _key(self, name: str) -> dict[str, int]:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big", signed=True)
        return {"cls": self._CLASS, "number": number}

    def _scalar(self, query: str, values: dict[str, int]) -> Any:
        with self._one_at_a_time:
            try:
                return self._execute(query, values)
            except sa.exc.SQLAlchemyError:
                return self._execute(query, values)

    def _execute(self, query: str, values: dict[str, int]) -> Any:
        """Closes the session on an error: a session that comes back by itself would come back without our leases."""
        if self._session.closed:
            self._reconnect()
        try:
            return self._session.execute(sa.text(query), values).scalar()
        except sa.exc.SQLAlchemyError:
            self._session.invalidate()
            self._session.close()
            raise

    def _reconnect(self) -> None:
        """The server dropped the connection, and our leases with it: take them again before somebody else does."""
        self._lost = time.monotonic()
        self._session = self._engine.connect()
        for name in self._names:
            self._execute("SELECT pg_try_advisory_lock(:cls, :number)", self._key(name))

    @property
    def settled(self) -> bool:
        return time.monotonic() - self._lost > SETTLING_SECONDS

    def take(self, name: str) -> bool:
        taken = self._ask("pg_try_advisory_lock", name)
        if taken:
            self._names.add(name)
        return taken

    def release(self, name: str) -> None:
        if name in self._names:
            self._names.discard(name)
            self._ask("pg_advisory_unlock", name)

    def held(self) -> bool:
        query = """
            SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :cls AND pid <> pg_backend_pid()
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
        return bool(self._scalar(query, {"cls": self._CLASS}))

    def close(self) -> None:
        self._session.close()
        self._engine.dispose()


def open_leases(database_url: str | None, home: Path) -> Leases:
    """Leases in the Postgres at `database_url`, or in locked files under `home` when there is none."""
    return PostgresLeases(database_url) if database_url else FileLeases(home / "workers")


@contextmanager
def leased(leases: Leases, name: str) -> Iterator[bool]:
    """Hold a lease for a while. Yields whether it was free."""
    taken = leases.take(name)
    try:
        yield taken
    finally:
        if taken:
            leases.release(name)
