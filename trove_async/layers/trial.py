"""How the calls that a circuit breaker lets pass report to its circuit."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from trove_async.errors import TransientError
from trove_async.layers.circuit import Circuit
from trove_async.layers.deadlines import timeout_behind
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ByteStream, StreamWrapper

__all__ = ["CountedStream", "Trial"]


class Trial:
    """A call that reports to the circuit once, when it is known how it ended."""

    __slots__ = ("_circuit", "_ticket")

    def __init__(self, circuit: Circuit, ticket: int | None) -> None:
        self._circuit = circuit
        self._ticket = ticket

    def succeeded(self) -> None:
        """Report that the backend did what was asked for."""
        if (ticket := self._take()) is not None:
            self._circuit.succeeded(ticket)

    def answered(self) -> None:
        """Report that the backend answered, and that a body follows."""
        if self._ticket is not None:
            self._ticket = self._circuit.answered(self._ticket)

    def dropped(self) -> None:
        """Report that the end of the call tells nothing about the backend."""
        if (ticket := self._take()) is not None:
            self._circuit.dropped(ticket)

    def raised(self, error: BaseException) -> None:
        """Report the error that ended the call, for what it tells about the backend."""
        if (ticket := self._take()) is None:
            return
        error = timeout_behind(error) or error
        verdict = verdict_on(error)
        if verdict == "failed":
            self._circuit.failed(ticket, cast(Exception, error))
        elif verdict == "works":
            self._circuit.succeeded(ticket)
        else:
            self._circuit.dropped(ticket)

    def _take(self) -> int | None:
        ticket, self._ticket = self._ticket, None
        return ticket


class CountedStream(StreamWrapper):
    """Counts each body once: as a success at its end, as a failure where it breaks.

    A body that is closed before its end counts as a success if any of it arrived. What continues a body is a
    request of its own: it may be refused, or be the probe.

    Args:
        inner: the body.
        begin: begins the trial of such a request; it raises if the request is refused.
        trial: of the request that opened the body.
        position, stop: the offsets in the object at which the body begins and ends.
    """

    def __init__(self, inner: ByteStream, begin: Callable[[], Trial], trial: Trial, position: int, stop: int) -> None:
        super().__init__(inner)
        self._begin = begin
        self._trial = trial
        self._position = position
        self._stop = stop
        self._received = False

    async def read(self, size: int) -> bytes:
        """Read, and report the end of the body or its breaking."""
        try:
            chunk = await self.inner.read(size)
        except BaseException as error:
            self._trial.raised(error)
            raise
        self._position += len(chunk)
        self._received = self._received or bool(chunk)
        if self._position >= self._stop:
            self._trial.succeeded()
        elif not chunk:
            self._trial.raised(TransientError(f"the body ended {self._stop - self._position} bytes early"))
        return chunk

    async def seek(self, offset: int) -> None:
        """Continue elsewhere, by a request of its own."""
        self._finish()
        self._trial, self._received = self._begin(), False
        try:
            await self.inner.seek(offset)
        except BaseException as error:
            self._trial.raised(error)
            raise
        self._trial.answered()
        self._position = offset

    def _finish(self) -> None:
        if self._received:
            self._trial.succeeded()
        else:
            self._trial.dropped()

    def abort(self) -> None:
        """Release the body, and report what there is to report."""
        self.inner.abort()
        self._finish()

    async def aclose(self) -> None:
        """Release the body, and report what there is to report."""
        try:
            await self.inner.aclose()
        finally:
            self._finish()
