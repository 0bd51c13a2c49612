"""What can be awaited or entered: the one return type of ``open`` and ``get``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

__all__ = ["Opening"]

T = TypeVar("T", bound=AbstractAsyncContextManager[Any])


class Opening(Generic[T]):
    """Something that is opened by ``await``, or by ``async with``, which closes it too."""

    __slots__ = ("_open", "_opened")

    def __init__(self, open: Callable[[], Awaitable[T]]) -> None:
        self._open = open
        self._opened: T | None = None

    if not TYPE_CHECKING:  # a type checker says the same from the attributes that are there

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"this is not open yet: use 'async with … as x' or 'x = await …', and then x.{name}")

        def __enter__(self) -> NoReturn:
            raise TypeError("use 'async with'; code without asyncio opens its store by trove_async.sync.open")

        __exit__ = __enter__  # which `with` looks for before it enters

    def __await__(self) -> Generator[object, None, T]:
        return self._open().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(kind, error, traceback)
