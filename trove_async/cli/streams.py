"""Standard input and output as streams of bytes, which a cancellation does not wait for."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import asyncio

__all__ = ["StandardInput", "ask", "is_terminal", "reserve_streams", "write_bytes"]

R = TypeVar("R")

_CHUNK: Final = 1024 * 1024
_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


class _ClosedOutput(io.TextIOBase):
    """Standard output that was closed when the process began: printing to it is an error when it is flushed."""

    _lost = False

    def write(self, text: str, /) -> int:
        self._lost = True
        return len(text)

    def flush(self) -> None:
        lost, self._lost = self._lost, False
        if lost:
            raise OSError(errno.EBADF, "standard output is closed")

    def fileno(self) -> int:
        return _STDOUT


def reserve_streams() -> None:
    """Open what is closed of the standard streams.

    Otherwise a file of the store gets the number of a closed stream, and is read or written in its place. Errors
    that nobody can read are dropped; reading closed input and writing closed output are errors.
    """
    for number, mode in ((_STDIN, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115


async def _in_daemon(function: Callable[[], R]) -> R:
    """Call a function that may block forever, in a thread that the process does not wait for at its end.

    The other side of a pipe decides when a read or write returns; Ctrl-C must not wait for it.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if future.done():  # the caller was cancelled
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        try:
            outcome: tuple[R | None, BaseException | None] = (function(), None)
        except OSError as error:
            outcome = (None, error)
        with suppress(RuntimeError):  # the loop is closed, since the caller was cancelled
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True, name="trove-stream").start()
    return await future


class StandardInput:
    """The bytes of standard input, as a body: an async iterable that can be read once."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        while chunk := await _in_daemon(lambda: os.read(_STDIN, _CHUNK)):
            yield chunk


async def write_bytes(data: bytes) -> None:
    """Write all of it to standard output.

    Raises:
        BrokenPipeError: the reader has gone.
        OSError: standard output is closed, or cannot be written.
    """
    if isinstance(sys.stdout, _ClosedOutput):
        raise OSError(errno.EBADF, "standard output is closed")
    sys.stdout.flush()
    left = memoryview(data)
    while left:
        written = await _in_daemon(lambda left=left: os.write(_STDOUT, left))  # type: ignore[misc]
        left = left[written:]


def is_terminal() -> bool:
    """Return whether a person can be asked: standard input and standard error are a terminal."""
    return os.isatty(_STDIN) and sys.stderr.isatty()


async def ask(question: str) -> bool:
    """Ask a yes-or-no question; any answer but y or yes means no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = await _in_daemon(lambda: os.read(_STDIN, 1024))
    return answer.decode(errors="replace").strip().lower() in ("y", "yes")
