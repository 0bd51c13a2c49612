"""Create a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "f1"
down_revision = None


def upgrade() -> None:
    op.create_table("half", sa.Column("name", sa.Text))
