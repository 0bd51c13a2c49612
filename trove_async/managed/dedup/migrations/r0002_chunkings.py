"""Create the table of the numbers on which the chunks of a store depend."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "trove_dedup_chunkings",
        sa.Column("space", sa.Text, primary_key=True),
        sa.Column("average", sa.Integer, primary_key=True),
        sa.Column("seed", sa.BigInteger, nullable=False),
    )
