"""The JSON of answers, whose shape is checked: what a service sends that is not Cloud Storage is a `BackendError`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from trove_async.errors import BackendError

__all__ = [
    "MALFORMED",
    "ambiguous_if_malformed",
    "decode",
    "items",
    "listing_page",
    "mapping",
    "resource",
    "text",
    "text_if_any",
]

MALFORMED: Final = (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What is raised where values of JSON are used that have another type than they should."""

Members = Mapping[str, Any]


def decode(answer: bytes) -> Any:
    """Return the JSON of an answer; None for an empty one.

    Raises:
        BackendError: it is not JSON, or has text that UTF-8 cannot hold.
    """
    if not answer:
        return None
    try:
        found = json.loads(answer)
        if b"\\ud" in answer or b"\\uD" in answer:  # an escape of a surrogate, which may stand alone
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        raise BackendError("the answer is not JSON: is the endpoint Cloud Storage?") from error


def resource(found: Any) -> Members:
    """Return a decoded answer that must be a JSON object.

    Raises:
        BackendError: it is something else.
    """
    if not isinstance(found, dict):
        raise BackendError("the answer is not a JSON object: is the endpoint Cloud Storage?")
    return found


def listing_page(found: Any) -> Members:
    """Return a decoded answer that must be a page of a listing, which has its kind even if it has no items.

    Raises:
        BackendError: it is something else, which must not pass for an empty page.
    """
    members = resource(found)
    if not text(members, "kind").startswith("storage#"):
        raise BackendError("the answer is not a listing: is the endpoint Cloud Storage?")
    return members


def mapping(found: Members, name: str) -> Members:
    """Return a member that is a JSON object; an empty mapping if there is none."""
    value = found.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unexpected(name, "an object")
    return value


def items(found: Members, name: str) -> list[Any]:
    """Return a member that is a list; an empty list if there is none."""
    value = found.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _unexpected(name, "a list")
    return value


def text_if_any(found: Members, name: str) -> str | None:
    """Return a member that is text; None if there is none, or if it is empty."""
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise _unexpected(name, "text")
    return value or None


def text(found: Members, name: str) -> str:
    """Return a member that must be there and be text."""
    value = found.get(name)
    if not isinstance(value, str):
        raise _unexpected(name, "text")
    return value


def _unexpected(name: str, kind: str) -> BackendError:
    return BackendError(f"the answer has a member {name!r} that is not {kind}: is the endpoint Cloud Storage?")


@contextmanager
def ambiguous_if_malformed() -> Iterator[None]:
    """Mark errors about the answer to a write as ambiguous: its status was a success."""
    try:
        yield
    except BackendError as error:
        error.ambiguous = True
        raise
