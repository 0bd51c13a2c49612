"""How errors are shown to a shell: as an exit code and one line."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from trove_async.errors import (
    AccessDeniedError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    TroveError,
)

__all__ = ["ExitCode", "UsageError", "code_of", "combined", "line_of", "printable"]


class ExitCode(IntEnum):
    """The exit codes, which scripts may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    ACCESS = 5
    HUNG_UP = 129
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class UsageError(Exception):
    """The command line is invalid; nothing was done."""


_CODES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (UsageError, ExitCode.USAGE),
    (InvalidArgumentError, ExitCode.USAGE),
    (NotFoundError, ExitCode.NOT_FOUND),
    (FileNotFoundError, ExitCode.NOT_FOUND),
    (BucketAlreadyExistsError, ExitCode.CONFLICT),
    (BucketNotEmptyError, ExitCode.CONFLICT),
    (PreconditionFailedError, ExitCode.CONFLICT),
    (FileExistsError, ExitCode.CONFLICT),
    (AccessDeniedError, ExitCode.ACCESS),
    (PermissionError, ExitCode.ACCESS),
)


def code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def combined(codes: Iterable[ExitCode]) -> ExitCode:
    """Return one code for several failures: their common code, else 1; 0 if there are none."""
    distinct = set(codes)
    if not distinct:
        return ExitCode.OK
    return distinct.pop() if len(distinct) == 1 else ExitCode.FAILED


def line_of(error: BaseException) -> str:
    """Return the message of an error, on one line; with the notes that say which of several stores it is about."""
    if isinstance(error, TroveError | UsageError):
        notes = [" ".join(note.split()) for note in getattr(error, "__notes__", ())]
        return "; ".join([str(error), *notes])
    if isinstance(error, OSError) and error.strerror and error.errno in errno.errorcode:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__


def printable(text: str) -> str:
    """Return text with unprintable characters escaped, so that no name can control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
