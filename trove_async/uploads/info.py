"""What is known of a resumable upload."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Final, Self, Unpack

from trove_async.driver.capabilities import Limits
from trove_async.driver.options import PutOptions
from trove_async.errors import ContentTooLargeError, InvalidArgumentError, UploadNotFoundError
from trove_async.keys import check_bucket, check_key
from trove_async.store.arguments import (
    ConditionArguments,
    ObjectArguments,
    check_keywords,
    object_attributes,
    write_conditions,
)
from trove_async.types import EMPTY
from trove_async.uploads.metadata import NO_METADATA, MetaData

__all__ = ["Destination", "FileInfo", "FinalAnswer", "check_can_exist", "check_id", "check_limit", "lowest", "new_id"]

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")


def new_id() -> str:
    """Return a new id of an upload: 128 random bits, safe in a URL, and no option of a command (``-…``)."""
    return token_hex(16)


def check_id(upload_id: str) -> str:
    """Return the id of an upload that a hook has chosen.

    Raises:
        InvalidArgumentError: it has other characters than letters, digits, ``-`` and ``_``, or more than 128 of them.
    """
    if not isinstance(upload_id, str) or not _ID.match(upload_id):
        raise InvalidArgumentError(f"the id of an upload is 1 to 128 letters, digits, '-' and '_', not {upload_id!r}")
    return upload_id


def check_can_exist(upload_id: str) -> None:
    """Check that there can be an upload of an id, which may be anything that a client sends.

    Raises:
        UploadNotFoundError: there cannot.
    """
    try:
        check_id(upload_id)
    except InvalidArgumentError as error:
        raise UploadNotFoundError("there is no such upload") from error


def lowest(*limits: int | None) -> int | None:
    """Return the lowest of some limits, of which None is no limit; None without any."""
    return min((limit for limit in limits if limit is not None), default=None)


def check_limit(size: int | None, *limits: int | None) -> None:
    """Check the size of an upload, as far as it is known, against limits.

    Raises:
        ContentTooLargeError: it is above one of them.
    """
    most = lowest(*limits)
    if size is not None and most is not None and size > most:
        raise ContentTooLargeError(f"the upload has {size} bytes; at most {most} are accepted")


class DestinationArguments(ObjectArguments, ConditionArguments, total=False):
    """Keyword arguments of `Destination.of`."""


_ARGUMENTS: Final = frozenset(DestinationArguments.__optional_keys__)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a finished upload is, and how it is stored; `of` is the usual way to make one.

    Attributes:
        bucket, key: of the object.
        options: its content type, metadata and so on; ``if_none_match="*"`` never replaces an object.

    Raises:
        InvalidArgumentError: bucket or key is invalid for every store.
    """

    bucket: str
    key: str
    options: PutOptions = field(default_factory=PutOptions)

    def __post_init__(self) -> None:
        check_bucket(self.bucket)
        check_key(self.key)

    @classmethod
    def of(cls, bucket: str, key: str, **arguments: Unpack[DestinationArguments]) -> Self:
        """Return a destination, with the keyword arguments of `Trove.put`.

        Args:
            bucket, key: of the object.
            arguments: ``content_type`` (default: from the key's extension), ``metadata``, ``tags``,
                ``storage_class``, ``cache_control``, ``content_disposition``, ``content_encoding``,
                ``content_language``; ``if_none_match="*"`` never replaces an object, ``if_match`` replaces the object
                that has this ETag.

        Raises:
            InvalidArgumentError: bucket, key or an argument is invalid.
        """
        check_keywords("of", arguments, _ARGUMENTS)
        if_match, if_none_match = write_conditions(arguments)
        attributes = object_attributes(key, arguments, Limits())
        return cls(bucket, key, PutOptions(attributes=attributes, if_match=if_match, if_none_match=if_none_match))


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The answer to the request that finished an upload; clients that ask again get it again.

    Attributes:
        status: 200 to 299.
        headers: further headers of the answer.
        body: sent with it.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A resumable upload.

    Attributes:
        id: names the upload, in its URL too; empty if nothing has named it yet.
        size: bytes of the whole upload; None while it is not known (a deferred length).
        offset: bytes that are durable, counted from the start.
        metadata: as the client sent it.
        is_partial: it will be a part of a final upload, and is no object of its own.
        is_final: it consists of partial uploads.
        partial_ids: of which a final upload consists, in order.
        max_size: bytes that the upload may have; None without a limit.
        destination: where the object is put; None for the store's default, the id in its bucket.
        owner: names who created the upload, for hooks; a final upload takes partial uploads of the same owner only.
        digests: algorithm to lower-case hex, of the whole upload, as the client gave them; compared before it is
            finished.
        created_at: aware, in UTC.
        expires_at: when it is removed unless it is finished or continued; None if it does not expire.
        is_finished: the object is at its destination (a partial upload: all its bytes are durable).
        etag: of the object, once it is finished.
        answer: what the client was answered when the upload was finished; None for the usual answer.
    """

    id: str = ""
    size: int | None = None
    offset: int = 0
    metadata: MetaData = NO_METADATA
    is_partial: bool = False
    is_final: bool = False
    partial_ids: tuple[str, ...] = ()
    max_size: int | None = None
    destination: Destination | None = None
    owner: str = ""
    digests: Mapping[str, str] = field(default=EMPTY)
    created_at: datetime | None = None
    expires_at: datetime | None = None
    is_finished: bool = False
    etag: str | None = None
    answer: FinalAnswer | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there, so that the upload can be finished."""
        return self.offset == self.size
