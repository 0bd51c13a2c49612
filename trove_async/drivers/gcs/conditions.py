"""Conditions as the service has them: on generations, which are the ETags here.

https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from trove_async.driver import CompleteOptions, CopyOptions, PutOptions
from trove_async.drivers.gcs.client import Query
from trove_async.drivers.gcs.resources import is_generation
from trove_async.errors import NotModifiedError, ObjectAlreadyExistsError, PreconditionFailedError

__all__ = ["Find", "condition_error", "under_condition", "write_query"]

R = TypeVar("R")

Find = Callable[[], Awaitable[str | None]]
"""Returns the ETag of the object that there is now; None for none."""

_ATTEMPTS: Final = 5


def write_query(if_match: str | None, if_none_match: str | None) -> Query:
    """Return the parameters of the conditions of a write; `under_condition` deals with ``if_none_match=ETAG``.

    Raises:
        PreconditionFailedError: ``if_match`` is no ETag that an object could have.
    """
    query: Query = []
    if if_match == "*":
        query.append(("ifGenerationNotMatch", "0"))
    elif if_match is not None:
        if not is_generation(if_match):
            raise PreconditionFailedError(f"no object has the ETag {if_match!r}: it is the number of a generation")
        query.append(("ifGenerationMatch", if_match))
    if if_none_match == "*":
        query.append(("ifGenerationMatch", "0"))
    return query


async def under_condition(
    options: PutOptions | CompleteOptions | CopyOptions,
    write: Callable[[Query], Awaitable[R]],
    find: Find,
    *,
    again: bool = True,
) -> R:
    """Write under the conditions of a call.

    The service's own condition "any generation but this" does not hold where there is no object; ours does. So the
    object is looked for, and the write holds to what was seen: as long as another comes between, it is tried again.

    Args:
        options: hold the conditions.
        write: writes; it takes the parameters of the conditions.
        find: looks for the object.
        again: whether ``write`` may be called once more.

    Raises:
        ObjectAlreadyExistsError, PreconditionFailedError: a condition does not hold.
    """
    try:
        if options.if_none_match in (None, "*"):
            return await write(write_query(options.if_match, options.if_none_match))
        return await _unless(options, write, find, _ATTEMPTS if again else 1)
    except (PreconditionFailedError, NotModifiedError) as error:
        raise condition_error(error, options) from error


async def _unless(
    options: PutOptions | CompleteOptions | CopyOptions,
    write: Callable[[Query], Awaitable[R]],
    find: Find,
    attempts: int,
) -> R:
    if options.if_match is not None and options.if_match != "*":
        if options.if_match == options.if_none_match:
            raise PreconditionFailedError("if_match and if_none_match name the same ETag")
        return await write(write_query(options.if_match, None))
    while True:
        attempts -= 1
        found = await find()
        if found == options.if_none_match:
            raise PreconditionFailedError(f"the object's ETag is {found!r}, as if_none_match forbids")
        if found is None and options.if_match == "*":
            raise PreconditionFailedError("if_match is '*' and there is no object")
        try:
            return await write([("ifGenerationMatch", found or "0")])
        except PreconditionFailedError as error:
            if not attempts:
                error.retryable = True
                raise


def condition_error(
    error: PreconditionFailedError | NotModifiedError, options: PutOptions | CompleteOptions | CopyOptions
) -> PreconditionFailedError:
    """Return the error of a write whose condition did not hold, in the class that says which."""
    kind = ObjectAlreadyExistsError if options.if_none_match == "*" else PreconditionFailedError
    return kind(
        error.message,
        status=error.status,
        request_id=error.request_id,
        ambiguous=error.ambiguous,
        retryable=error.retryable,
    )
