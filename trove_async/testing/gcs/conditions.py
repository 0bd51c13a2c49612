"""Preconditions of requests (https://cloud.google.com/storage/docs/request-preconditions)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from trove_async.testing.gcs.errors import ServiceError, condition_failed, invalid, not_modified
from trove_async.testing.gcs.http import Request
from trove_async.testing.gcs.state import Bucket, StoredObject

__all__ = ["SOURCE", "Preconditions", "check_http_conditions", "header_number"]

SOURCE: Final = "x-goog-copy-source-"
"""The prefix of the headers about the source of a copy."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The preconditions on the live generation of an object, or on a bucket."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, request: Request, *, source: bool = False) -> Preconditions:
        """Read the query parameters; with ``source``, those about the source of a copy.

        Raises:
            ServiceError: 400; one is not a number.
        """
        if not request.raw_query:
            return _NONE
        prefix = "ifSource" if source else "if"
        return cls(
            request.integer(f"{prefix}GenerationMatch"),
            request.integer(f"{prefix}GenerationNotMatch"),
            request.integer(f"{prefix}MetagenerationMatch"),
            request.integer(f"{prefix}MetagenerationNotMatch"),
        )

    @classmethod
    def of_headers(cls, request: Request, *, source: bool = False) -> Preconditions:
        """Read the headers of the XML API; with ``source``, those about the source of a copy.

        Raises:
            ServiceError: 400; one is not a number.
        """
        prefix = f"{SOURCE}if" if source else "x-goog-if"
        values = [
            header_number(request, f"{prefix}-{name}")
            for name in ("generation-match", "generation-not-match", "metageneration-match", "metageneration-not-match")
        ]
        return cls(*values)

    def check(self, found: StoredObject | None, *, reading: bool = False) -> None:
        """Compare with an object; None if there is none.

        Raises:
            ServiceError: 412, or 304 for a read that already has this version.
        """
        generation = 0 if found is None else found.generation
        if self.generation is not None and self.generation != generation:
            raise condition_failed()
        if self.metageneration is not None and (found is None or self.metageneration != found.metageneration):
            raise condition_failed()
        # "If no live object exists, the precondition fails", for any generation.
        if self.not_generation is not None and (found is None or self.not_generation == generation):
            raise not_modified() if reading else condition_failed()
        if self.not_metageneration is not None and (found is None or self.not_metageneration == found.metageneration):
            raise not_modified() if reading else condition_failed()

    def check_bucket(self, bucket: Bucket, *, reading: bool = False) -> None:
        """Compare with a bucket's metageneration.

        Raises:
            ServiceError: 412, or 304 for a read that already has this version.
        """
        if self.metageneration is not None and self.metageneration != bucket.metageneration:
            raise condition_failed()
        if self.not_metageneration == bucket.metageneration:
            raise not_modified() if reading else condition_failed()


_NONE = Preconditions()


def header_number(request: Request, name: str) -> int | None:
    """Return a header that is a number; None if it is absent.

    Raises:
        ServiceError: 400; it is not a number.
    """
    value = request.headers.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise invalid(f"Invalid argument: {name}") from error


def check_http_conditions(request: Request, etag: str, modified: float, prefix: str = "") -> None:
    """Check the conditional headers of a read, in the order of RFC 9110, 13.2.2.

    Args:
        request: the request.
        etag, modified: of the object.
        prefix: before the names of the headers.

    Raises:
        ServiceError: 412 or 304.
    """
    match, none_match = request.headers.get(f"{prefix}if-match"), request.headers.get(f"{prefix}if-none-match")
    if match is not None:
        if not _named(match.split(","), etag):
            raise condition_failed()
    elif (since := _moment(request, f"{prefix}if-unmodified-since")) is not None and int(modified) > since:
        raise condition_failed()
    if none_match is not None:
        if _named(none_match.split(","), etag):
            raise _unchanged(etag)
    elif (since := _moment(request, f"{prefix}if-modified-since")) is not None and int(modified) <= since:
        raise _unchanged(etag)


def _unchanged(etag: str) -> ServiceError:
    error = not_modified()
    error.headers["ETag"] = etag
    return error


def _named(values: Iterable[str], etag: str) -> bool:
    wanted = etag.strip('"')
    return any(value.strip().removeprefix("W/").strip('"') in (wanted, "*") for value in values)


def _moment(request: Request, name: str) -> float | None:
    value = request.headers.get(name)
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value).timestamp()
    except ValueError:
        return None  # RFC 9110, 13.1.3: an invalid date is ignored
