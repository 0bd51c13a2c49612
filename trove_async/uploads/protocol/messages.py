"""What the protocols have in common: the requests, the commands that requests stand for, and how they are answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from trove_async.errors import UploadRejectedError
from trove_async.types import EMPTY
from trove_async.uploads.info import FileInfo
from trove_async.uploads.metadata import NO_METADATA, MetaData
from trove_async.web.http import Headers
from trove_async.web.objects import Answer

__all__ = [
    "INLINE_TYPES",
    "Append",
    "Command",
    "Create",
    "Describe",
    "Discover",
    "Download",
    "Request",
    "Settings",
    "Terminate",
    "UploadProtocol",
    "announces_trailer",
    "check_not_encoded",
]


INLINE_TYPES: Final = frozenset(
    {
        "audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm",
        "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp",
        "text/plain",
        "video/mp4", "video/ogg", "video/webm",
    }
)  # fmt: skip
"""Media types that a browser shows. It saves all others: HTML and SVG of a stranger would run on the server's site."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, without its body.

    Attributes:
        method: in upper case, such as ``PATCH``.
        headers: by `trove_async.web.http.join_headers`.
        upload_id: the last part of the path, decoded; None for the collection, where uploads are created.
        base: the path of the collection, with a slash at its end, as clients see it.
        origin: such as ``https://example.com``, as clients see it; None if the server does not know it.
        trailers: whether the server delivers trailers of the request.
        native: the ASGI scope, or aiohttp's request, for hooks.
    """

    method: str
    headers: Headers
    upload_id: str | None = None
    base: str = "/"
    origin: str | None = None
    trailers: bool = False
    native: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server offers; the protocols announce it.

    Attributes:
        max_size: bytes of an upload; None without a limit.
        chunk_size: bytes of a request that are recommended, as a limit of a proxy; None without a limit.
        expires: seconds after which an upload that is not continued is removed; None if never.
        terminates, defers, concatenates, verifies: whether uploads can be removed, be created without a length, be
            joined, and take checksums.
        downloads: whether finished uploads can be read.
        inline_types: media types that browsers may show; others are saved as files.
        absolute: whether ``Location`` has the origin; otherwise it is a path, which is right behind every proxy.
    """

    max_size: int | None = None
    chunk_size: int | None = None
    expires: float | None = None
    terminates: bool = True
    defers: bool = True
    concatenates: bool = True
    verifies: bool = True
    downloads: bool = True
    inline_types: Collection[str] = INLINE_TYPES
    absolute: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Append the body to an upload.

    Attributes:
        offset: at which the client continues.
        size: the size of the upload, if the client says it now. An `UploadLengthError` refuses the request if the
            upload has another one.
        is_last: whether the upload is complete with this body; None if its size decides that (tus). If it is False,
            the upload stays unfinished, even if all its bytes are there.
        body_size: bytes of the body; None if it is not known before its end.
        checksum: algorithm to lower-case hex of this body; all of them are compared.
        trailing: algorithms of which the body's trailers have a checksum; empty if no checksum follows the body.
    """

    offset: int
    size: int | None = None
    is_last: bool | None = None
    body_size: int | None = None
    checksum: Mapping[str, str] = field(default=EMPTY)
    trailing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Create an upload.

    Attributes:
        size: of the upload; None if it is deferred.
        metadata: as the client sent it.
        is_partial: whether it is a part of a later upload.
        partial_ids: of which it consists; None if it is no final upload.
        digests: of the whole upload, algorithm to lower-case hex.
        append: what to do with the body of the request; None if it has none to append.
        content_type: media type of the upload, if the protocol says it outside of the metadata. It is put there, as
            ``filetype``.
        content_disposition, content_encoding, content_language: the same, with a dash.
    """

    size: int | None = None
    metadata: MetaData = NO_METADATA
    is_partial: bool = False
    partial_ids: tuple[str, ...] | None = None
    digests: Mapping[str, str] = field(default=EMPTY)
    append: Append | None = None
    content_type: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None


@dataclass(frozen=True, slots=True)
class Describe:
    """Return the offset of an upload (HEAD)."""


@dataclass(frozen=True, slots=True)
class Download:
    """Return a finished upload (GET)."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Remove an upload (DELETE)."""


@dataclass(frozen=True, slots=True)
class Discover:
    """Return what the server offers (OPTIONS)."""


Command = Create | Append | Describe | Download | Terminate | Discover


class UploadProtocol(Protocol):
    """A protocol of resumable uploads, for one request: made from it, and asked for the answers to it.

    It holds no state and does no I/O. All answers have the headers of the protocol, those of errors too.
    """

    @property
    def ends_by_size(self) -> bool:
        """Whether an upload is to be finished as soon as all its bytes are there; otherwise the client says it."""

    def command(self) -> Command:
        """Return what the request asks for.

        Raises:
            UploadRejectedError, InvalidArgumentError, ContentTooLargeError: it is malformed, or asks for what the
                server does not offer.
        """

    def trailing_checksum(self, trailers: Headers) -> Mapping[str, str]:
        """Return the checksums that follow the body (`Append.trailing`): algorithm to lower-case hex.

        Raises:
            InvalidArgumentError: one cannot be compared, or there is none where the protocol needs one.
        """

    def created(self, info: FileInfo, location: str) -> Answer:
        """Answer that an upload was created; with its offset if the request had a body for it.

        It is not called if `Append.is_last` is set: clients of the IETF protocol take any 2xx for the end of the upload
        then.
        """

    def appended(self, info: FileInfo) -> Answer:
        """Answer that a body was appended, with the new offset.

        If `Append.is_last` was said, the body was too short, and the answer is an `UploadLengthError`.
        """

    def finished(self, info: FileInfo, location: str | None) -> Answer:
        """Answer the request that finished an upload (``info.answer``), or one that asks for that answer again.

        That is an append without a body, at the end of a finished upload.
        ``location`` is that of an upload which the same request has created.
        """

    def described(self, info: FileInfo) -> Answer:
        """Answer with the state of an upload."""

    def downloaded(self, answer: Answer) -> Answer:
        """Return the answer that has the bytes of an upload, with the headers of the protocol."""

    def terminated(self) -> Answer:
        """Answer that an upload was removed."""

    def discovered(self) -> Answer:
        """Answer with what the server offers.

        As OPTIONS need not say which protocol it is about, its answer has the headers of both.
        """

    def failed(self, error: Exception, info: FileInfo | None = None) -> Answer:
        """Answer with an error, as the protocol names it.

        ``info`` is the upload, if it is known. An error that is not `trove_async`'s own is a 500 without details.
        """

    def invalidates(self, error: Exception, info: FileInfo) -> bool:
        """Tell whether an append that failed makes the upload invalid, so that the server removes it.

        The server asks before it answers with `failed`; ``info`` is the upload as for `failed`.
        """

    def interim(self, info: FileInfo, location: str) -> list[tuple[str, str]] | None:
        """Return the headers of a 104 (Upload Resumption Supported), which tells the URL of a new upload.

        None where the protocol forbids it.
        """


def announces_trailer(headers: Headers, name: str) -> bool:
    """Tell whether the header ``Trailer`` of a request has a name, which is in lower case."""
    return name in (each.strip().lower() for each in headers.get("trailer", "").split(","))


def check_not_encoded(headers: Headers) -> None:
    """Check that the bytes of a body are those of the upload: an offset counts them, so that they are not decoded.

    Raises:
        UploadRejectedError: they have a Content-Encoding.
    """
    if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise UploadRejectedError("send the body without Content-Encoding", status_code=415)
