"""Add a row that refers to nothing."""

from __future__ import annotations

from alembic import op

revision = "o1"
down_revision = None


def upgrade() -> None:
    op.execute("INSERT INTO leaves VALUES ('no plant')")
