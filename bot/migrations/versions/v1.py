"""The tables as they were before they had a version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "phimill_log",
        sa.Column("build", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "phimill_progress",
        sa.Column("build", sa.String(64), primary_key=True),
        sa.Column("progress", sa.Text, nullable=False),
    )
    op.create_table(
        "phimill_tries",
        sa.Column("build", sa.String(64), primary_key=True),
        sa.Column("step", sa.String(96), primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False),
    )
    op.create_table(
        "phimill_notes",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "phimill_parked",
        sa.Column("build", sa.String(64), primary_key=True),
        sa.Column("awaits", sa.String(16), nullable=False),
    )
