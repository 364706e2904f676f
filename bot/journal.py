"""What builds say while they run: log lines, progress, tries per step, and a few flags.

Kept beside the durable engine's own tables: in the same Postgres, or in a second SQLite file so that a chatty build
never makes the engine wait for a lock. A cache like the rest of the database: it may be deleted at any time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import stamina
from sqlalchemy.dialects import postgresql, sqlite

from bot import logs
from bot.builds import Awaits, LogLine, Progress
from bot.migrations import migrate
from bot.redaction import redacted

log = logs.get_logger(__name__)

_meta = sa.MetaData()
_log = sa.Table(
    "phimill_log",
    _meta,
    sa.Column("build", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(64), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
_progress = sa.Table(
    "phimill_progress",
    _meta,
    sa.Column("build", sa.String(64), primary_key=True),
    sa.Column("progress", sa.Text, nullable=False),
)
_tries = sa.Table(
    "phimill_tries",
    _meta,
    sa.Column("build", sa.String(64), primary_key=True),
    sa.Column("step", sa.String(96), primary_key=True),
    sa.Column("tries", sa.Integer, nullable=False),
)
_notes = sa.Table(
    "phimill_notes",
    _meta,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_parked = sa.Table(
    "phimill_parked",
    _meta,
    sa.Column("build", sa.String(64), primary_key=True),
    sa.Column("awaits", sa.String(16), nullable=False),
)

# Until the end of the transaction. The Postgres lock lies outside the corner that leases have (`liveness.py`).
_ALONE = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": f"SELECT pg_advisory_xact_lock({int.from_bytes(b'journal')})",
}
_INSERT: dict[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def connect(url: str) -> sa.Engine:
    """A SQLAlchemy engine for `url`; SQLite files are put in WAL mode so that readers never block the writer."""
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True, pool_size=4)
    Path(str(sa.make_url(url).database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        _into_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def away(error: Exception) -> bool:
    """Whether an error says that the database server cannot be reached, or has dropped the connection."""
    return isinstance(error, sa.exc.DBAPIError) and (
        error.connection_invalidated
        or (isinstance(error, sa.exc.OperationalError) and not isinstance(error.orig, sqlite3.Error))
    )


# The engine waits for a database that is away, however long. So does what goes with it.
patiently = stamina.retry(on=away, attempts=None, timeout=None, wait_max=5.0)


# SQLite does not wait for others here, as it does everywhere else: two that open a new database at once collide.
@stamina.retry(on=sqlite3.OperationalError, attempts=None, timeout=30, wait_initial=0.05, wait_max=0.5)
def _into_wal(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


class Journal:
    """Reads and writes what builds say. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        try:
            with self._engine.begin() as tx:
                # Workers that start at once on a new database: one makes the tables, the others wait and find them.
                tx.exec_driver_sql(_ALONE[tx.dialect.name])
                migrate(tx)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def write(self, build: str, level: str, stage: str, text: str) -> None:
        """Append one line to a build's log, and to the log of this process. One writer per build: the worker that
        holds it.
        """
        text = redacted(text.replace("\x00", ""))
        log.log(logging.getLevelNamesMapping().get(level.upper(), logging.INFO), text, build=build, stage=stage)
        newest = sa.select(sa.func.coalesce(sa.func.max(_log.c.number), 0) + 1).where(_log.c.build == build)
        with self._engine.begin() as tx:
            tx.execute(
                _log.insert().values(
                    build=build,
                    number=newest.scalar_subquery(),
                    at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    level=level[:16],
                    stage=stage[:64],
                    text=text,
                )
            )

    def log(self, build: str, after: int = 0) -> tuple[LogLine, ...]:
        """A build's log lines numbered above `after`, oldest first."""
        query = sa.select(_log).where(_log.c.build == build, _log.c.number > after).order_by(_log.c.number)
        with self._engine.connect() as tx:
            rows = tx.execute(query).mappings().all()
        return tuple(
            LogLine(number=r["number"], at=r["at"], level=r["level"], stage=r["stage"], text=r["text"]) for r in rows
        )

    def set_progress(self, build: str, progress: Progress) -> None:
        self._put(_progress, {"build": build}, {"progress": progress.model_dump_json()})

    def progress(self, build: str) -> Progress | None:
        with self._engine.connect() as tx:
            row = tx.execute(sa.select(_progress.c.progress).where(_progress.c.build == build)).scalar()
        return None if row is None else Progress.model_validate_json(row)

    def begin_step(self, build: str, step: str) -> int:
        """Count one more try of a step, and return how many there have been since it last finished."""
        with self._engine.begin() as tx:
            where = (_tries.c.build == build) & (_tries.c.step == step)
            tries = (tx.execute(sa.select(_tries.c.tries).where(where)).scalar() or 0) + 1
            tx.execute(_tries.delete().where(where))
            tx.execute(_tries.insert().values(build=build, step=step, tries=tries))
        return int(tries)

    def end_step(self, build: str, step: str) -> None:
        with self._engine.begin() as tx:
            tx.execute(_tries.delete().where((_tries.c.build == build) & (_tries.c.step == step)))

    def park(self, build: str, awaits: Awaits) -> None:
        """Remember that a build has left the queue, and what brings it back."""
        self._put(_parked, {"build": build}, {"awaits": awaits.value})

    def unpark(self, build: str, agreed: Callable[[], bool] = lambda: True) -> None:
        """Forget it again, if `agreed` says so: one process at a time asks, and only while the note is there."""
        with self._engine.connect() as tx:
            found = tx.execute(_parked.delete().where(_parked.c.build == build)).rowcount
            if found and agreed():
                tx.commit()

    def parked(self) -> dict[str, Awaits]:
        """Every build that has left the queue for a while."""
        with self._engine.connect() as tx:
            return {row.build: Awaits(row.awaits) for row in tx.execute(sa.select(_parked))}

    def note(self, name: str) -> str | None:
        """A named value, or None when it was never set."""
        with self._engine.connect() as tx:
            return tx.execute(sa.select(_notes.c.value).where(_notes.c.name == name)).scalar()

    def notes(self, prefix: str) -> dict[str, str]:
        """Every named value whose name starts so."""
        with self._engine.connect() as tx:
            found = tx.execute(sa.select(_notes).where(_notes.c.name.startswith(prefix, autoescape=True)))
            return {row.name: row.value for row in found}

    def set_note(self, name: str, value: str) -> None:
        self._put(_notes, {"name": name}, {"value": redacted(value)})

    def pause(self, *, paused: bool) -> None:
        """Say whether builds may begin another step."""
        self.set_note("paused", "yes" if paused else "")

    @property
    def paused(self) -> bool:
        return bool(self.note("paused"))

    def _put(self, table: sa.Table, key: dict[str, str], values: dict[str, str]) -> None:
        """Several workers may note the same thing for the first time: whoever is last is right."""
        insert = _INSERT[self._engine.dialect.name](table).values(**key, **values)
        with self._engine.begin() as tx:
            tx.execute(insert.on_conflict_do_update(index_elements=list(key), set_=values))
