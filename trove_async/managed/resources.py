"""The values of managed storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from trove_async.types import EMPTY

__all__ = ["ManagedInfo", "ManagedResource", "PutResponse", "RequestResponse", "Resource"]


@dataclass(frozen=True, slots=True)
class Resource:
    """Content that is stored once, however many references it has.

    Attributes:
        id: names it in the catalogue.
        sha384: of its bytes, 96 lower-case hex digits.
        path: where its bytes are in the `ResourceStorage`; empty while they are being stored.
        length: bytes.
    """

    id: str
    sha384: str
    path: str
    length: int


@dataclass(frozen=True, slots=True)
class ManagedResource:
    """A name of content.

    Attributes:
        bucket: whose it is; empty if it belongs to a user or to all.
        user: whose it is; empty if it belongs to a bucket or to all.
        path: the name, 1 to 1,024 bytes of UTF-8; opaque, as a key of an object is.
    """

    bucket: str
    user: str
    path: str


@dataclass(frozen=True, slots=True)
class ManagedInfo:
    """What is known of a name.

    Attributes:
        resource: the name.
        length: bytes.
        sha384: of the content, lower-case hex.
        content_type: media type; None if none was given.
        metadata: the user's own.
        created_at: when the name got its content; aware, in UTC.
    """

    resource: ManagedResource
    length: int
    sha384: str
    content_type: str | None = None
    metadata: Mapping[str, str] = EMPTY
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RequestResponse:
    """What a caller must prove to get a reference to content without sending it.

    Attributes:
        request_id: of the request; random.
        nonce: the key of the proof, random bytes.
        ranges: offset and length of each range that the proof covers, in order; together they reach every byte of the
            content with the same probability. Empty content has one range of length 0.
        expires: when the request ends; aware, in UTC.
    """

    request_id: str
    nonce: bytes
    ranges: tuple[tuple[int, int], ...]
    expires: datetime

    @property
    def range_start(self) -> int:
        """The offset of the range.

        Raises:
            ValueError: there are several ranges.
        """
        return self._only[0]

    @property
    def range_length(self) -> int:
        """The length of the range.

        Raises:
            ValueError: there are several ranges.
        """
        return self._only[1]

    @property
    def _only(self) -> tuple[int, int]:
        if len(self.ranges) != 1:
            raise ValueError(f"the request has {len(self.ranges)} ranges; read `ranges`")
        return self.ranges[0]


@dataclass(frozen=True, slots=True)
class PutResponse:
    """A proof of access; made by `new_put_response`.

    Attributes:
        request_id: of the request.
        proof: lower-case hex.
    """

    request_id: str
    proof: str
