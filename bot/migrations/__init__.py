"""The journal's tables from one version of phimill to the next, with Alembic.

A change of the tables in `journal.py` is a new file in `versions/`, and its revision is the new `NEWEST`. What stands
in `versions/` already is never changed: somebody's database was made by it.
"""

from __future__ import annotations

import sqlalchemy as sa

from bot.errors import PhimillError

FIRST, NEWEST = "1", "1"
VERSION_TABLE = "phimill_version"
_version = sa.table(VERSION_TABLE, sa.column("version_num"))


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to the newest version, in the transaction of `connection`. Nobody else may be at it.

    Raises:
        PhimillError: a newer phimill has been here.
    """
    there = sa.inspect(connection).get_table_names()
    if VERSION_TABLE in there and connection.scalar(sa.select(_version)) == NEWEST:
        return
    # Imported by whoever needs it: as a rule there is nothing to do.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "bot:migrations")
    if VERSION_TABLE not in there and "phimill_log" in there:  # made before there were versions
        command.stamp(config, FIRST)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise PhimillError(
            "The database was made by a newer phimill.",
            "Upgrade phimill, or delete the database: it is a cache, and what is published stays.",
        ) from error
