"""The tables of `Dedup`: names, and the contents that they refer to in the tables of managed storage."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, Table, Text

from trove_async.database import Timestamp
from trove_async.database.schema import ORDERED_TEXT

__all__ = ["BUCKETS", "CHUNKINGS", "COMPONENT", "MIGRATIONS", "OBJECTS", "PARTS", "SEGMENTS", "UPLOADS"]

COMPONENT: Final = "dedup"
MIGRATIONS: Final = "trove_async.managed.dedup.migrations"

_metadata: Final = MetaData()

BUCKETS: Final = Table(
    "trove_dedup_buckets",
    _metadata,
    Column("id", Text, primary_key=True),
    # That of the blobs: separates the stores that share a database.
    Column("space", Text, nullable=False),
    Column("name", ORDERED_TEXT, nullable=False),
    # A `VersioningStatus`.
    Column("versioning", Text, nullable=False),
    # Lifecycle rules, JSON.
    Column("rules", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
)
Index("trove_dedup_buckets_name", BUCKETS.c.space, BUCKETS.c.name, unique=True)

OBJECTS: Final = Table(
    "trove_dedup_objects",
    _metadata,
    # Random; the owner of the SEGMENTS.
    Column("id", Text, primary_key=True),
    Column("bucket", Text, ForeignKey(BUCKETS.c.id), nullable=False),
    Column("key", ORDERED_TEXT, nullable=False),
    # Ascends with the versions of a key.
    Column("number", BigInteger, nullable=False),
    # `NULL_VERSION`, or random.
    Column("version", Text, nullable=False),
    # True for the object that a plain get finds.
    Column("current", Boolean, nullable=False),
    # True for a delete marker.
    Column("marker", Boolean, nullable=False),
    Column("etag", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("modified", Timestamp, nullable=False),
    Column("content_type", Text, nullable=True),
    Column("storage_class", Text, nullable=True),
    # JSON: the content headers, and the checksums.
    Column("headers", Text, nullable=False),
    Column("checksums", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("tags", Text, nullable=False),
)
"""The objects, their versions, and delete markers."""
Index("trove_dedup_objects_version", OBJECTS.c.bucket, OBJECTS.c.key, OBJECTS.c.number, unique=True)
Index(
    "trove_dedup_objects_current",
    OBJECTS.c.bucket,
    OBJECTS.c.key,
    unique=True,
    sqlite_where=OBJECTS.c.current.is_(True),
    postgresql_where=OBJECTS.c.current.is_(True),
)

UPLOADS: Final = Table(
    "trove_dedup_uploads",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("bucket", Text, ForeignKey(BUCKETS.c.id), nullable=False),
    Column("key", ORDERED_TEXT, nullable=False),
    # JSON, of `PutOptions.dump`.
    Column("options", Text, nullable=False),
    Column("initiated_at", Timestamp, nullable=False),
)
"""The multipart uploads that are open."""
Index("trove_dedup_uploads_key", UPLOADS.c.bucket, UPLOADS.c.key)

PARTS: Final = Table(
    "trove_dedup_parts",
    _metadata,
    Column("upload", Text, ForeignKey(UPLOADS.c.id), primary_key=True),
    Column("number", Integer, primary_key=True),
    # Random; the owner of the SEGMENTS, and the ETag.
    Column("id", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
)

SEGMENTS: Final = Table(
    "trove_dedup_segments",
    _metadata,
    # The id of an object or of a part.
    Column("owner", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    # The id of a blob in `trove_async.managed.schema.BLOBS`; each row is one of its references.
    Column("blob", Text, nullable=False),
    # Where the segment begins in the blob.
    Column("start", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    # Where the segment begins in the object or part.
    Column("position", BigInteger, nullable=False),
)
"""The bytes of objects and parts: ranges of blobs, one after another."""
Index("trove_dedup_segments_position", SEGMENTS.c.owner, SEGMENTS.c.position)
Index("trove_dedup_segments_blob", SEGMENTS.c.blob)

CHUNKINGS: Final = Table(
    "trove_dedup_chunkings",
    _metadata,
    Column("space", Text, primary_key=True),
    # Of the sizes of chunks, in bytes.
    Column("average", Integer, primary_key=True),
    # Random; the places at which content is cut depend on it.
    Column("seed", BigInteger, nullable=False),
)
