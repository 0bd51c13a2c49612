"""Add to each segment where it begins in its object, so that a range finds its segments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, compute it for the segments that are there, and index it."""
    op.add_column("trove_dedup_segments", sa.Column("position", sa.BigInteger, nullable=False, server_default="0"))
    segments = sa.table("trove_dedup_segments", *(sa.column(name) for name in ("owner", "number", "size", "position")))
    before = sa.func.sum(segments.c.size).over(partition_by=segments.c.owner, order_by=segments.c.number)
    found = sa.select(segments.c.owner, segments.c.number, (before - segments.c.size).label("position")).subquery()
    op.execute(
        sa.update(segments)
        .where(segments.c.owner == found.c.owner, segments.c.number == found.c.number)
        .values(position=found.c.position)
    )
    op.create_index("trove_dedup_segments_position", "trove_dedup_segments", ["owner", "position"])
