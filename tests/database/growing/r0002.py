"""Add a column."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "g2"
down_revision = "g1"


def upgrade() -> None:
    op.add_column("plants", sa.Column("height", sa.Integer, server_default="7"))
