"""Create the tables of quotas."""

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
    key = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

    def number(name: str) -> sa.Column[int]:
        return sa.Column(name, sa.BigInteger, nullable=False)

    op.create_table(
        "trove_quota_limits",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("max_bytes", sa.BigInteger, nullable=True),
        sa.Column("max_objects", sa.BigInteger, nullable=True),
        number("used_bytes"),
        number("used_objects"),
        sa.Column("counted", sa.Boolean, nullable=False),
    )
    op.create_table(
        "trove_quota_accounts",
        sa.Column("bucket", sa.Text, primary_key=True),
        sa.Column("key", key, primary_key=True),
        sa.Column("upload", sa.Text, primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True),
        *(number(name) for name in ("bytes", "objects", "peak_bytes", "peak_objects")),
        *(number(name) for name in ("charged_bytes", "charged_objects")),
        sa.Column("running", sa.Integer, nullable=False),
        number("changes"),
        sa.Column("unsure", sa.Boolean, nullable=False),
        number("touched"),
    )
    op.create_index(
        "trove_quota_accounts_unsure",
        "trove_quota_accounts",
        ["bucket"],
        sqlite_where=sa.text("unsure"),
        postgresql_where=sa.text("unsure"),
    )
    op.create_index(
        "trove_quota_accounts_empty",
        "trove_quota_accounts",
        ["touched"],
        sqlite_where=sa.text("charged_bytes = 0 AND charged_objects = 0"),
        postgresql_where=sa.text("charged_bytes = 0 AND charged_objects = 0"),
    )
    op.create_table(
        "trove_quota_reservations",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("key", key, nullable=False),
        sa.Column("upload", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        number("bytes"),
        number("objects"),
        sa.Column("adds", sa.Boolean, nullable=False),
        sa.Column("versioning", sa.Text, nullable=False),
    )
    op.create_index(
        "trove_quota_reservations_slot",
        "trove_quota_reservations",
        ["bucket", "key", "upload", "part"],
    )
    op.create_table(
        "trove_quota_buckets",
        sa.Column("bucket", sa.Text, primary_key=True),
        sa.Column("versioning", sa.Text, nullable=True),
    )
    op.create_table(
        "trove_quota_state",
        sa.Column("id", sa.Integer, primary_key=True),
        number("revision"),
    )
    op.execute("INSERT INTO trove_quota_state (id, revision) VALUES (1, 0)")


def downgrade() -> None:
    """Drop the tables."""
    for name in ("limits", "accounts", "reservations", "buckets", "state"):
        op.drop_table(f"trove_quota_{name}")
