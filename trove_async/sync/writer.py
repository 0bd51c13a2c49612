"""Write an object piece by piece, without asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

from trove_async import writer
from trove_async.portal import Portal
from trove_async.reader import caller_location
from trove_async.sources import Chunk
from trove_async.types import ObjectInfo

__all__ = ["ObjectWriter"]


@final
class ObjectWriter:
    """An object that is being written; a clean exit of ``with`` commits it, any other exit aborts it.

    Until the commit, readers see the old object, or none. Memory is bounded: `write` waits until
    the backend has taken earlier chunks. A writer whose block is not left before its store is closed, or that is
    garbage-collected, is aborted with a `ResourceWarning`.
    """

    def __init__(self, portal: Portal, writer: writer.ObjectWriter) -> None:
        self._portal = portal
        self._async = writer
        writer._opened_at = caller_location()

    @property
    def info(self) -> ObjectInfo | None:
        """The stored object after a clean exit of the block; None before."""
        return self._async.info

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._async.tell()

    def write(self, data: Chunk) -> int:
        """Write bytes; return their number. The buffer may be reused when this returns.

        Raises:
            ClosedError: the writer is closed or was never entered.
            TroveError: the backend refused the object; leaving the block raises it too.
        """
        size = self._async._gather(data)
        if self._async._full:
            self._portal.call(self._async._flush)
        return size

    def abort(self) -> None:
        """Abort the write: nothing is stored and nothing is left behind; idempotent."""
        self._portal.call(self._async.abort)

    def __enter__(self) -> Self:
        self._portal.call(self._async.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.call(self._async.__aexit__, kind, error, traceback)

    def __repr__(self) -> str:
        return repr(self._async)
