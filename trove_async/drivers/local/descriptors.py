"""Waiting until other files are closed, when too many are open."""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from trove_async.drivers.local.suspension import pauses

__all__ = ["Descriptors"]

P = ParamSpec("P")
R = TypeVar("R")

TOO_MANY: Final = frozenset({errno.EMFILE, errno.ENFILE})
_LONGEST: Final = 30.0
"""Seconds after which an operation gives up."""
_SPARE: Final = 4
"""How many files a commit may have to open beside its temporary."""


class _Repeating(threading.local):
    """Whether this thread runs an operation again."""

    now: bool = False


class Descriptors:
    """The limit of open files, and what to do when it is reached.

    Args:
        release: closes what is open without being needed.

    Attributes:
        plenty: how many bodies may be written before `check` has to be called: a fourth of the files that the process
            may open; 0 once too many files were open.
        one_at_a_time: held for `check` and the opening that follows.
    """

    def __init__(self, release: Callable[[], object]) -> None:
        self._release = release
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.one_at_a_time = threading.Lock()
        self.plenty = sys.maxsize if limit == resource.RLIM_INFINITY else limit // 4
        self._repeating = _Repeating()

    async def retry(
        self,
        error: OSError,
        operation: Callable[Concatenate[str, P], Awaitable[R]],
        path: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Repeat an operation that did nothing, since too many files were open, until it can open what it needs.

        Raises:
            OSError: ``error``, if it has another cause or the operation is being repeated already; one of `TOO_MANY`,
                if too many files are still open after 30 s.
        """
        if error.errno not in TOO_MANY or self._repeating.now:
            try:
                raise error
            finally:
                del error  # with it, the frame and its traceback would be a cycle, which keeps handles open
        self.plenty = 0
        error.__traceback__ = None  # its frames refer to handles, which would stay open
        until = time.monotonic() + _LONGEST
        for pause in pauses():
            self._release()
            # The operation does not wait meanwhile, so it ends in this thread.
            self._repeating.now = True
            try:
                return await operation(path, *args, **kwargs)
            except OSError as failure:
                if failure.errno not in TOO_MANY or time.monotonic() > until:
                    raise
            finally:
                self._repeating.now = False
            await pause
        raise AssertionError

    def check(self) -> None:
        """Check that the files of a commit can be opened.

        Otherwise bodies that are being written could take all descriptors, and none of them could be committed.

        Raises:
            OSError: EMFILE or ENFILE.
        """
        spare: list[int] = []
        try:
            spare.extend(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for _ in range(_SPARE))
        finally:
            for descriptor in spare:
                os.close(descriptor)
