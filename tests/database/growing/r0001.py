"""Create a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "g1"
down_revision = None


def upgrade() -> None:
    op.create_table("plants", sa.Column("name", sa.Text, primary_key=True))
    op.create_table(
        "leaves", sa.Column("plant", sa.Text, sa.ForeignKey("plants.name", ondelete="CASCADE"), primary_key=True)
    )
    op.execute("INSERT INTO plants VALUES ('oak')")
    op.execute("INSERT INTO leaves VALUES ('oak')")
