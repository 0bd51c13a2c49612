"""`BulkFileSystem`: fsspec's operations on many paths, with nothing left running after one was cancelled."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from types import FunctionType
from typing import Any

from fsspec.asyn import AsyncFileSystem, _get_batch_size
from fsspec.callbacks import DEFAULT_CALLBACK

from trove_async.concurrency import several

__all__ = ["BulkFileSystem", "run_all"]


class BulkFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """What fsspec has, but an operation on many paths that is cancelled ends all its tasks before it ends."""


async def run_all(
    coros: Sequence[Coroutine[Any, Any, Any]],
    batch_size: int | None = None,
    callback: Any = DEFAULT_CALLBACK,
    return_exceptions: bool = False,
    nofiles: bool = False,
) -> list[Any]:
    """Await coroutines, ``batch_size`` at a time, and return their results in order.

    The first error ends the others and is raised, unless errors are to be returned.
    """

    async def run(coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coro
        except Exception as error:
            if not return_exceptions:
                raise
            return error
        finally:
            callback.relative_update(1)

    limit = batch_size or _get_batch_size(nofiles=nofiles)
    try:
        return await several([partial(run, coro) for coro in coros], limit=limit if limit > 0 else len(coros))
    finally:
        for coro in coros:
            coro.close()  # those that were never begun


def _with_run_all(function: FunctionType) -> FunctionType:
    """Return a method of fsspec that runs its coroutines with `run_all`; fsspec's own leaves them running."""
    names = {**function.__globals__, "_run_coros_in_chunks": run_all}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


for _name in ("_cat", "_copy", "_get", "_pipe", "_put", "_sizes"):
    setattr(BulkFileSystem, _name, _with_run_all(getattr(AsyncFileSystem, _name)))
