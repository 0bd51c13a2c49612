"""Evaluation of conditions, for drivers whose backend does not evaluate them (RFC 9110, section 13.2.2)."""

from __future__ import annotations

from datetime import datetime

from trove_async.driver.options import HeadOptions
from trove_async.errors import NotModifiedError, ObjectAlreadyExistsError, PreconditionFailedError
from trove_async.types import ObjectInfo

__all__ = ["check_read", "check_write"]


def check_read(info: ObjectInfo, options: HeadOptions) -> None:
    """Evaluate the conditions of a get or head for an object.

    Raises:
        PreconditionFailedError: ``if_match`` or ``if_unmodified_since`` does not hold.
        NotModifiedError: ``if_none_match`` or ``if_modified_since`` does not hold.
    """
    if options.if_match is not None:
        if options.if_match not in ("*", info.etag):
            raise PreconditionFailedError(f"the object's ETag is {info.etag!r}, not {options.if_match!r}")
    elif options.if_unmodified_since is not None and _modified_after(info, options.if_unmodified_since):
        raise PreconditionFailedError(f"the object was modified at {info.last_modified}")
    if options.if_none_match is not None:
        if options.if_none_match in ("*", info.etag):
            raise NotModifiedError(f"the object's ETag is still {info.etag!r}")
    elif options.if_modified_since is not None and _modified_after(info, options.if_modified_since) is False:
        raise NotModifiedError(f"the object was not modified since {options.if_modified_since}")


def _modified_after(info: ObjectInfo, moment: datetime) -> bool | None:
    """Compare in whole seconds, as HTTP does; None if the time of the object is unknown."""
    if info.last_modified is None:
        return None
    return info.last_modified.replace(microsecond=0) > moment


def check_write(current_etag: str | None, if_match: str | None, if_none_match: str | None) -> None:
    """Evaluate the conditions of a write for the ETag of the current object, None if there is no object.

    Call it where no other write can come between this evaluation and the commit.

    Raises:
        ObjectAlreadyExistsError: ``if_none_match="*"`` and the object exists.
        PreconditionFailedError: another condition does not hold.
    """
    if if_match is not None and (current_etag is None or if_match not in ("*", current_etag)):
        there = "there is no object" if current_etag is None else f"the object's ETag is {current_etag!r}"
        raise PreconditionFailedError(f"if_match is {if_match!r} and {there}")
    if if_none_match is not None and current_etag is not None:
        if if_none_match == "*":
            raise ObjectAlreadyExistsError("the object already exists, and the write may only create it")
        if if_none_match == current_etag:
            raise PreconditionFailedError(f"the object's ETag is {current_etag!r}, as if_none_match forbids")
