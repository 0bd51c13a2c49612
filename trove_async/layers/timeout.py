"""`Timeout`: bound how long an operation of one request takes, and how long a body may stand still."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.errors import InvalidArgumentError, OperationTimeoutError, TroveError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader

__all__ = ["Timeout"]

R = TypeVar("R")

_READS: Final = frozenset(
    {
        "get", "get_lifecycle", "get_range", "get_tags", "get_version", "get_versioning", "head", "list_page",
        "list_versions_page", "ping", "presign_delete", "presign_get", "presign_head", "presign_post", "presign_put",
    }
)  # fmt: skip
"""Operations of one request that change nothing."""

_WRITES: Final = frozenset(
    {
        "abort_multipart", "create_bucket", "delete", "delete_bucket", "delete_lifecycle", "delete_tags",
        "delete_version", "initiate_multipart", "put", "set_lifecycle", "set_tags", "set_versioning", "upload_part",
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
        InvalidArgumentError: neither is given, or one is not more than 0.
    """

    attempt: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("attempt", self.attempt), ("idle", self.idle)):
            if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
                raise InvalidArgumentError(f"{name} is a number of seconds, more than 0, not {seconds!r}")
        if self.attempt is None and self.idle is None:
            raise InvalidArgumentError("Timeout needs a time: Timeout(attempt=10), Timeout(idle=30), or both")

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        return _TimeoutDriver(driver, self.attempt, self.idle)


class _TimeoutDriver(LayerDriver):
    def __init__(self, inner: Driver, attempt: float | None, idle: float | None) -> None:
        super().__init__(inner)
        self._attempt = attempt
        self._idle = idle

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if self._attempt is None or not _is_one_request(operation):
            result = await call()
        else:
            result = await _within(self._attempt, call(), lambda: self._late(operation))
        if self._idle is not None and isinstance(result, ObjectReader):
            idle = self._idle
            result.wrap(lambda stream: _TimedStream(stream, idle))
        return result

    def _late(self, operation: Operation) -> OperationTimeoutError:
        return OperationTimeoutError(
            f"it took longer than {self._attempt:g} s, the limit of Timeout", ambiguous=operation.name in _WRITES
        )


def _is_one_request(operation: Operation) -> bool:
    body = operation.body
    if body is not None:
        return body.replayable and body.size is not None and body.size <= _SMALL and operation.name in _WRITES
    return operation.name in _READS or operation.name in _WRITES


async def _within(seconds: float, work: Awaitable[R], late: Callable[[], OperationTimeoutError]) -> R:
    """Await work for some seconds, then cancel it, and raise once it has ended.

    A caller's cancellation stays one, also if it comes at the same time.
    """
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            return await work
    except TimeoutError as error:
        if isinstance(error, TroveError) or not bound.expired():
            raise  # the driver's own
        raise late() from error


class _TimedStream(ByteStream):
    def __init__(self, inner: ByteStream, idle: float) -> None:
        self._inner = inner
        self._idle = idle

    async def read(self, size: int) -> bytes:
        return await _within(self._idle, self._inner.read(size), self._late)

    async def seek(self, offset: int) -> None:
        await _within(self._idle, self._inner.seek(offset), self._late)

    def _late(self) -> OperationTimeoutError:
        return OperationTimeoutError(f"no byte of the body arrived for {self._idle:g} s, the limit of Timeout")

    def limit_memory(self, size: int) -> None:
        self._inner.limit_memory(size)

    def abort(self) -> None:
        self._inner.abort()

    async def aclose(self) -> None:
        await self._inner.aclose()
