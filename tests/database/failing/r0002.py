"""Fail after a change."""

from __future__ import annotations

from alembic import op

revision = "f2"
down_revision = "f1"


def upgrade() -> None:
    op.execute("CREATE TABLE other_half (name TEXT)")
    op.execute("INSERT INTO no_such_table VALUES (1)")
