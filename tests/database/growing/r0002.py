"""Add a column, and alter it, for which SQLite needs a copy of the table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "g2"
down_revision = "g1"


def upgrade() -> None:
    op.add_column("plants", sa.Column("height", sa.Integer, server_default="7"))
    with op.batch_alter_table("plants") as batch:
        batch.alter_column("height", existing_type=sa.Integer, existing_server_default="7", nullable=False)
