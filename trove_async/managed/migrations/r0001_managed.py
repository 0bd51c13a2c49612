"""Create the tables of blobs, links, requests, attempts and spaces."""

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
    op.create_table(
        "trove_managed_blobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("key", ordered, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("refs", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=True),
        sa.Column("condemned_at", sa.BigInteger, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    live, dead = sa.text("condemned_at IS NULL"), sa.text("condemned_at IS NOT NULL")
    op.create_index(
        "trove_managed_blobs_live",
        "trove_managed_blobs",
        ["digest", "space", "algorithm"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    keyed = sa.text("key <> ''")
    op.create_index(
        "trove_managed_blobs_key",
        "trove_managed_blobs",
        ["space", "key"],
        unique=True,
        sqlite_where=keyed,
        postgresql_where=keyed,
    )
    for name, columns in (("digest", ["digest", "space", "algorithm"]), ("due", ["space", "condemned_at"])):
        op.create_index(
            f"trove_managed_condemned_{name}", "trove_managed_blobs", columns, sqlite_where=dead, postgresql_where=dead
        )
    op.create_table(
        "trove_managed_links",
        sa.Column("space", sa.Text, primary_key=True),
        sa.Column("bucket", ordered, primary_key=True),
        sa.Column("user", ordered, primary_key=True),
        sa.Column("path", ordered, primary_key=True),
        sa.Column("blob", sa.Text, sa.ForeignKey("trove_managed_blobs.id"), nullable=False),
        sa.Column("content_type", sa.Text, nullable=True),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("trove_managed_links_blob", "trove_managed_links", ["blob"])
    op.create_table(
        "trove_managed_requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=True),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("ranges", sa.Text, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("trove_managed_requests_due", "trove_managed_requests", ["expires_at"])
    op.create_table(
        "trove_managed_attempts",
        sa.Column("request", sa.Text, primary_key=True),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
    )
    op.create_index("trove_managed_attempts_of", "trove_managed_attempts", ["space", "caller", "digest"])
    op.create_index("trove_managed_attempts_due", "trove_managed_attempts", ["made_at"])
    op.create_table(
        "trove_managed_spaces",
        sa.Column("space", sa.Text, primary_key=True),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=True),
        sa.Column("reached", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("spaces", "attempts", "requests", "links", "blobs"):
        op.drop_table(f"trove_managed_{table}")
