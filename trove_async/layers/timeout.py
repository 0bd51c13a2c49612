"""`Timeout`: bound how long an operation of one request takes, and how long a body may stand still."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.methods import SIGNING
from trove_async.errors import InvalidArgumentError, OperationTimeoutError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.deadlines import Deadlines
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.values import is_number

__all__ = ["Timeout"]

R = TypeVar("R")

_READS: Final = SIGNING | {
    "get", "get_lifecycle", "get_range", "get_tags", "get_version", "get_versioning", "head", "list_page",
    "list_versions_page", "ping",
}  # fmt: skip
"""Operations of one request that change nothing."""

_WRITES: Final = frozenset(
    {
        "abort_multipart", "append_part", "create_bucket", "delete", "delete_bucket", "delete_lifecycle",
        "delete_tags", "delete_version", "initiate_multipart", "put", "set_lifecycle", "set_tags", "set_versioning",
        "upload_part",
    }
)  # fmt: skip
"""Operations of one request that change something: a put or part only if its body is small."""

_SMALL: Final = 1024 * 1024
"""Bytes of a body that every driver stores in one request."""


@dataclass(frozen=True)
class Timeout:
    """Raise `OperationTimeoutError`, which is ``retryable``, if the backend takes too long.

    Attributes:
        attempt: seconds for an operation of one request; None for no limit. A get has ended when its reader is
            returned. Not limited are operations of many requests, such as copies, completions and the listing of all
            versions or parts, and a put or part with a body that is larger than 1 MiB or can be read only once: they
            take as long as their bytes need. The error of a write is ``ambiguous``.
        idle: seconds that a reader waits for the next bytes of its body; None for no limit. The body is then resumed,
            as after a broken connection. The gaps while a body is sent are bounded by the driver (``idle_timeout``).

    Raises:
        InvalidArgumentError: neither is given, or one is no number, or not more than 0.
    """

    attempt: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("attempt", self.attempt), ("idle", self.idle)):
            if seconds is not None and not (is_number(seconds) and 0 < seconds < math.inf):
                raise InvalidArgumentError(f"{name} is a number of seconds, more than 0, not {seconds!r}")
        if self.attempt is None and self.idle is None:
            raise InvalidArgumentError("Timeout needs a time: Timeout(attempt=10), Timeout(idle=30), or both")

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        return _TimeoutDriver(driver, self.attempt, self.idle)


class _TimeoutDriver(LayerDriver):
    def __init__(self, inner: Driver, attempt: float | None, idle: float | None) -> None:
        super().__init__(inner)
        self._seconds = attempt
        self._attempts = None if attempt is None else Deadlines(attempt)
        self._idle = idle
        self._reads = None if idle is None else Deadlines(idle)

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if self._attempts is None or not _is_one_request(operation):
            result = await call()
        else:
            result = await self._attempts.within(call(), lambda sent: self._late(operation, sent))
        if self._reads is not None and isinstance(result, ObjectReader):
            reads = self._reads
            result.wrap(lambda stream: _TimedStream(stream, reads, self._still))
        return result

    def _late(self, operation: Operation, sent: bool) -> OperationTimeoutError:
        return OperationTimeoutError(
            f"it took longer than {self._seconds:g} s, the limit of Timeout",
            ambiguous=sent and operation.name in _WRITES,
        )

    def _still(self, _sent: bool) -> OperationTimeoutError:
        return OperationTimeoutError(f"no byte of the body arrived for {self._idle:g} s, the limit of Timeout")

    async def close(self) -> None:
        try:
            await super().close()  # which may wait for operations that are under way
        finally:
            for deadlines in (self._attempts, self._reads):
                if deadlines is not None:
                    deadlines.close()


def _is_one_request(operation: Operation) -> bool:
    body = operation.body
    if body is not None:
        return body.replayable and body.size is not None and body.size <= _SMALL and operation.name in _WRITES
    return operation.name in _READS or operation.name in _WRITES


class _TimedStream(StreamWrapper):
    def __init__(self, inner: ByteStream, deadlines: Deadlines, late: Callable[[bool], OperationTimeoutError]) -> None:
        super().__init__(inner)
        self._deadlines = deadlines
        self._late = late

    async def read(self, size: int) -> bytes:
        return await self._deadlines.within(self.inner.read(size), self._late)

    async def seek(self, offset: int) -> None:
        await self._deadlines.within(self.inner.seek(offset), self._late)
