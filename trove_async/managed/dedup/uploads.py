"""Multipart uploads, as changes within a transaction. Each part is stored as a blob, and the object refers to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select

from trove_async.database.schema import begins_with
from trove_async.driver.options import PutOptions
from trove_async.errors import InvalidPartError, UploadNotFoundError
from trove_async.managed.catalogue import new_id
from trove_async.managed.dedup.objects import TICK, Bucket
from trove_async.managed.dedup.schema import PARTS, UPLOADS
from trove_async.managed.dedup.segments import Piece, Segment, pieces_of_many
from trove_async.types import PartInfo, UploadInfo
from trove_async.values import can_be_kept

__all__ = ["Upload", "begin", "open_uploads"]

_PARTS: Final = select(PARTS).where(PARTS.c.upload == bindparam("its_upload")).order_by(PARTS.c.number)
_PART: Final = select(PARTS.c.id).where(
    PARTS.c.upload == bindparam("its_upload"), PARTS.c.number == bindparam("its_number")
)


class Upload:
    """An open upload within a transaction.

    Args:
        bucket: which has it.
        key: of its object.
        id: of the upload.

    Attributes:
        id: as given.
        options: of its object.

    Raises:
        UploadNotFoundError: it is not open, or belongs to another key.
    """

    def __init__(self, bucket: Bucket, key: str, id: str) -> None:
        wanted = select(UPLOADS).where(UPLOADS.c.id == id, UPLOADS.c.bucket == bucket.id, UPLOADS.c.key == key)
        row = bucket.connection.execute(wanted).first() if can_be_kept(id) else None
        if row is None:
            raise UploadNotFoundError(f"no multipart upload {id!r} of this key is open", key=key)
        self._connection = bucket.connection
        self._bucket = bucket
        self.id: Final = id
        self.options: Final = PutOptions.load(json.loads(row.options))

    def _rows(self) -> Sequence[Row[Any]]:
        return self._connection.execute(_PARTS, {"its_upload": self.id}).all()

    def parts(self) -> list[PartInfo]:
        """Return the parts, in the order of their numbers."""
        return [PartInfo(row.number, row.id, row.size) for row in self._rows()]

    def write(self, number: int, segments: Sequence[Segment]) -> PartInfo:
        """Store a part; it replaces one with the same number."""
        before = self._connection.scalars(_PART, {"its_upload": self.id, "its_number": number}).all()
        self._bucket.references.remove(before)
        self._connection.execute(delete(PARTS).where(PARTS.c.upload == self.id, PARTS.c.number == number))
        info = PartInfo(number, new_id(), sum(segment.size for segment in segments))
        values = {"upload": self.id, "number": number, "id": info.etag, "size": info.size}
        self._connection.execute(insert(PARTS).values(**values))
        self._bucket.references.add(info.etag, segments)
        self._bucket.flush()
        return info

    def chosen(self, wanted: Sequence[PartInfo]) -> list[Piece]:
        """Return the bytes of the parts that make up the object.

        Raises:
            InvalidPartError: one is missing, or has another ETag.
        """
        stored = {row.number: row.id for row in self._rows()}
        for part in wanted:
            if part.number not in stored:
                raise InvalidPartError(f"part {part.number} was not uploaded")
            if stored[part.number] != part.etag:
                raise InvalidPartError(
                    f"part {part.number} has the ETag {stored[part.number]!r}, not {part.etag!r}: it was uploaded again"
                )
        return pieces_of_many(self._connection, [part.etag for part in wanted])

    def end(self) -> None:
        """Remove the upload and its parts."""
        self._bucket.references.remove([row.id for row in self._rows()])
        self._bucket.flush()
        self._connection.execute(delete(PARTS).where(PARTS.c.upload == self.id))
        self._connection.execute(delete(UPLOADS).where(UPLOADS.c.id == self.id))


def begin(connection: Connection, bucket: Bucket, key: str, options: PutOptions) -> str:
    """Open an upload and return its id."""
    id = new_id()
    # Uploads of one key are in the order of their start times, however coarse the clock is.
    latest = select(func.max(UPLOADS.c.initiated_at)).where(UPLOADS.c.bucket == bucket.id, UPLOADS.c.key == key)
    before: datetime | None = connection.scalar(latest)
    time = bucket.time if before is None else max(bucket.time, before + TICK)
    values = {"id": id, "bucket": bucket.id, "key": key, "options": json.dumps(options.dump())}
    connection.execute(insert(UPLOADS).values(**values, initiated_at=time))
    return id


def open_uploads(connection: Connection, bucket: Bucket, prefix: str) -> list[UploadInfo]:
    """Return the open uploads, in the order of their keys, then of their start times."""
    wanted = select(UPLOADS).where(UPLOADS.c.bucket == bucket.id, begins_with(UPLOADS.c.key, prefix))
    rows = connection.execute(wanted.order_by(UPLOADS.c.key, UPLOADS.c.initiated_at, UPLOADS.c.id)).all()
    return [UploadInfo(row.id, row.key, row.initiated_at) for row in rows]
