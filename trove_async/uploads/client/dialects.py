"""What the client says in each protocol, and how it reads the answers: without I/O.

`TusDialect` speaks tus 1.0, `IETFDialect` Resumable Uploads for HTTP: interop version 8 of the draft, and the RFC.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Protocol

from trove_async.errors import InvalidArgumentError, UnsupportedError
from trove_async.uploads.client.channel import Reply
from trove_async.uploads.client.remote import ProtocolName
from trove_async.uploads.metadata import NO_METADATA, MetaData
from trove_async.uploads.protocol.digests import format_digests
from trove_async.uploads.protocol.drafts import INTEROP_VERSION
from trove_async.uploads.protocol.fields import boolean, dictionary, serialise_boolean, whole_number
from trove_async.uploads.protocol.ietf import PARTIAL_UPLOAD
from trove_async.uploads.protocol.tus import VERSION
from trove_async.web.http import content_disposition
from trove_async.wire.fields import parse_http_date

__all__ = ["VERSION_PAIR", "Creation", "Dialect", "IETFDialect", "Offer", "State", "TusDialect"]

Pairs = list[tuple[str, str]]

VERSION_PAIR: Final = (INTEROP_VERSION, "8")
"""The header that names drafts 09 to 11. A server that speaks only another version sends no 104."""
_OFFSET_STREAM: Final = "application/offset+octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """The upload that is to be created.

    Attributes:
        size: its bytes; None if they are not known yet.
        metadata: names and values, which tus alone has.
        filename: of the uploaded file; None to say none.
        content_type: its media type; None to say none.
        is_partial: it becomes a part of a final upload.
    """

    size: int | None
    metadata: MetaData = NO_METADATA
    filename: str | None = None
    content_type: str | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a server announces.

    Attributes:
        extensions: of tus.
        checksums: the algorithms of tus' extension for checksums.
        max_size: bytes of an upload; None without a limit.
        max_append: bytes of the body of a request; None without a limit.
        is_rfc: it has limits of Resumable Uploads for HTTP, and does not answer in the draft that it was asked in.
    """

    extensions: frozenset[str] = frozenset()
    checksums: frozenset[str] = frozenset()
    max_size: int | None = None
    max_append: int | None = None
    is_rfc: bool = False

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Offer:
        """Read the answer to OPTIONS, of either protocol."""
        limits = dictionary(headers, "upload-limit")
        sizes = [_size(limits.get("max-size")), whole_number(headers, "tus-max-size")]
        return cls(
            extensions=_words(headers, "tus-extension"),
            checksums=_words(headers, "tus-checksum-algorithm"),
            max_size=min((size for size in sizes if size is not None), default=None),
            max_append=_size(limits.get("max-append-size")),
            is_rfc="upload-limit" in headers and INTEROP_VERSION.lower() not in headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What an answer says of an upload; None for what it does not say."""

    offset: int | None
    size: int | None
    is_complete: bool | None
    max_append: int | None
    expires_at: datetime | None
    metadata: MetaData


class Dialect(Protocol):
    """One protocol as the client speaks it."""

    name: ClassVar[ProtocolName]
    creates_with_body: bool
    """Whether the first bytes may be sent with the creation."""
    creates_whole: bool
    """Whether a creation with all bytes, which may be none, finishes the upload."""
    joins: bool
    """Whether an upload can be made of partial ones."""

    def check(self, creation: Creation, checksum: str | None) -> None:
        """Refuse what the server, or the protocol, does not offer.

        Raises:
            UnsupportedError: an upload without a size, or the checksum.
            InvalidArgumentError: metadata, where the protocol has none.
        """

    def create(self, creation: Creation, body_size: int) -> Pairs:
        """Return the headers that create an upload, with the whole of it as the body if that is not empty."""

    def append(self, offset: int, size: int | None, *, is_last: bool, digest: tuple[str, bytes] | None) -> Pairs:
        """Return the headers that append a body.

        Args:
            offset: at which the body begins.
            size: of the whole upload; None if it is not known.
            is_last: whether the upload ends with this body.
            digest: algorithm and checksum of the body; None to send none.
        """

    def plain(self) -> Pairs:
        """Return the headers of a request that only asks for, or removes, an upload."""

    def read(self, reply: Reply) -> State:
        """Return what an answer says of the upload."""

    def is_finished(self, state: State, end: int) -> bool:
        """Tell whether the upload is finished, from the answer to its last bytes, which end at an offset."""


class TusDialect:
    """tus 1.0.

    Args:
        offer: what the server announces.
    """

    name: ClassVar[ProtocolName] = "tus"

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self.creates_with_body = "creation-with-upload" in offer.extensions
        self.creates_whole = True
        self.joins = "concatenation" in offer.extensions

    def check(self, creation: Creation, checksum: str | None) -> None:
        """Refuse what the server does not announce."""
        if creation.size is None and "creation-defer-length" not in self._offer.extensions:
            raise UnsupportedError(
                "the server needs the size of an upload before its bytes (it does not announce creation-defer-length); "
                "give size=, or upload a file"
            )
        if checksum is not None and not ("checksum" in self._offer.extensions and checksum in self._offer.checksums):
            offered = ", ".join(sorted(self._offer.checksums)) or "none"
            raise UnsupportedError(f"the server does not compare {checksum} checksums (it announces {offered})")

    def create(self, creation: Creation, body_size: int) -> Pairs:
        """Return the headers of a creation, whose metadata has the names that other clients use."""
        headers = self.plain()
        size = creation.size
        headers.append(("Upload-Defer-Length", "1") if size is None else ("Upload-Length", str(size)))
        if creation.is_partial:
            headers.append(("Upload-Concat", "partial"))
        else:
            headers += self._described(creation)
        if body_size:
            headers.append(("Content-Type", _OFFSET_STREAM))
        return headers

    def join(self, creation: Creation, targets: list[str]) -> Pairs:
        """Return the headers that make an upload of partial ones, whose paths are given."""
        return [*self.plain(), ("Upload-Concat", f"final;{' '.join(targets)}"), *self._described(creation)]

    def append(self, offset: int, size: int | None, *, is_last: bool, digest: tuple[str, bytes] | None) -> Pairs:
        """Return the headers of a PATCH; a size that was deferred is said as soon as it is known."""
        headers = [*self.plain(), ("Content-Type", _OFFSET_STREAM), ("Upload-Offset", str(offset))]
        if size is not None:
            headers.append(("Upload-Length", str(size)))
        if digest is not None:
            headers.append(("Upload-Checksum", f"{digest[0]} {b64encode(digest[1]).decode()}"))
        return headers

    def plain(self) -> Pairs:
        """Return the header that every request has."""
        return [("Tus-Resumable", VERSION)]

    def read(self, reply: Reply) -> State:
        """Return what an answer says; that all bytes are there follows from the offset and the size."""
        headers = reply.headers
        try:
            metadata = MetaData.parse(headers.get("upload-metadata", ""))
        except InvalidArgumentError:
            metadata = NO_METADATA
        return State(
            offset=whole_number(headers, "upload-offset"),
            size=whole_number(headers, "upload-length"),
            is_complete=None,
            max_append=_size(dictionary(headers, "upload-limit").get("max-append-size")),
            expires_at=parse_http_date(headers.get("upload-expires")),
            metadata=metadata,
        )

    def is_finished(self, state: State, end: int) -> bool:
        """Compare the offset."""
        return state.offset == end

    @staticmethod
    def _described(creation: Creation) -> Pairs:
        values: dict[str, str | bytes] = {}
        if creation.filename is not None:
            values["filename"] = os.fsencode(creation.filename)
        if creation.content_type is not None:
            values["filetype"] = creation.content_type
        header = MetaData(values | dict(creation.metadata)).header
        return [("Upload-Metadata", header)] if header else []


class IETFDialect:
    """Resumable Uploads for HTTP.

    An upload is created without its bytes: if they came with the creation, and the answer were lost, the client would
    not know where to continue.

    Args:
        offer: what the server announces.
    """

    name: ClassVar[ProtocolName] = "ietf"

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self.creates_with_body = self.creates_whole = self.joins = False

    def check(self, creation: Creation, checksum: str | None) -> None:
        """Refuse metadata, for which the protocol has no header, and checksums that HTTP has no name for."""
        if creation.metadata:
            raise InvalidArgumentError(
                "Resumable Uploads for HTTP has no metadata; give filename= and content_type= instead"
            )
        if checksum is not None and format_digests({checksum: ""}, {}, "") is None:
            raise UnsupportedError(f"Content-Digest has no name for {checksum}; use sha256")

    def create(self, creation: Creation, body_size: int) -> Pairs:
        """Return the headers of a creation."""
        headers = [*self.plain(), ("Upload-Complete", serialise_boolean(False))]
        if creation.size is not None:
            headers.append(("Upload-Length", str(creation.size)))
        if creation.content_type is not None:
            headers.append(("Content-Type", creation.content_type))
        if creation.filename is not None:
            headers.append(("Content-Disposition", content_disposition("attachment", creation.filename)))
        return headers

    def append(self, offset: int, size: int | None, *, is_last: bool, digest: tuple[str, bytes] | None) -> Pairs:
        """Return the headers of a PATCH."""
        headers = [
            *self.plain(),
            ("Content-Type", PARTIAL_UPLOAD),
            ("Upload-Offset", str(offset)),
            ("Upload-Complete", serialise_boolean(is_last)),
        ]
        if digest is not None:
            value = format_digests({digest[0]: digest[1].hex()}, {}, "")
            headers.append(("Content-Digest", value or ""))
        return headers

    def plain(self) -> Pairs:
        """Return the header that every request to a server of the draft has."""
        return [] if self._offer.is_rfc else [VERSION_PAIR]

    def read(self, reply: Reply) -> State:
        """Return what an answer says."""
        headers = reply.headers
        limits = dictionary(headers, "upload-limit")
        age = _size(limits.get("max-age"))
        return State(
            offset=whole_number(headers, "upload-offset"),
            size=whole_number(headers, "upload-length"),
            is_complete=boolean(headers, "upload-complete"),
            max_append=_size(limits.get("max-append-size")),
            expires_at=None if age is None else datetime.now(UTC) + timedelta(seconds=age),
            metadata=NO_METADATA,
        )

    def is_finished(self, state: State, end: int) -> bool:
        """Return what the server says: a success alone may be the answer of something before it."""
        return state.is_complete is True


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _words(headers: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in headers.get(name, "").split(",") if word.strip())
