"""Where the bytes of an upload go, and what the backend must be able to do for it."""

from __future__ import annotations

from typing import Any

from trove_async.driver.options import PutOptions
from trove_async.errors import AccessDeniedError, InvalidArgumentError, ObjectAlreadyExistsError, UnsupportedError
from trove_async.uploads.info import FileInfo
from trove_async.uploads.store.entry import Context
from trove_async.uploads.store.state import State

__all__ = [
    "check_conditions",
    "check_destination",
    "check_free",
    "conditions_of",
    "conditions_on",
    "description_of",
    "destination_of",
    "is_own",
    "is_staged",
    "only_creates",
    "place_of",
]


def destination_of(context: Context, info: FileInfo) -> tuple[str, str, PutOptions]:
    """Return bucket, key and options of the object that an upload becomes."""
    if info.is_partial:
        return context.states.bucket, context.states.data_key(info.id), PutOptions()
    if info.destination is None:
        return context.bucket, info.id, PutOptions()
    return info.destination.bucket, info.destination.key, info.destination.options


def place_of(context: Context, info: FileInfo) -> tuple[str, str]:
    """Return bucket and key of the backend's upload.

    An upload with digests goes to an object of the store's own first, and is published after they were compared.
    """
    if info.digests:
        return context.states.bucket, context.states.data_key(info.id)
    bucket, key, _ = destination_of(context, info)
    return bucket, key


def is_own(context: Context, state: State) -> bool:
    """Tell whether the bytes go to an object of the store's own."""
    return (state.bucket, state.key) == (context.states.bucket, context.states.data_key(state.info.id))


def is_staged(context: Context, state: State) -> bool:
    """Tell whether the bytes go to an object of the store's own first, and from there to the destination."""
    return is_own(context, state) and not state.info.is_partial


def only_creates(context: Context, state: State) -> bool:
    """Tell whether no object can be replaced: the key is the store's own, or a condition forbids it."""
    to = state.info.destination
    return is_own(context, state) or to is None or to.options.if_none_match == "*"


def conditions_of(context: Context, state: State) -> dict[str, Any]:
    """Return the conditions on the object that the backend's upload becomes."""
    return {} if is_own(context, state) else conditions_on(destination_of(context, state.info)[2])


def conditions_on(options: PutOptions) -> dict[str, Any]:
    """Return the conditions of a write, without those that are not set."""
    wanted = {"if_match": options.if_match, "if_none_match": options.if_none_match}
    return {name: value for name, value in wanted.items() if value is not None}


def description_of(options: PutOptions) -> dict[str, Any]:
    """Return the arguments that describe an object, without the conditions."""
    return {name: value for name, value in options.dump().items() if value not in (None, {})}


def check_destination(context: Context, info: FileInfo) -> None:
    """Refuse a destination where the states are: an application may take its name from a client.

    Raises:
        InvalidArgumentError: it is there.
    """
    to, states = info.destination, context.states
    if to is not None and to.bucket == states.bucket and to.key.startswith(states.prefix):
        raise InvalidArgumentError("no upload becomes an object among the states of uploads: choose another key")


async def check_free(context: Context, info: FileInfo) -> None:
    """Refuse an upload that must not replace an object which is there already, before its bytes are sent.

    The condition counts when the upload is finished; this look only saves clients the way there.

    Raises:
        ObjectAlreadyExistsError: there is an object.
    """
    bucket, key, options = destination_of(context, info)
    if options.if_none_match == "*":
        try:
            exists = await context.store.exists(bucket, key)
        except AccessDeniedError:  # S3 says that of objects which do not exist, to those who may not list
            return
        if exists:
            raise ObjectAlreadyExistsError(bucket=bucket, key=key)


def check_conditions(context: Context, info: FileInfo) -> None:
    """Refuse conditions that the backend could not honour in the end.

    Raises:
        UnsupportedError: it ignores them; names what it lacks.
    """
    if not conditions_on(destination_of(context, info)[2]):
        return
    # An upload with digests is copied to its destination; one without bytes is put there.
    needed = "copy" if info.digests else "put_if_none_match" if info.size == 0 else "complete"
    if not context.store.supports(needed):
        raise UnsupportedError(
            f"this store cannot honour a condition when an upload is finished ({needed!r}), and does not ignore it"
        )
