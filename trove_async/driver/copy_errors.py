"""The errors of copies: at which end they happened, and in which class they are raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from trove_async.driver.base import Driver
from trove_async.driver.options import CopyOptions
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ChecksumError,
    CopyError,
    CopyPhase,
    ObjectAlreadyExistsError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    VersionNotFoundError,
    copy_phase_of,
)

__all__ = ["CopyEnd", "is_conditional", "marking_source", "phase_on_server", "raise_failure", "reading_source"]


@dataclass(frozen=True, slots=True)
class CopyEnd:
    """The source or the destination of a copy: a driver, a bucket and a key."""

    driver: Driver
    bucket: str
    key: str

    @property
    def place(self) -> tuple[str, str]:
        """The bucket and the key."""
        return self.bucket, self.key


@contextmanager
def marking_source() -> Iterator[None]:
    """Mark the errors within as errors of the source of a copy; for steps of `Driver.copy` that know no names."""
    try:
        yield
    except (TroveError, OSError) as error:
        # A driver translates an OSError, which becomes the cause of its own.
        cast(Any, error).copy_phase = copy_phase_of(error) or CopyPhase.READ
        raise


@contextmanager
def reading_source(bucket: str, key: str) -> Iterator[None]:
    """Mark the errors within as errors of the source of a copy, and name it; for `Driver.copy`."""
    try:
        with marking_source():
            yield
    except TroveError as error:
        error.locate(None, bucket, None if isinstance(error, BucketNotFoundError) else key)
        raise


def phase_on_server(error: Exception, source: CopyEnd, target: CopyEnd, options: CopyOptions) -> CopyPhase:
    """Return the phase of an error of `Driver.copy` for which the driver has not set it."""
    if isinstance(error, BucketNotFoundError):
        return CopyPhase.WRITE if source.bucket != error.bucket == target.bucket else CopyPhase.READ
    if isinstance(error, ObjectNotFoundError | VersionNotFoundError | ObjectChangedError | ChecksumError):
        return CopyPhase.READ
    if isinstance(error, TroveError) and source.place == (error.bucket, error.key) != target.place:
        return CopyPhase.READ
    if isinstance(error, PreconditionFailedError) and not isinstance(error, ObjectAlreadyExistsError):
        return CopyPhase.WRITE if is_conditional(options) else CopyPhase.READ
    return CopyPhase.WRITE


def is_conditional(options: CopyOptions) -> bool:
    """Tell whether a copy has a condition on its destination."""
    return options.if_match is not None or options.if_none_match is not None


def raise_failure(error: Exception, phase: CopyPhase, end: CopyEnd, operation: str = "copy") -> NoReturn:
    """Raise the error of a copy: the one that is being handled, with its phase, or a `CopyError` from it.

    Args:
        error: a `TroveError` or an `OSError`.
        phase: where it happened, if the error does not say so itself.
        end: the end that failed.
        operation: the name of the call.
    """
    failure = error if isinstance(error, TroveError) else CopyError(str(error) or type(error).__name__)
    failure.copy_phase = failure.copy_phase or phase
    failure.locate(operation, *end.place, end.driver.name)
    if type(failure) in (TroveError, BackendError):
        failure = _unclassified(failure)
    if failure is error:
        raise error
    raise failure from error


def _unclassified(error: TroveError) -> CopyError:
    """Return the `CopyError` of an error that has no class of its own."""
    return CopyError(
        error.message,
        operation=error.operation,
        bucket=error.bucket,
        key=error.key,
        driver=error.driver,
        status=error.status,
        request_id=error.request_id,
        retryable=error.retryable,
        retry_after=error.retry_after,
        ambiguous=error.ambiguous,
        copy_phase=error.copy_phase,
    )
