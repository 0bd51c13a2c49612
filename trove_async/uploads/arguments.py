"""Checks of what users give to a server of resumable uploads, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trove_async.errors import InvalidArgumentError
from trove_async.keys import check_bucket, check_prefix
from trove_async.store import Trove
from trove_async.uploads.datastore import DataStore
from trove_async.uploads.hooks import Changes, Hooks
from trove_async.uploads.info import Destination, FinalAnswer
from trove_async.uploads.lockers.base import Locker
from trove_async.uploads.metadata import MetaData
from trove_async.values import is_number, is_whole
from trove_async.web.cors import CORS
from trove_async.web.http import check_headers

__all__ = [
    "check_bytes",
    "check_changes",
    "check_final_answer",
    "check_seconds",
    "check_server",
    "check_types",
    "split_state",
]

_LONGEST: Final = 100 * 366 * 24 * 3600.0
"""Seconds of a century: more cannot be added to every time."""


def check_bytes(name: str, value: object, *, optional: bool = True) -> None:
    """Check a number of bytes; None is one if it is optional.

    Raises:
        InvalidArgumentError: it is no whole number above 0.
    """
    if not ((value is None and optional) or (is_whole(value) and value > 0)):
        raise InvalidArgumentError(f"{name} is a number of bytes above 0, not {value!r}")


def check_seconds(name: str, value: object, *, optional: bool = True) -> None:
    """Check a number of seconds; None is one if it is optional.

    Raises:
        InvalidArgumentError: it is no number above 0, or more than a century.
    """
    if not ((value is None and optional) or (is_number(value) and 0 < value <= _LONGEST)):
        raise InvalidArgumentError(f"{name} is a number of seconds above 0, at most a century; not {value!r}")


def check_types(types: Iterable[str]) -> frozenset[str]:
    """Return media types in lower case.

    Raises:
        InvalidArgumentError: they are no sequence of text.
    """
    if isinstance(types, str) or not isinstance(types, Iterable):
        raise InvalidArgumentError(f"inline_types is a sequence of media types, such as ('image/png',), not {types!r}")
    found = tuple(types)
    for each in found:
        if not isinstance(each, str):
            raise InvalidArgumentError(f"a media type is text such as 'image/png', not {each!r}")
    return frozenset(each.lower() for each in found)


def check_server(store: object, locker: object, database: object, hooks: object, cors: object) -> None:
    """Check what a server consists of.

    Raises:
        InvalidArgumentError: one of them is of another type.
    """
    if isinstance(store, type) or not isinstance(store, Trove | DataStore):
        raise InvalidArgumentError(
            f"uploads need an open store, as 'async with trove.open(...) as store' gives it, or a DataStore, "
            f"not {_shown(store)}{_lacking(store)}"
        )
    if locker is not None and database is not None:
        raise InvalidArgumentError("give a locker, or the database for a PostgresLocker, and not both")
    if locker is not None and (isinstance(locker, type) or not isinstance(locker, Locker)):
        raise InvalidArgumentError(f"locker is a Locker, such as FileLocker('/run/uploads'), not {_shown(locker)}")
    if hooks is not None and not isinstance(hooks, Hooks):
        raise InvalidArgumentError(f"hooks is an object of a class that inherits from Hooks, not {_shown(hooks)}")
    if cors is not None and not isinstance(cors, CORS):
        raise InvalidArgumentError(f"cors is a CORS, as in CORS(('https://example.com',)), or None, not {cors!r}")


def _lacking(store: object) -> str:
    """Return which methods of a `DataStore` an object lacks that has some of them."""
    names = ("new_upload", "write_chunk", "get_info", "get_reader")
    lacking = [name for name in names if not hasattr(store, name)]
    return "" if len(lacking) == len(names) or not lacking else f", which lacks {', '.join(lacking)}"


def _shown(value: Any) -> str:
    """Return what a value is; not the value, which may be a DSN with a password."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of the type {type(value).__name__}"


def split_state(state: str) -> tuple[str, str]:
    """Return bucket and prefix of the place for states.

    Raises:
        InvalidArgumentError: it is not ``BUCKET/PREFIX``. Without a prefix, states and objects would share their keys.
    """
    bucket, _, prefix = state.partition("/") if isinstance(state, str) else ("", "", "")
    if not bucket or not prefix:
        raise InvalidArgumentError(f"state is BUCKET/PREFIX, such as 'uploads/.state/', not {state!r}")
    check_bucket(bucket)
    check_prefix(prefix)
    return bucket, prefix


def check_changes(changes: Changes) -> None:
    """Check what the hook ``before_create`` has returned.

    Raises:
        TypeError: it is of another type; the fault is the application's, and not the client's.
    """
    if not isinstance(changes, Changes):
        raise TypeError(f"the hook before_create returns Changes or None, not {type(changes).__name__}")
    for name, value, kind in (
        ("metadata", changes.metadata, MetaData | None),
        ("destination", changes.destination, Destination | None),
        ("owner", changes.owner, str | None),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"the {name} of the hook before_create cannot be {value!r}")
    if changes.max_size is not None and not (is_whole(changes.max_size) and changes.max_size >= 0):
        raise TypeError(f"the max_size of the hook before_create is a number of bytes, not {changes.max_size!r}")
    _check_headers("before_create", changes.headers)


def check_final_answer(answer: FinalAnswer) -> None:
    """Check what the hook ``before_finish`` has returned.

    Raises:
        TypeError: it is of another type; the fault is the application's, and not the client's.
    """
    if not isinstance(answer, FinalAnswer):
        raise TypeError(f"the hook before_finish returns a FinalAnswer or None, not {type(answer).__name__}")
    if not (is_whole(answer.status) and 200 <= answer.status <= 299 and isinstance(answer.body, bytes)):
        raise TypeError("the answer of the hook before_finish has a status from 200 to 299, and a body of bytes")
    _check_headers("before_finish", answer.headers)


def _check_headers(hook: str, headers: object) -> None:
    if not isinstance(headers, Iterable) or isinstance(headers, str | Mapping):
        raise TypeError(f"the headers of the hook {hook} are pairs such as (('X-Name', 'value'),), not {headers!r}")
    for pair in headers:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise TypeError(f"a header of the hook {hook} is a pair such as ('X-Name', 'value'), not {pair!r}")
    check_headers(headers)
