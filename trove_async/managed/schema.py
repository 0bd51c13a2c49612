"""The tables of managed storage."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    case,
)

from trove_async.database import Timestamp
from trove_async.database.schema import ORDERED_TEXT

__all__ = [
    "ATTEMPTS",
    "BLOBS",
    "COMPONENT",
    "LINKS",
    "MIGRATIONS",
    "ORPHANED",
    "READABLE",
    "REQUESTS",
    "SPACES",
    "State",
]

COMPONENT: Final = "managed"
MIGRATIONS: Final = "trove_async.managed.migrations"

_metadata: Final = MetaData()


class State(StrEnum):
    """The state of a blob. `trove_async.managed.transitions` draws how it changes."""

    PENDING = "pending"
    """A writer has announced it; its bytes are not stored yet."""
    STORED = "stored"
    CONDEMNED = "condemned"
    """Nobody refers to it. A proof of access can take it back."""
    SWEEPING = "sweeping"
    """The sweep deletes its bytes, and then its row; nothing takes it back."""
    SWEPT = "swept"
    """Bytes that no blob had were deleted. The row keeps a late writer, who has stored them, from referring to them."""
    LOST = "lost"
    """Its bytes are missing or wrong, as ``fsck`` has found, and are not read. Whoever stores the content again
    restores it for all."""


ORPHANED: Final = ""
"""The algorithm of a row for bytes that no blob had, whose digest is not known."""

BLOBS: Final = Table(
    "trove_managed_blobs",
    _metadata,
    # Random, and never used again: content that is condemned and stored once more gets another row and key.
    Column("id", Text, primary_key=True),
    # Separates the stores that share a database.
    Column("space", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("digest", Text, nullable=False),
    # Where its bytes are; empty while it is pending.
    Column("key", ORDERED_TEXT, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    # All references: the names in LINKS, and `held`.
    Column("refs", BigInteger, nullable=False),
    # The references that have no name: of `ResourceCatalog.put` and of the content-addressed store.
    Column("held", BigInteger, nullable=False),
    # True: it stays although nobody refers to it.
    Column("pinned", Boolean, nullable=False),
    # When the writers of a pending blob are taken for dead.
    Column("lease_until", Timestamp, nullable=True),
    # NULL while it is pending, stored or lost.
    Column("condemned_at", Timestamp, nullable=True),
    Column("created_at", Timestamp, nullable=False),
)
"""The contents, each with the key of its bytes."""

READABLE: Final = case((BLOBS.c.state == State.LOST, ""), else_=BLOBS.c.key).label("readable")
"""The key from which the bytes of a blob may be read: empty if they were lost, since what is there may be wrong."""

# Content has at most one row that is pending, stored or lost, and any number that wait for the sweep. The digest comes
# first: PostgreSQL may believe, by statistics that are out of date, that there is little in a space.
Index(
    "trove_managed_blobs_live",
    BLOBS.c.digest,
    BLOBS.c.space,
    BLOBS.c.algorithm,
    unique=True,
    sqlite_where=BLOBS.c.condemned_at.is_(None),
    postgresql_where=BLOBS.c.condemned_at.is_(None),
)

# No two blobs share bytes, and none gets bytes that the sweep deletes because no blob had them.
Index(
    "trove_managed_blobs_key",
    BLOBS.c.space,
    BLOBS.c.key,
    unique=True,
    sqlite_where=BLOBS.c.key != "",
    postgresql_where=BLOBS.c.key != "",
)

LINKS: Final = Table(
    "trove_managed_links",
    _metadata,
    Column("space", Text, primary_key=True),
    Column("bucket", ORDERED_TEXT, primary_key=True),
    Column("user", ORDERED_TEXT, primary_key=True),
    Column("path", ORDERED_TEXT, primary_key=True),
    # Always of a blob that is stored or lost.
    Column("blob", Text, ForeignKey(BLOBS.c.id), nullable=False),
    Column("content_type", Text, nullable=True),
    # JSON.
    Column("metadata", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
)
"""The names of contents."""

REQUESTS: Final = Table(
    "trove_managed_requests",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("space", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("content_type", Text, nullable=True),
    Column("metadata", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    # JSON: offset and length of each.
    Column("ranges", Text, nullable=False),
    # Wrong answers of the caller so far.
    Column("failures", Integer, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)
"""The requests for a proof of access that were not answered yet."""

ATTEMPTS: Final = Table(
    "trove_managed_attempts",
    _metadata,
    Column("request", Text, primary_key=True),
    Column("space", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("made_at", Timestamp, nullable=False),
)
"""When requests were made, of the last minute."""

SPACES: Final = Table(
    "trove_managed_spaces",
    _metadata,
    Column("space", Text, primary_key=True),
    # Random: where the bytes of this space are, and no others, whatever databases share a bucket.
    Column("folder", Text, nullable=False),
    # When the collector has last looked at the clock, which must never be earlier; NULL before its first run.
    Column("seen_at", Timestamp, nullable=True),
    # The last path of the listing that an interrupted collector had reached; empty if there is none.
    Column("reached", Text, nullable=False),
)
"""The stores of the database, and what the collector of each must know of its last run."""
