"""`open_file`: an object as an async file, with the modes of the built-in ``open``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Unpack, cast, overload

from trove_async.errors import InvalidArgumentError, TroveError
from trove_async.fs.base import AsyncFile
from trove_async.fs.reading import BinaryReader, open_reader
from trove_async.fs.text import TextFormat, TextReader, TextWriter
from trove_async.fs.writing import BinaryWriter, open_writer
from trove_async.opening import Opening
from trove_async.store import Trove
from trove_async.store.arguments import PutArguments

__all__ = ["ReadBytes", "ReadText", "WriteBytes", "WriteText", "checked", "open_file"]

ReadText = Literal["r", "rt", "tr"]
WriteText = Literal["w", "wt", "tw", "x", "xt", "tx"]
ReadBytes = Literal["rb", "br"]
WriteBytes = Literal["wb", "bw", "xb", "bx"]

_ADVICE: Final = {
    "a": "objects cannot be extended; read the object, and write it anew",
    "+": "a file is either read or written; open the object twice",
}


@overload
def open_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: ReadText = "r",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> Opening[TextReader]: ...


@overload
def open_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: WriteText,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **arguments: Unpack[PutArguments],
) -> Opening[TextWriter]: ...


@overload
def open_file(store: Trove, bucket: str, key: str, mode: ReadBytes) -> Opening[BinaryReader]: ...


@overload
def open_file(
    store: Trove, bucket: str, key: str, mode: WriteBytes, **arguments: Unpack[PutArguments]
) -> Opening[BinaryWriter]: ...


@overload
def open_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: str,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **arguments: Unpack[PutArguments],
) -> Opening[AsyncFile[Any]]: ...


def open_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: str = "r",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **arguments: Any,
) -> Opening[Any]:
    r"""Open an object as a file, in ``async with``; or await the file, and close it with ``aclose``.

    Args:
        store, bucket, key: which object.
        mode: ``r`` to read, ``w`` to write, ``x`` to create an object and never replace one; with ``b`` bytes, else
            text.
        encoding: of text; default: UTF-8, on every machine.
        errors: what to do about text that cannot be decoded or encoded; default: ``strict``.
        newline: as for the built-in ``open``, but None writes ``\n`` as it is on every system.
        **arguments: for writing, those of ``put``, such as ``content_type`` and ``metadata``.

    Raises:
        InvalidArgumentError: at once; the mode or another argument is wrong. The message says what to do.
        ObjectNotFoundError, BucketNotFoundError: when opened for reading; the object does not exist.
        ObjectAlreadyExistsError: mode ``x``, when opened or closed; the object exists.
        UnsupportedError: mode ``x``; the store cannot promise that it replaces nothing.
    """
    if not isinstance(store, Trove):
        raise InvalidArgumentError(
            f"open_file needs an open trove_async.Trove, not {type(store)}; without asyncio, use open_sync_file"
        )
    binary_mode, text = checked(bucket, key, mode, encoding, errors, newline, arguments)

    async def opening() -> AsyncFile[Any]:
        if binary_mode == "rb":
            reader = await open_reader(store, bucket, key)
            return reader if text is None else TextReader(reader, text)
        writer = await open_writer(store, bucket, key, binary_mode, cast(PutArguments, arguments))
        return writer if text is None else TextWriter(writer, text)

    return Opening(opening)


def checked(
    bucket: str,
    key: str,
    mode: str,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    arguments: Mapping[str, object],
) -> tuple[str, TextFormat | None]:
    """Check the arguments of `open_file`; return the mode of the file of bytes, and how text is encoded, if it is text.

    Raises:
        InvalidArgumentError: one is wrong.
    """
    try:
        action, binary = _parse(mode)
        if action == "r" and arguments:
            raise InvalidArgumentError(f"{', '.join(sorted(arguments))}: only a file for writing has such arguments")
        if not binary:
            return f"{action}b", TextFormat(encoding, errors, newline)
        if (encoding, errors, newline) != (None, None, None):
            raise InvalidArgumentError("encoding, errors and newline are for text; leave out the 'b' of the mode")
        return f"{action}b", None
    except TroveError as error:
        error.locate("open_file", bucket, key)
        raise


def _parse(mode: str) -> tuple[str, bool]:
    """Return ``r``, ``w`` or ``x``, and whether the file is of bytes."""
    for letter, advice in _ADVICE.items():
        if letter in mode:
            raise InvalidArgumentError(f"mode {mode!r}: {advice}")
    actions = [letter for letter in mode if letter in "rwx"]
    if len(actions) != 1 or len({*mode}) != len(mode) or {*mode} - {*"rwxbt"} or {*"bt"} <= {*mode}:
        raise InvalidArgumentError(f"mode {mode!r}: give 'r', 'w' or 'x', and 'b' for bytes")
    return actions[0], "b" in mode
