"""Conditions as the service has them: on generations, which are the ETags of this driver.

https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from trove_async.driver import CopyOptions, PutOptions
from trove_async.driver.retry import until_uncontended
from trove_async.drivers.gcs.client import Query
from trove_async.drivers.gcs.resources import is_generation
from trove_async.errors import ConflictError, NotModifiedError, PreconditionFailedError
from trove_async.wire.errors import condition_error

__all__ = ["Find", "under_condition", "write_query"]

R = TypeVar("R")

Find = Callable[[], Awaitable[str | None]]
"""Returns the ETag of the object that exists now; None if there is none."""

_WRITES: Final = 5
"""How often a conditional write is sent that other writers overtake."""


def write_query(if_match: str | None, if_none_match: str | None) -> Query:
    """Return the parameters of the conditions of a write; `under_condition` deals with ``if_none_match=ETAG``.

    Raises:
        PreconditionFailedError: ``if_match`` is an ETag that no object can have.
    """
    query: Query = []
    if if_match == "*":
        query.append(("ifGenerationNotMatch", "0"))
    elif if_match is not None:
        if not is_generation(if_match):
            raise PreconditionFailedError(f"no object has the ETag {if_match!r}: ETags are numbers of generations")
        query.append(("ifGenerationMatch", if_match))
    if if_none_match == "*":
        query.append(("ifGenerationMatch", "0"))
    return query


async def under_condition(
    options: PutOptions | CopyOptions, write: Callable[[Query], Awaitable[R]], find: Find, *, repeatable: bool = True
) -> R:
    """Write under the conditions of a call.

    The service's own condition "any generation but this one" fails if there is no object; ``if_none_match=ETAG`` holds
    then. So the object is looked for, and the write is bound to what was found. If another writer is faster, both steps
    are repeated.

    Args:
        options: hold the conditions.
        write: writes; it takes the parameters of the conditions.
        find: looks for the object.
        repeatable: whether ``write`` can be called more than once.

    Raises:
        ObjectAlreadyExistsError, PreconditionFailedError: a condition does not hold.
        TransientError: other writers were always faster.
    """
    try:
        if options.if_none_match in (None, "*"):
            return await write(write_query(options.if_match, options.if_none_match))
        return await _unless(options, write, find, _WRITES if repeatable else 1)
    except (PreconditionFailedError, NotModifiedError) as error:
        raise condition_error(error, options.if_none_match) from error


class _OvertakenError(ConflictError):
    """Another writer was faster."""


async def _unless(
    options: PutOptions | CopyOptions, write: Callable[[Query], Awaitable[R]], find: Find, limit: int
) -> R:
    if options.if_match is not None and options.if_match != "*":
        if options.if_match == options.if_none_match:
            raise PreconditionFailedError("if_match and if_none_match name the same ETag")
        return await write(write_query(options.if_match, None))

    async def attempt() -> R:
        found = await find()
        if found == options.if_none_match:
            raise PreconditionFailedError(f"the object's ETag is {found!r}, which if_none_match excludes")
        if found is None and options.if_match == "*":
            raise PreconditionFailedError("if_match is '*', and the object does not exist")
        try:
            return await write([("ifGenerationMatch", found or "0")])
        except PreconditionFailedError as error:
            if error.ambiguous:
                raise  # an earlier attempt may have replaced the object
            raise _OvertakenError(status=error.status, request_id=error.request_id) from error

    return await until_uncontended(
        attempt, lost=_OvertakenError, message="other writers replace the object too often; try again", limit=limit
    )
