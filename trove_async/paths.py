"""The rule for paths of local files that a user gives. There is no I/O here."""

from __future__ import annotations

import os

from trove_async.errors import InvalidArgumentError

__all__ = ["is_below", "local_path"]


def local_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """Return the path of a local file as text, in which bytes that are not text are lone surrogates (PEP 383).

    Raises:
        InvalidArgumentError: no file can have this path: it contains NUL, or a character that is in no file's name.
    """
    text = os.fsdecode(path)
    if "\0" in text:
        raise InvalidArgumentError(f"the path {text!r} contains NUL, which no file's name contains")
    if not text.isascii():
        try:
            os.fsencode(text)
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"the path {text!r} has at position {error.start} a character that no file's name can contain"
            ) from None
    return text


def is_below(name: str) -> bool:
    """Tell whether a name with slashes is that of a file below any directory it is joined to."""
    return "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))
