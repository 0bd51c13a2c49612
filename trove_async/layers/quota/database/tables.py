"""The tables of quotas."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table, Text

from trove_async.database import Timestamp
from trove_async.database.schema import ORDERED_TEXT

__all__ = ["ACCOUNTS", "BUCKETS", "LIMITS", "RESERVATIONS", "STATE"]

_metadata: Final = MetaData()

LIMITS: Final = Table(
    "trove_quota_limits",
    _metadata,
    Column("name", Text, primary_key=True),
    Column("max_bytes", BigInteger, nullable=True),
    Column("max_objects", BigInteger, nullable=True),
    Column("used_bytes", BigInteger, nullable=False),
    Column("used_objects", BigInteger, nullable=False),
    # False: the objects that were there before the limit are not yet counted.
    Column("counted", Boolean, nullable=False),
)

ACCOUNTS: Final = Table(
    "trove_quota_accounts",
    _metadata,
    Column("bucket", Text, primary_key=True),
    Column("key", ORDERED_TEXT, primary_key=True),
    Column("upload", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("peak_bytes", BigInteger, nullable=False),
    Column("peak_objects", BigInteger, nullable=False),
    Column("charged_bytes", BigInteger, nullable=False),
    Column("charged_objects", BigInteger, nullable=False),
    Column("running", Integer, nullable=False),
    Column("changes", BigInteger, nullable=False),
    Column("unsure", Boolean, nullable=False),
    Column("touched", Timestamp, nullable=False),
)

RESERVATIONS: Final = Table(
    "trove_quota_reservations",
    _metadata,
    Column("owner", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("key", ORDERED_TEXT, nullable=False),
    Column("upload", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("adds", Boolean, nullable=False),
    Column("versioning", Text, nullable=False),
)

BUCKETS: Final = Table(
    "trove_quota_buckets",
    _metadata,
    Column("bucket", Text, primary_key=True),
    Column("versioning", Text, nullable=True),
)

STATE: Final = Table(
    "trove_quota_state",
    _metadata,
    Column("id", Integer, primary_key=True),
    # Grows when the limits change, so that every process reads them again.
    Column("revision", BigInteger, nullable=False),
)
