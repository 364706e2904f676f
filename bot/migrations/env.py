"""What Alembic runs: the revisions, on the connection and in the transaction that `migrate` was called with."""

from __future__ import annotations

from alembic import context

from bot.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
