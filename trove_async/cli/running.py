"""Running a command: the event loop, clean ends by signals, and errors as one line and an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trove_async.cli.errors import ExitCode, code_of, line_of
from trove_async.cli.session import GlobalOptions, Session

__all__ = ["Work", "execute"]

Work = Callable[[Session], Awaitable[None]]

_CODES: Final = {
    signal.SIGHUP: ExitCode.HUNG_UP,
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}


def execute(work: Work, options: GlobalOptions) -> int:
    """Run a command to its end and return its exit code.

    SIGINT, SIGTERM and SIGHUP cancel it: what is half done is cleaned up, which the library bounds in time, and
    the code is 130, 143 or 129. One that the process was started to ignore stays ignored, as `nohup` wants it.
    """
    session = Session(options)
    try:
        with _in_one_line(session):
            code = asyncio.run(_supervised(work, session))
        session.output.flush()
    except BrokenPipeError:
        return _give_up_output()
    except Exception as error:  # noqa: BLE001 - the outermost frame: every error becomes a line and an exit code
        failure = _single(error)
        if options.debug:
            traceback.print_exception(failure)
        session.output.error(line_of(failure))
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_output()
        return code_of(failure)
    return code


async def _supervised(work: Work, session: Session) -> ExitCode:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        # Once: a second signal does not interrupt the clean-up, which takes 10 seconds at most.
        if not received:
            received.append(number)
            task.cancel()

    handled = [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]
    for number in handled:
        loop.add_signal_handler(number, interrupt, number)
    try:
        async with session:
            await work(session)
    except asyncio.CancelledError:
        if not received:
            raise
        session.output.note("interrupted")
        return _CODES[received[0]]
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
    return session.exit_code


def _single(error: Exception) -> Exception:
    """Return the first error of a group, which a command with several tasks may raise."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _give_up_output() -> int:
    """End quietly after the reader of the output has gone; Python would report that when it flushes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    return ExitCode.BROKEN_PIPE


class _OneLine(logging.Formatter):
    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        return ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).strip()


class _Lines(logging.Handler):
    """Prints the log lines of the library like the command's own errors."""

    def __init__(self, session: Session) -> None:
        super().__init__(logging.WARNING)
        self._session = session
        self.setFormatter(_OneLine())

    def emit(self, record: logging.LogRecord) -> None:
        self._session.output.error(self.format(record))


@contextmanager
def _in_one_line(session: Session) -> Iterator[None]:
    """Print the library's warnings and log lines like the command's own; with --debug leave them as they are."""
    if session.options.debug:
        yield
        return
    handler = _Lines(session)
    logger = logging.getLogger("trove_async")
    logger.addHandler(handler)
    shown = warnings.showwarning
    warnings.showwarning = lambda message, *_where, **_more: session.output.error(f"warning: {message}")
    try:
        yield
    finally:
        warnings.showwarning = shown
        logger.removeHandler(handler)
