"""The journal's tables: made new, found as an older phimill left them, or left by a newer one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from engine_worker import STEPS, open_engine, request, runner, wait_until

from bot import journal
from bot.builds import Phase
from bot.errors import PhimillError
from bot.journal import Journal, connect
from bot.migrations import NEWEST, VERSION_TABLE

# What phimill left before there were versions: one build done, another whose worker was killed in its third step.
DUMPS = Path(__file__).parent / "databases"
DONE, KILLED = "f79d3840cbd48aeddffd5aeed8cc9784-1", "a4d3b7ad5ce0f651be8eabd925898a91-1"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def database(url: str) -> Iterator[sa.Engine]:
    engine = connect(url)
    yield engine
    engine.dispose()


def dump(name: str) -> str:
    return (DUMPS / f"{name}-v1.sql").read_text()


def fill(database: sa.Engine) -> None:
    """Put a journal of the first version into an empty database."""
    statements = dump("journal").removeprefix("BEGIN TRANSACTION;").rstrip().removesuffix("COMMIT;")
    with database.begin() as tx:
        for statement in filter(str.strip, statements.split(";\n")):
            tx.exec_driver_sql(statement)


def version(database: sa.Engine) -> str:
    with database.connect() as tx:
        return str(tx.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")))


def differences(database: sa.Engine) -> list[object]:
    """What is not in a database as `journal.py` has it."""
    with database.connect() as tx:
        context = MigrationContext.configure(tx, opts={"version_table": VERSION_TABLE, "compare_type": True})
        return list(compare_metadata(context, journal._meta))


def test_a_new_database_gets_the_tables_that_the_journal_reads(url: str, database: sa.Engine) -> None:
    Journal(url).close()
    assert version(database) == NEWEST
    assert differences(database) == []


def test_the_newest_version_is_that_of_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "bot:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


def test_a_database_from_before_there_were_versions_keeps_what_is_in_it(url: str, database: sa.Engine) -> None:
    fill(database)
    opened = Journal(url)
    assert version(database) == NEWEST
    assert differences(database) == []
    assert [line.text for line in opened.log(KILLED)] == ["begun", "ended", "begun", "ended", "begun"]
    assert opened.notes("seen:") == {"seen:microsoft/Phi-1:gguf:phimill": "a note"}
    opened.write(KILLED, "info", "prove", "more")
    assert opened.log(KILLED)[-1].number == 6
    assert opened.begin_step(KILLED, "prove") == 2
    opened.close()
    Journal(url).close()
    assert version(database) == NEWEST


def test_builds_of_an_older_phimill_are_there_and_go_on(tmp_path: Path) -> None:
    for name in ("engine", "journal"):
        opened = sqlite3.connect(tmp_path / f"{name}.sqlite")
        opened.executescript(dump(name))
        opened.close()
    (tmp_path / "go").touch()
    engine, kept = open_engine(tmp_path)
    assert engine.build(DONE).phase is Phase.DONE
    assert engine.build(DONE).request == request(1)
    with engine.working(runner(tmp_path)):
        wait_until(lambda: engine.unfinished() == 0)
    assert engine.build(KILLED).phase is Phase.DONE
    ended = [line.stage for line in kept.log(KILLED) if line.text == "ended"]
    assert ended == list(STEPS), "what had ended was not done again"
    engine.close()
    kept.close()


def test_a_database_of_a_newer_phimill_is_left_alone(url: str, database: sa.Engine) -> None:
    Journal(url).close()
    with database.begin() as tx:
        tx.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = 'from-the-future'"))
    with pytest.raises(PhimillError, match="newer phimill") as told:
        Journal(url)
    assert "Upgrade phimill" in told.value.hint
    assert version(database) == "from-the-future"


def test_the_command_line_says_so_in_two_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIMILL_HOME", str(tmp_path))
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    Journal(url).close()
    newer = connect(url)
    with newer.begin() as tx:
        tx.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '999'"))
    newer.dispose()
    said = subprocess.run([sys.executable, "-m", "bot.cli", "status"], capture_output=True, text=True, check=False)
    assert said.returncode == PhimillError.exit_code
    assert "newer phimill" in said.stderr
    assert "Traceback" not in said.stderr


def test_alembic_is_not_imported_where_there_is_nothing_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    Journal(url).close()
    code = f"import sys; from bot.journal import Journal; Journal({url!r}); print('alembic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
