"""Create the tables of buckets, objects, uploads, parts and segments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    ordered = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

    def text(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.Text, nullable=False)

    def number(name: str) -> sa.Column[int]:
        return sa.Column(name, sa.BigInteger, nullable=False)

    op.create_table(
        "trove_dedup_buckets",
        sa.Column("id", sa.Text, primary_key=True),
        text("space"),
        sa.Column("name", ordered, nullable=False),
        text("versioning"),
        text("rules"),
        number("created_at"),
    )
    op.create_index("trove_dedup_buckets_name", "trove_dedup_buckets", ["space", "name"], unique=True)
    op.create_table(
        "trove_dedup_objects",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("bucket", sa.Text, sa.ForeignKey("trove_dedup_buckets.id"), nullable=False),
        sa.Column("key", ordered, nullable=False),
        number("number"),
        text("version"),
        sa.Column("current", sa.Boolean, nullable=False),
        sa.Column("marker", sa.Boolean, nullable=False),
        text("etag"),
        number("size"),
        number("modified"),
        sa.Column("content_type", sa.Text, nullable=True),
        sa.Column("storage_class", sa.Text, nullable=True),
        *(text(name) for name in ("headers", "checksums", "metadata", "tags")),
    )
    op.create_index("trove_dedup_objects_version", "trove_dedup_objects", ["bucket", "key", "number"], unique=True)
    op.create_index(
        "trove_dedup_objects_current",
        "trove_dedup_objects",
        ["bucket", "key"],
        unique=True,
        sqlite_where=sa.text("current IS 1"),
        postgresql_where=sa.text("current IS true"),
    )
    op.create_table(
        "trove_dedup_uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("bucket", sa.Text, sa.ForeignKey("trove_dedup_buckets.id"), nullable=False),
        sa.Column("key", ordered, nullable=False),
        text("options"),
        number("initiated_at"),
    )
    op.create_index("trove_dedup_uploads_key", "trove_dedup_uploads", ["bucket", "key"])
    op.create_table(
        "trove_dedup_parts",
        sa.Column("upload", sa.Text, sa.ForeignKey("trove_dedup_uploads.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        text("id"),
        number("size"),
    )
    op.create_table(
        "trove_dedup_segments",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("blob", sa.Text, sa.ForeignKey("trove_managed_blobs.id"), nullable=False),
        number("start"),
        number("size"),
    )
    op.create_index("trove_dedup_segments_blob", "trove_dedup_segments", ["blob"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("segments", "parts", "uploads", "objects", "buckets"):
        op.drop_table(f"trove_dedup_{table}")
