"""Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload), from a request to its answers.

The versions 3 to 9 of the draft, and the RFC that it becomes, are spoken; `Draft` has their differences.
``docs/uploads-protocols.md`` names the deviations and their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from trove_async.errors import (
    ContentTooLargeError,
    InvalidArgumentError,
    TransientError,
    UploadExpiredError,
    UploadLengthError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.keys import check_content_type, check_header
from trove_async.types import EMPTY
from trove_async.uploads.info import FileInfo, FinalAnswer, check_limit, lowest
from trove_async.uploads.protocol.digests import DIGESTS, format_digests, parse_digests
from trove_async.uploads.protocol.drafts import INTEROP_VERSION, Draft
from trove_async.uploads.protocol.fields import boolean, serialise_boolean, whole_number
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
from trove_async.uploads.protocol.problems import COMPLETED_UPLOAD, problem_answer, upload_status
from trove_async.web.http import Headers, content_length, media_type
from trove_async.web.objects import Answer

__all__ = ["IETF", "PARTIAL_UPLOAD", "speaks_ietf"]

PARTIAL_UPLOAD: Final = "application/partial-upload"
"""The media type of a body that is appended."""

_MAX_SIZE: Final = 10**15 - 1
"""The largest Integer of a structured field, and so the largest length and offset."""

_CREATING: Final = ("POST", "PUT", "PATCH")

_Pairs = list[tuple[str, str]]


def speaks_ietf(headers: Headers) -> bool:
    """Tell whether a request speaks this protocol, and not tus.

    All requests of tus have ``Tus-Resumable``, except OPTIONS. Requests of the drafts have a version; of the RFC
    those that send bytes have ``Upload-Complete``, and the others nothing that would tell.
    """
    if "tus-resumable" in headers:
        return False
    return INTEROP_VERSION.lower() in headers or "upload-complete" in headers or _is_partial(headers)


class IETF:
    """The protocol for one request.

    Args:
        request: the request.
        settings: what the server offers.
        now: returns the time, aware; limits of an upload's life are told from it.
    """

    def __init__(
        self, request: Request, settings: Settings, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._request = request
        self._headers = request.headers
        self._settings = settings
        self._now = now
        self._draft = Draft.of(request.headers)

    @property
    def ends_by_size(self) -> bool:
        """Whether all bytes complete an upload: tus-js-client does not always say that a body is the last one."""
        return self._draft.is_of_tus_js_client

    def command(self) -> Command:
        """Return what the request asks for."""
        method = self._request.method
        if method == "OPTIONS":
            return Discover()
        if self._request.upload_id is None:
            if method in _CREATING:
                return self._create()
        elif method in self._methods():
            self._check_stateless()
            match method:
                case "PATCH":
                    return self._append()
                case "HEAD":
                    return Describe()
                case "GET":
                    return Download()
                case "DELETE":
                    return Terminate()
        raise UploadRejectedError(
            "the method is not offered here", status_code=405, headers=[("Allow", ", ".join(self._methods()))]
        )

    def _check_stateless(self) -> None:
        if self._request.method in ("HEAD", "DELETE") and self._draft.is_strict:
            for name in ("Upload-Offset", self._complete_field):
                if name.lower() in self._headers:
                    raise InvalidArgumentError(f"{name}: a {self._request.method} has no such header")

    def _methods(self) -> list[str]:
        """Return the methods that are offered at this URL."""
        if self._request.upload_id is None:
            return [*_CREATING, "OPTIONS"]
        settings = self._settings
        reading = ["HEAD", "GET"] if settings.downloads else ["HEAD"]
        return ["PATCH", *reading, *(["DELETE"] if settings.terminates else []), "OPTIONS"]

    def _create(self) -> Create:
        is_last = self._says_complete()
        if is_last is None and self._draft.inverts_complete and self._complete_field.lower() not in self._headers:
            is_last = True
        if is_last is None:
            raise InvalidArgumentError(f"{self._complete_field}: a request that creates an upload needs it: ?0 or ?1")
        body_size = content_length(self._headers)
        size = self._size(0, is_last, body_size)
        if self._draft.is_of_tus_js_client and size == 0:
            is_last = True  # tus-js-client sends no second request for an empty file
        if size is None and not self._settings.defers:
            raise UploadRejectedError("the length is needed: send Upload-Length", status_code=411)
        # tus-js-client sends the first bytes of an upload with the media type of those that follow.
        content_type = None if _is_partial(self._headers) else self._about("Content-Type")
        if content_type is not None:
            check_content_type(content_type)
        return Create(
            size=size,
            digests=parse_digests(self._headers, "repr-digest"),
            append=None if body_size == 0 and not is_last else self._body(0, size, is_last, body_size),
            content_type=content_type,
            content_disposition=self._about("Content-Disposition"),
            content_encoding=self._about("Content-Encoding"),
            content_language=self._about("Content-Language"),
        )

    def _about(self, name: str) -> str | None:
        """Return a header about what is uploaded; None if it is missing or empty."""
        value = self._headers.get(name.lower()) or None
        if value is not None:
            check_header(name, value)
        return value

    def _append(self) -> Append:
        if self._draft.needs_content_type:
            if not _is_partial(self._headers):
                accepted = [("Accept-Patch", PARTIAL_UPLOAD)]
                raise UploadRejectedError(f"the body of a PATCH is {PARTIAL_UPLOAD}", status_code=415, headers=accepted)
            check_not_encoded(self._headers)
        offset = self._said_offset()
        if offset is None:
            raise InvalidArgumentError("Upload-Offset: a PATCH needs it: a whole number")
        is_last = self._says_complete()
        if is_last is None:
            if not self._draft.may_omit_complete or self._complete_field.lower() in self._headers:
                raise InvalidArgumentError(f"{self._complete_field}: a PATCH needs it: ?0 or ?1")
            is_last = True
        body_size = content_length(self._headers)
        return self._body(offset, self._size(offset, is_last, body_size), is_last, body_size)

    def _body(self, offset: int, size: int | None, is_last: bool, body_size: int | None) -> Append:
        verifies = self._settings.verifies
        in_trailer = self._request.trailers and announces_trailer(self._headers, "content-digest")
        return Append(
            offset=offset,
            size=size,
            # tus-js-client may say of the last bytes of an upload that others follow, and not come again.
            is_last=is_last or (None if self.ends_by_size else False),
            body_size=body_size,
            checksum=parse_digests(self._headers, "content-digest") if verifies else EMPTY,
            trailing=DIGESTS if verifies and in_trailer else (),
        )

    def _size(self, offset: int, is_last: bool, body_size: int | None) -> int | None:
        """Return the upload's length by both of its indicators.

        Raises:
            UploadLengthError: they contradict each other.
            ContentTooLargeError: it is more than the server accepts.
        """
        said = whole_number(self._headers, "upload-length")
        end = offset + (body_size or 0)
        found = end if is_last and body_size is not None else None
        if said is not None and (found not in (None, said) or said < end):
            raise UploadLengthError(f"Upload-Length is {said}, but this body ends at {end}")
        most = _MAX_SIZE if self._settings.max_size is None else self._settings.max_size
        check_limit(max(end, said or 0), most)
        return found if said is None else said

    @property
    def _complete_field(self) -> str:
        return "Upload-Incomplete" if self._draft.inverts_complete else "Upload-Complete"

    def _says_complete(self) -> bool | None:
        said = boolean(self._headers, self._complete_field.lower())
        return said if said is None else said != self._draft.inverts_complete

    def _said_offset(self) -> int | None:
        return whole_number(self._headers, "upload-offset")

    def trailing_checksum(self, trailers: Headers) -> Mapping[str, str]:
        """Return the digests of ``Content-Digest`` in the trailers; none if it is malformed."""
        return parse_digests(trailers, "content-digest")

    def created(self, info: FileInfo, location: str) -> Answer:
        """Answer that an upload was created and is not complete, with its offset."""
        return Answer(
            201,
            [
                *self._version(),
                ("Location", location),
                self._complete(False),
                ("Upload-Offset", str(info.offset)),
                *self._limits(info),
                ("Content-Length", "0"),
            ],
        )

    def appended(self, info: FileInfo) -> Answer:
        """Answer that a body was appended and the upload is not complete, with the new offset."""
        if self._says_complete():
            return self.failed(UploadLengthError(f"the upload has {info.size} bytes, but ends at {info.offset}"), info)
        # tus-js-client needs the offset in every version.
        headers = [*self._version(), self._complete(False), ("Upload-Offset", str(info.offset))]
        return _answer(FinalAnswer(self._draft.appended_status), headers)

    def finished(self, info: FileInfo, location: str | None) -> Answer:
        """Answer as the application says, also to a client that asks again, unless it says that the upload goes on."""
        if location is None and self._says_complete() is False and not self._draft.is_of_tus_js_client:
            # It asks to append to what is complete, and not for the answer that it has missed.
            error = InvalidArgumentError("the upload is complete")
            headers = [*self._version(), self._complete(False), ("Upload-Offset", str(info.offset))]
            return problem_answer(error, headers, kind=COMPLETED_UPLOAD, upload_id=info.id)
        usual = 201 if location is not None else self._draft.appended_status
        answer = info.answer or FinalAnswer(usual)
        headers = [*self._version(), self._complete(True), ("Upload-Offset", str(info.offset)), *self._digests(info)]
        own = {name.lower() for name, _ in answer.headers}
        if location is not None and "location" not in own:
            headers.append(("Location", location))
        return _answer(answer, headers)

    def described(self, info: FileInfo) -> Answer:
        """Answer with the state of an upload."""
        size = info.size if self._draft.has_length else None
        return Answer(
            204,
            [
                *self._version(),
                self._complete(info.is_finished),
                ("Upload-Offset", str(info.offset)),
                *([] if size is None else [("Upload-Length", str(size))]),
                *self._limits(info),
                *self._digests(info),
                ("Cache-Control", "no-store"),
            ],
        )

    def downloaded(self, answer: Answer) -> Answer:
        """Return the answer that has the bytes of an upload; the protocol adds nothing but its version."""
        return Answer(answer.status, [*self._version(), *answer.headers], answer.body)

    def terminated(self) -> Answer:
        """Answer that an upload was removed."""
        return Answer(204, self._version())

    def discovered(self) -> Answer:
        """Answer with what the server offers: the limits."""
        headers = [("Allow", ", ".join(self._methods())), ("Accept-Patch", PARTIAL_UPLOAD)]
        return Answer(204, [*self._version(), *headers, *self._limits(FileInfo())])

    def failed(self, error: Exception, info: FileInfo | None = None) -> Answer:
        """Answer with an error, as the protocol names it."""
        method = self._request.method
        if info is not None and self._is_beyond(error, info):
            error = UploadLengthError(f"the upload has {info.size} bytes, and the body goes beyond them")
        status = self._status(error)
        headers = self._version()
        if method in _CREATING:
            headers.append(self._complete(self._is_result(error, status, info)))
        offset = error.offset if isinstance(error, UploadOffsetError) else None
        if offset is None and info is not None and self._draft.needs_offset:
            offset = info.offset
        if offset is not None:
            headers.append(("Upload-Offset", str(offset)))
        if isinstance(error, ContentTooLargeError):
            headers += self._limits(info or FileInfo())
        if method == "HEAD" and (status >= 500 or status == 429) and self._draft.is_of_tus_js_client:
            status = 423  # after any other status tus-js-client starts anew, with the first byte
        return problem_answer(
            error,
            headers,
            status=status,
            provided_offset=self._said_offset(),
            upload_id=info.id if info is not None and info.id else self._request.upload_id,
            with_body=method != "HEAD",
        )

    def _status(self, error: Exception) -> int:
        """Return the status of an error: that of uploads in general, except where the draft wants another one."""
        if isinstance(error, UploadExpiredError):
            return self._draft.expired_status
        status = upload_status(error)
        if status == 423 and not isinstance(error, UploadRejectedError):
            return 503  # clients come again after 5xx; 423 is none of the statuses that the draft names for it
        return status

    def _is_result(self, error: Exception, status: int, info: FileInfo | None) -> bool:
        """Whether an error comes from processing the complete upload, so that resuming would not help."""
        if info is None or not info.is_complete or isinstance(error, UploadOffsetError | UploadLengthError):
            return False
        return self._says_complete() is True and 400 <= status < 500 and not isinstance(error, TransientError)

    def invalidates(self, error: Exception, info: FileInfo) -> bool:
        """Tell whether the body was longer than the upload: since draft 08 the upload is invalid then."""
        return self._draft.deactivates and self._is_beyond(error, info)

    @staticmethod
    def _is_beyond(error: Exception, info: FileInfo) -> bool:
        # Where the size is known, it is within the limit of the server: the body was longer than the upload.
        return isinstance(error, ContentTooLargeError) and info.size is not None

    def interim(self, info: FileInfo, location: str) -> _Pairs | None:
        """Return the headers of a 104; None without a version that is spoken."""
        if self._draft.interop is None:
            return None
        return [*self._version(), ("Location", location), *self._limits(info)]

    def _version(self) -> _Pairs:
        return [] if self._draft.interop is None else [(INTEROP_VERSION, str(self._draft.interop))]

    def _complete(self, value: bool) -> tuple[str, str]:
        return self._complete_field, serialise_boolean(value != self._draft.inverts_complete)

    def _limits(self, info: FileInfo) -> _Pairs:
        if not self._draft.has_limits:
            return []
        limits: dict[str, int | None] = {
            "max-size": lowest(info.max_size, self._settings.max_size),
            "max-append-size": self._settings.chunk_size,
            self._draft.age_limit: self._remaining(info),
        }
        members = [f"{name}={value}" for name, value in limits.items() if value is not None]
        # An empty field would not be sent; this member says that there are no limits.
        return [("Upload-Limit", ", ".join(members) or "min-size=0")]

    def _remaining(self, info: FileInfo) -> int | None:
        if info.expires_at is not None:
            return max(0, int((info.expires_at - self._now()).total_seconds()))
        return None

    def _digests(self, info: FileInfo) -> _Pairs:
        """Return the digests that were compared with the finished upload."""
        value = format_digests(info.digests, self._headers, "want-repr-digest") if info.is_finished else None
        return [] if value is None else [("Repr-Digest", value)]


def _is_partial(headers: Headers) -> bool:
    return media_type(headers) == PARTIAL_UPLOAD


def _answer(answer: FinalAnswer, headers: _Pairs) -> Answer:
    """Return an answer with an application's headers and body; 204 has neither a body nor its length."""
    body = b"" if answer.status == 204 else answer.body
    length = [] if answer.status == 204 else [("Content-Length", str(len(body)))]
    own = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
    return Answer(answer.status, [*headers, *own, *length], body)
