"""What an error tells about the backend: that it failed, that it works, or neither."""

from __future__ import annotations

from typing import Final, Literal

from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    ConflictError,
    NotFoundError,
    NotModifiedError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    StorageFullError,
    ThrottledError,
    TransientError,
    TroveError,
    UnsupportedError,
)

__all__ = ["Verdict", "verdict_on"]

Verdict = Literal["failed", "works", "neither"]

_ANSWERS: Final = (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    ConflictError,
    NotFoundError,
    NotModifiedError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    StorageFullError,
)
"""Errors that only a backend that works can give; drivers that do not speak HTTP raise them without a status."""


def verdict_on(error: BaseException) -> Verdict:
    """Return what an error that ended a call tells about the backend.

    - ``failed``: it cannot be reached or does not answer in time, a connection breaks, it asks for fewer requests
      (by 429 or otherwise), it answers 5xx. Not 501 and 507: a service that lacks a feature, or whose storage is
      full, carries out everything else.
    - ``works``: it answers that the call is at fault: any other 4xx, a missing object, a condition that does not hold.
    - ``neither``: the caller was cancelled, nothing was sent, the source of the body failed, or something else than
      the backend answered.
    """
    if not isinstance(error, TroveError):
        return "neither"
    status = error.status or 0
    if isinstance(error, ThrottledError) or status == 429:
        return "failed"
    if isinstance(error, _ANSWERS) or 400 <= status < 500 or (status and isinstance(error, UnsupportedError)):
        return "works"
    return "failed" if isinstance(error, TransientError) or status >= 500 else "neither"
