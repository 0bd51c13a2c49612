"""tus 1.0 (https://tus.io/protocols/resumable-upload, version 1.0.0) with its extensions, without I/O."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from trove_async.checksums import Checksum, is_available
from trove_async.errors import (
    ChecksumError,
    InvalidArgumentError,
    ObjectAlreadyExistsError,
    UploadRejectedError,
)
from trove_async.types import EMPTY
from trove_async.uploads.info import FileInfo, check_id, check_limit
from trove_async.uploads.metadata import NO_METADATA, MetaData
from trove_async.uploads.protocol.messages import (
    Append,
    Command,
    Create,
    Describe,
    Discover,
    Download,
    Request,
    Settings,
    Terminate,
    announces_trailer,
    check_not_encoded,
)
from trove_async.uploads.protocol.problems import problem_answer, upload_status
from trove_async.web.http import Headers, content_length, http_date, media_type
from trove_async.web.objects import Answer

__all__ = ["MAX_PARTIALS", "VERSION", "Tus", "tus_method"]

VERSION: Final = "1.0.0"

MAX_PARTIALS: Final = 1000
"""Partial uploads of which one final upload may consist."""

_ALGORITHMS: Final = tuple(each for each in ("sha1", "md5", "sha256", "crc32", "crc32c") if is_available(each))
_MEDIA_TYPE: Final = "application/offset+octet-stream"
_MAX_DIGITS: Final = 64
_MAX_SIZE: Final = 2**63 - 1


def tus_method(request: Request) -> str:
    """Return the method of a request; the header ``X-HTTP-Method-Override`` replaces it (any method)."""
    return request.headers.get("x-http-method-override", request.method).upper()


@dataclass(frozen=True, slots=True)
class Tus:
    """tus 1.0 for one request; an `UploadProtocol`.

    A failure of the server is answered with 423 (Locked) if the client asks for the offset: clients such as
    tus-js-client understand any other error there as the loss of the upload, and begin a new one. So are 429 and the
    failures of what the server depends on. 404 and 410 say that the upload is gone.
    """

    request: Request
    settings: Settings

    @property
    def ends_by_size(self) -> bool:
        """Return True: the size alone says when an upload is complete."""
        return True

    def command(self) -> Command:
        """Return what the request asks for."""
        method, headers = tus_method(self.request), self.request.headers
        if method == "OPTIONS":
            return Discover()
        if method != "GET" and headers.get("tus-resumable") != VERSION:
            raise UploadRejectedError(f"the server speaks version {VERSION} of tus: send Tus-Resumable: {VERSION}",
                                      status_code=412, headers=[("Tus-Version", VERSION)])  # fmt: skip
        commands: dict[str, Callable[[], Command]] = {"POST": self._create}
        allowed = "POST, OPTIONS"
        if self.request.upload_id is not None:
            commands = {"HEAD": Describe, "PATCH": self._append}
            if self.settings.downloads:
                commands["GET"] = Download
            if self.settings.terminates:
                commands["DELETE"] = Terminate
            allowed = ", ".join([*commands, "OPTIONS"])
        if method not in commands:
            raise UploadRejectedError("the method is not offered here", status_code=405, headers=[("Allow", allowed)])
        return commands[method]()

    def _create(self) -> Create:
        headers = self.request.headers
        metadata = MetaData.parse(headers["upload-metadata"]) if "upload-metadata" in headers else NO_METADATA
        concat = headers.get("upload-concat", "")
        has_body = self._has_body()
        if "upload-concat" in headers:
            self._check_offered(self.settings.concatenates, "Upload-Concat")
            if concat.startswith("final;"):
                if has_body:
                    raise UploadRejectedError("a final upload takes no body", status_code=403)
                if "upload-length" in headers or "upload-defer-length" in headers:
                    raise InvalidArgumentError("a final upload has no Upload-Length: it is the sum of its parts")
                return Create(metadata=metadata, partial_ids=self._partial_ids(concat.removeprefix("final;")))
            if concat != "partial":
                raise InvalidArgumentError("Upload-Concat is 'partial' or 'final;' with the URLs of partial uploads")
        size = self._size_at_creation()
        append = None
        if has_body:
            self._check_media_type()
            append = self._body(0)
        return Create(size=size, metadata=metadata, is_partial=bool(concat), append=append)

    def _size_at_creation(self) -> int | None:
        headers = self.request.headers
        if "upload-defer-length" in headers:
            self._check_offered(self.settings.defers, "Upload-Defer-Length")
            if "upload-length" in headers:
                raise InvalidArgumentError("Upload-Length and Upload-Defer-Length exclude each other")
            if headers["upload-defer-length"] != "1":
                raise InvalidArgumentError("Upload-Defer-Length is 1")
            return None
        if "upload-length" not in headers:
            raise InvalidArgumentError("Upload-Length is missing")
        return self._length()

    def _append(self) -> Append:
        self._check_media_type()
        if "upload-offset" not in self.request.headers:
            raise InvalidArgumentError("Upload-Offset is missing")
        return self._body(_number("Upload-Offset", self.request.headers["upload-offset"]))

    def _body(self, offset: int) -> Append:
        headers = self.request.headers
        checksum: Mapping[str, str] = EMPTY
        if "upload-checksum" in headers:
            self._check_offered(self.settings.verifies, "Upload-Checksum")
            checksum = _checksum(headers["upload-checksum"])
        in_trailer = announces_trailer(headers, "upload-checksum")
        if in_trailer:
            self._check_offered(self.settings.verifies and self.request.trailers, "Upload-Checksum in the trailer")
        return Append(
            offset=offset,
            size=self._length() if self.request.upload_id and "upload-length" in headers else None,
            body_size=content_length(headers),
            checksum=checksum,
            trailing=_ALGORITHMS if in_trailer else (),
        )

    def _length(self) -> int:
        size = _number("Upload-Length", self.request.headers["upload-length"])
        check_limit(size, _MAX_SIZE if self.settings.max_size is None else self.settings.max_size)
        return size

    def _has_body(self) -> bool:
        """Whether bytes of the upload come with a creation."""
        headers = self.request.headers
        if media_type(headers) == _MEDIA_TYPE:
            return True
        return bool(content_length(headers)) or "transfer-encoding" in headers

    def _check_media_type(self) -> None:
        if media_type(self.request.headers) != _MEDIA_TYPE:
            raise UploadRejectedError(f"the Content-Type of bytes of an upload is {_MEDIA_TYPE}", status_code=415)
        check_not_encoded(self.request.headers)

    @staticmethod
    def _check_offered(offered: bool, header: str) -> None:
        # What a client relies on is not ignored.
        if not offered:
            raise InvalidArgumentError(f"{header} is not supported")

    def _partial_ids(self, urls: str) -> tuple[str, ...]:
        found = tuple(self._partial_id(url) for url in urls.split(" ") if url)
        if not found:
            raise InvalidArgumentError("a final upload consists of one partial upload at least")
        if len(found) > MAX_PARTIALS:
            raise InvalidArgumentError(f"a final upload consists of at most {MAX_PARTIALS} partial uploads")
        return found

    def _partial_id(self, url: str) -> str:
        """Return the id of a partial upload from its URL, absolute or relative.

        The host is not compared: behind a proxy the server may know another one than the client.
        """
        try:
            parts = urlsplit(urljoin(self.request.base, url))
            start, _, last = parts.path.rpartition("/")
            if parts.scheme not in ("", "http", "https") or f"{unquote(start)}/" != self.request.base:
                raise ValueError
            if parts.query or parts.fragment:
                raise ValueError
            return check_id(unquote(last))
        except ValueError as error:  # InvalidArgumentError is one
            raise InvalidArgumentError(f"Upload-Concat: {url!r} is not the URL of an upload of this server") from error

    def trailing_checksum(self, trailers: Headers) -> Mapping[str, str]:
        """Return the checksum that follows the body."""
        if "upload-checksum" not in trailers:
            raise InvalidArgumentError("the trailer has no Upload-Checksum, although Trailer announces it")
        return _checksum(trailers["upload-checksum"])

    def created(self, info: FileInfo, location: str) -> Answer:
        """Answer that an upload was created; with its offset if the request had a body for it."""
        headers = [("Location", location), *self._expires(info), ("Content-Length", "0")]
        if self._has_body():
            headers.insert(1, ("Upload-Offset", str(info.offset)))
        return self._answer(201, headers)

    def appended(self, info: FileInfo) -> Answer:
        """Answer that a body was appended, with the new offset."""
        return self._answer(204, [("Upload-Offset", str(info.offset)), *self._expires(info)])

    def finished(self, info: FileInfo, location: str | None) -> Answer:
        """Answer as for a creation or a body, with what the application adds.

        The status is that of the protocol, which clients compare, unless the application answers with a body: then
        its status replaces a 204, which has none.
        """
        usual = self.appended(info) if location is None else self.created(info, location)
        if info.answer is None:
            return usual
        replaced = {name.lower() for name, _ in info.answer.headers} | {"content-length"}
        headers = [*((k, v) for k, v in usual.headers if k.lower() not in replaced), *info.answer.headers]
        body = info.answer.body
        status = usual.status
        if body and status == 204:
            status = 200 if info.answer.status == 204 else info.answer.status
        if status != 204:
            headers.append(("Content-Length", str(len(body))))
        return Answer(status, headers, body)

    def described(self, info: FileInfo) -> Answer:
        """Answer with the state of an upload.

        A final upload has no offset before its parts are joined: so the protocol says it.
        """
        headers = [("Cache-Control", "no-store")]
        if not info.is_final or info.is_finished or info.offset:
            headers.append(("Upload-Offset", str(info.offset)))
        if info.size is not None:
            headers.append(("Upload-Length", str(info.size)))
        elif not info.is_final:
            headers.append(("Upload-Defer-Length", "1"))
        if info.metadata.header:
            headers.append(("Upload-Metadata", info.metadata.header))
        if info.is_partial:
            headers.append(("Upload-Concat", "partial"))
        if info.is_final:
            urls = " ".join(self.request.base + each for each in info.partial_ids)
            headers.append(("Upload-Concat", f"final;{urls}"))
        return self._answer(200, [*headers, *self._expires(info), ("Content-Length", "0")])

    def downloaded(self, answer: Answer) -> Answer:
        """Return the answer that has the bytes of an upload, with the headers of the protocol."""
        return self._answer(answer.status, answer.headers, answer)

    def terminated(self) -> Answer:
        """Answer that an upload was removed."""
        return self._answer(204, [])

    def discovered(self) -> Answer:
        """Answer with what the server offers."""
        settings = self.settings
        extensions = ["creation", "creation-with-upload"]
        extensions += ["creation-defer-length"] if settings.defers else []
        extensions += ["termination"] if settings.terminates else []
        extensions += ["concatenation", "concatenation-unfinished"] if settings.concatenates else []
        extensions += ["expiration"] if settings.expires is not None else []
        if settings.verifies:
            extensions += ["checksum", "checksum-trailer"] if self.request.trailers else ["checksum"]
        headers = [("Tus-Version", VERSION), ("Tus-Extension", ",".join(extensions))]
        if settings.max_size is not None:
            headers.append(("Tus-Max-Size", str(settings.max_size)))
        if settings.verifies:
            headers.append(("Tus-Checksum-Algorithm", ",".join(_ALGORITHMS)))
        return self._answer(204, headers)

    def failed(self, error: Exception, info: FileInfo | None = None) -> Answer:
        """Answer with an error, as the protocol names it."""
        status = _status(error)
        is_head = tus_method(self.request) == "HEAD"
        if is_head and (status >= 500 or status == 429):
            status = 423
        upload_id = info.id if info is not None and info.id else self.request.upload_id
        try:
            offset = _number("Upload-Offset", self.request.headers.get("upload-offset", ""))
        except InvalidArgumentError:
            offset = None
        return problem_answer(
            error,
            [("Tus-Resumable", VERSION), ("Cache-Control", "no-store")],
            status=status,
            provided_offset=offset,
            upload_id=upload_id,
            with_body=not is_head,
        )

    def invalidates(self, error: Exception, info: FileInfo) -> bool:
        """Return False: an upload stays as it was."""
        return False

    def interim(self, info: FileInfo, location: str) -> list[tuple[str, str]] | None:
        """Return None: the protocol has no interim answers."""
        return None

    def _expires(self, info: FileInfo) -> list[tuple[str, str]]:
        if info.expires_at is None or info.is_finished:
            return []
        return [("Upload-Expires", http_date(info.expires_at))]

    @staticmethod
    def _answer(status: int, headers: list[tuple[str, str]], of: Answer | None = None) -> Answer:
        return Answer(status, [("Tus-Resumable", VERSION), *headers], b"" if of is None else of.body)


def _status(error: Exception) -> int:
    """Return the status of an error: that of uploads in general, except where tus or its clients want another one."""
    if isinstance(error, ChecksumError):
        return 460
    if isinstance(error, ObjectAlreadyExistsError):
        # 412 is the wrong version here, and clients try 409 again, with all bytes.
        return 422
    return upload_status(error)


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > _MAX_DIGITS:
        raise InvalidArgumentError(f"{name} is a number of bytes, not {value!r}")
    return int(value)


def _checksum(value: str) -> Mapping[str, str]:
    """Parse ``Upload-Checksum``: an algorithm and a digest in base64."""
    algorithm, _, encoded = value.partition(" ")
    if algorithm not in _ALGORITHMS:
        raise InvalidArgumentError(f"Upload-Checksum: use one of {', '.join(_ALGORITHMS)}")
    try:
        digest = b64decode(encoded, validate=True)
    except (Base64Error, ValueError) as error:
        raise InvalidArgumentError("Upload-Checksum: the digest is not base64") from error
    return {algorithm: Checksum(algorithm, digest.hex()).value or ""}
