"""`TroveFileSystem`: any store as a file system of fsspec."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from glob import has_magic
from inspect import isasyncgenfunction, iscoroutinefunction
from pathlib import Path
from typing import Any, Final

import fsspec
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.spec import AbstractFileSystem

from trove_async.driver.options import CONTENT_HEADERS
from trove_async.errors import (
    BucketNotEmptyError,
    InvalidArgumentError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
)
from trove_async.fs.file import open_file
from trove_async.fs.fsspec_bulk import run_all
from trove_async.fs.fsspec_files import AsyncStream, FileReader, FileWriter, PackedWriter, TextFileWriter
from trove_async.fs.fsspec_reading import ReadableFileSystem, progress_of
from trove_async.fs.reading import BinaryReader
from trove_async.fs.sync_file import boxed
from trove_async.fs.writing import BinaryWriter
from trove_async.portal import current
from trove_async.reader import caller_location
from trove_async.store import Trove

__all__ = ["TroveFileSystem"]

_READING: Final = frozenset({"block_size", "cache_options", "cache_type", "size"})
"""What others tell `open` about buffers, which these files do not need to know."""

_TEXT: Final = frozenset({"encoding", "errors", "newline"})
_FSSPEC: Final = os.path.dirname(fsspec.__file__) + os.sep


class TroveFileSystem(ReadableFileSystem):
    """A store as a file system of fsspec, with paths ``bucket/key``.

    The methods without underscore may be called from any thread; they run on the portal, one loop in a thread of the
    process. Those with an underscore are coroutines, and run on the loop of their caller. Each loop has a store of its
    own, which is opened when it is first needed and closed when the loop ends.

    A key's parts are directories, which exist as long as they hold an object; buckets are the directories at the top.
    No listing is cached.

    Args:
        dsn: the store, as for `trove_async.open`.
        name: a store of the configuration, in place of ``dsn``.
        asynchronous: True for coroutines alone; a call that would block is then refused.
        loop: accepted, since fsspec passes it; it has no effect.
        batch_size: the number of operations at once of those on many paths; None for fsspec's default.
        config, layers: as for `trove_async.open`.
        **settings: the driver's parameters.
    """

    # Writing

    async def _pipe_file(self, path: Any, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        bucket, key = self._object(path)
        store = await self._store()
        await store.put(bucket, key, value, **await self._condition(store, bucket, key, mode), **kwargs)

    async def _put_file(
        self, lpath: Any, rpath: Any, mode: str = "overwrite", callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        if await asyncio.to_thread(os.path.isdir, lpath):
            await self._makedirs(rpath, exist_ok=True)
            return
        bucket, key = self._object(rpath)
        store = await self._store()
        condition = await self._condition(store, bucket, key, mode)
        await store.put(bucket, key, Path(lpath), on_progress=progress_of(callback), **condition, **kwargs)

    async def _condition(self, store: Trove, bucket: str, key: str, mode: str) -> dict[str, Any]:
        """Return the condition of a write."""
        if mode == "overwrite":
            return {}
        if mode != "create":
            raise InvalidArgumentError(f"mode is 'overwrite' or 'create', not {mode!r}")
        if await store.exists(bucket, key):  # an existing one is known also where the store has no such condition
            raise ObjectAlreadyExistsError(operation="put", bucket=bucket, key=key)
        return {"if_none_match": "*"}

    async def _touch(self, path: Any, truncate: bool = True, **kwargs: Any) -> None:
        bucket, key = self._object(path)
        store = await self._store()
        if truncate or not await store.exists(bucket, key):
            await store.put(bucket, key, b"", **kwargs)
        else:
            await store.copy(bucket, key, bucket, key)  # which changes the time

    async def _copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        on_error: str | None = None,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        pairs = await self._pairs(path1, path2, recursive=recursive, maxdepth=maxdepth)
        for source, target in pairs:
            if "/" not in target and await self._isdir(source):
                await self._makedirs(target, exist_ok=True)  # before the objects in it
        results = await run_all(
            [self._cp_file(*pair, **kwargs) for pair in pairs],
            batch_size=batch_size or self.batch_size,
            return_exceptions=True,
            nofiles=True,
        )
        ignored: Any = FileNotFoundError if on_error == "ignore" else ()
        if recursive and on_error is None:
            ignored = ObjectNotFoundError  # it was removed meanwhile; but a missing bucket is an error
        for error in results:
            if isinstance(error, Exception) and not isinstance(error, ignored):
                raise error

    async def _pairs(self, path1: Any, path2: Any, *, recursive: bool, maxdepth: int | None) -> list[tuple[str, str]]:
        """Return each path that fsspec would copy, with that of its copy."""
        pairs: list[tuple[str, str]] = []
        await super()._copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise", pairs=pairs)
        return list(dict.fromkeys(pairs))

    async def _cp_file(self, path1: Any, path2: Any, pairs: list[tuple[str, str]] | None = None, **kwargs: Any) -> None:
        if pairs is not None:  # of `_pairs`
            pairs.append((self._path_of(path1), self._path_of(path2)))
            return
        bucket, key = self._split(path1)
        if not key or (not self._split(path2)[1] and await self._isdir(path1)):
            await self._makedirs(path2, exist_ok=True)
            return
        store = await self._store()
        try:
            await store.copy(bucket, key, *self._object(path2), **kwargs)
        except ObjectNotFoundError:
            if not await self._isdir(path1):
                raise

    async def _mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Copy each object, and then delete it if it is still the same; what has the path already stays.

        Raises:
            InvalidArgumentError: one object would replace another that is moved; nothing was moved.
        """
        if self._path_of(path1) == self._path_of(path2):
            return
        pairs = await self._pairs(path1, path2, recursive=recursive, maxdepth=maxdepth)
        if not pairs:
            raise IsADirectoryError(errno.EISDIR, "it is a directory; use recursive=True", str(path1))
        moves = [(source, target) for source, target in pairs if source != target]
        if len({path for pair in moves for path in pair}) < 2 * len(moves):
            raise InvalidArgumentError(f"mv {path1!r} to {path2!r}: one object would replace another that is moved")
        store = await self._store()
        directories: list[str] = []
        for source, target in moves:
            if not ("/" in source and "/" in target) and await self._isdir(source):
                await self._makedirs(target, exist_ok=True)
                directories.append(source)

        async def move(source: str, target: str) -> None:
            try:
                await store.move(*self._object(source), *self._object(target))
            except ObjectNotFoundError:
                if not recursive:
                    raise
                directories.append(source)

        await run_all(
            [move(*each) for each in moves if each[0] not in directories],
            batch_size=batch_size or self.batch_size,
            nofiles=True,
        )
        if maxdepth is None:
            for directory in _outermost(directories):
                await self._rm_marks(store, directory)

    async def _rm_marks(self, store: Trove, path: str) -> None:
        """Remove the empty objects that mark directories in a tree, and the bucket if the path is one."""
        bucket, key = self._split(path)
        below = store.list(bucket, f"{key}/" if key else "")
        marks = (each.key async for each in below if each.key.endswith("/") and not each.size)
        await store.delete_many(bucket, marks)
        if not key:
            await self._rmdir(path)

    async def _mkdir(self, path: Any, create_parents: bool = True, **kwargs: Any) -> None:
        bucket, key = self._split(path)
        if not key:
            await (await self._store()).create_bucket(bucket, **kwargs)

    async def _makedirs(self, path: Any, exist_ok: bool = False) -> None:
        bucket, key = self._split(path)
        if bucket and not key:
            await (await self._store()).create_bucket(bucket, exist_ok=exist_ok)

    # Removing

    async def _rm_file(self, path: Any, **kwargs: Any) -> None:
        bucket, key = self._object(path)
        if (await self._info(path))["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, "it is a directory; use recursive=True", f"{bucket}/{key}")
        await (await self._store()).delete(bucket, key)

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        whole = recursive and maxdepth is None
        if isinstance(path, list) or has_magic(self._path_of(path)) or (recursive and not whole):
            paths = await self._expand_path(path, recursive=recursive and not whole, maxdepth=maxdepth)
        elif recursive:
            paths = [self._path_of(path)]
        else:
            await self._rm_file(path)
            return
        if whole:
            for each in _outermost(paths):
                await self._rm_tree(each)
            return
        store = await self._store()
        keys: dict[str, list[str]] = {}
        for each in paths:
            bucket, key = self._split(each)
            if key:
                keys.setdefault(bucket, []).append(key)
        for bucket, chosen in keys.items():
            await store.delete_many(bucket, chosen)

    async def _rm_tree(self, path: str) -> None:
        bucket, key = self._split(path)
        if not bucket:
            raise InvalidArgumentError("the whole store is not removed; name a bucket")
        store = await self._store()
        if not key:
            await store.empty_bucket(bucket)
            await store.delete_bucket(bucket)
            return
        is_file = (await self._info(path))["type"] == "file"

        async def keys() -> AsyncIterator[str]:
            if is_file:
                yield key
            async for each in store.list(bucket, f"{key}/"):
                yield each.key

        await store.delete_many(bucket, keys())

    async def _rmdir(self, path: Any) -> None:
        bucket, key = self._split(path)
        store = await self._store()
        if not key:
            try:
                await store.delete_bucket(bucket)
            except BucketNotEmptyError as error:
                raise OSError(errno.ENOTEMPTY, error.message, bucket) from error
            return
        held = await store.list(bucket, f"{key}/", max_keys=2).all()
        if not held:
            await store.head(bucket, key)
            raise NotADirectoryError(errno.ENOTDIR, "it is an object", f"{bucket}/{key}")
        if any(each.key != f"{key}/" or each.size for each in held):
            raise OSError(errno.ENOTEMPTY, "the directory is not empty; rm with recursive=True", f"{bucket}/{key}")
        await store.delete(bucket, f"{key}/")  # an object that some tools store to mark a directory

    # Files

    def open(
        self,
        path: Any,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Mapping[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open a file; see fsspec. After an error in the block of a file for writing nothing is stored."""
        if "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        binary = "b" in mode
        text = {} if binary else {name: kwargs.pop(name) for name in _TEXT & kwargs.keys()}
        stored: FileWriter = super().open(path, mode if binary else f"{mode.replace('t', '')}b", **kwargs)
        codec = get_compression(self._path_of(path), compression)
        file: Any = stored if codec is None else PackedWriter(stored, compr[codec](stored, mode="w"))
        if not binary:
            file = TextFileWriter(file, **text)
        stored.set_outermost(file)
        return file

    def _open(self, path: Any, mode: str = "rb", autocommit: bool = True, **kwargs: Any) -> Any:
        (file,) = self._call(lambda: boxed(self._opened(path, mode, kwargs)))
        if isinstance(file, BinaryReader):
            file._set_origin(caller_location(_FSSPEC))
            return FileReader(self, path, current(), file)
        file._writer._opened_at = caller_location(_FSSPEC)
        return FileWriter(self, path, current(), file, autocommit=autocommit)

    async def open_async(self, path: Any, mode: str = "rb", **kwargs: Any) -> AsyncStream:
        """Open a file of bytes in the running loop."""
        return AsyncStream(self._path_of(path), await self._opened(path, mode, kwargs))

    async def _opened(self, path: Any, mode: str, arguments: Mapping[str, Any]) -> BinaryReader | BinaryWriter:
        if mode not in ("rb", "wb", "xb", "ab"):
            raise InvalidArgumentError(f"mode {mode!r}: give 'rb', 'wb', 'xb' or 'ab'")
        bucket, key = self._object(path)
        store = await self._store()
        arguments = {name: value for name, value in arguments.items() if name not in _READING}
        if mode == "rb":
            return await open_file(store, bucket, key, "rb")
        if mode == "ab":
            return await self._appending(store, bucket, key, arguments)
        writer: Any = await open_file(store, bucket, key, mode, **arguments)
        assert isinstance(writer, BinaryWriter)
        return writer

    async def _appending(self, store: Trove, bucket: str, key: str, arguments: Mapping[str, Any]) -> BinaryWriter:
        """Return a writer that already has the bytes of the object; it replaces only that object."""
        try:
            old = await store.get(bucket, key)
        except ObjectNotFoundError:
            created: Any = await open_file(store, bucket, key, "xb", **arguments)
            assert isinstance(created, BinaryWriter)
            return created
        headers = {name: getattr(old.info, name) for _, name in CONTENT_HEADERS}
        kept = {"content_type": old.info.content_type, "metadata": old.info.metadata, **headers, **arguments}
        async with AsyncExitStack() as failing:
            async with old:
                writer: Any = await open_file(store, bucket, key, "wb", if_match=old.info.etag, **kept)
                failing.push_async_callback(writer.abort)
                async for chunk in old:
                    await writer.write(chunk)
            failing.pop_all()
        assert isinstance(writer, BinaryWriter)
        return writer


def _outermost(paths: Iterable[str]) -> list[str]:
    """Leave out the paths that are below another one."""
    kept: list[str] = []
    for path in sorted(paths, key=lambda path: path.split("/")):
        if not kept or not f"{path}/".startswith(f"{kept[-1]}/"):
            kept.append(path)
    return kept


def _blocking(name: str) -> Any:
    """Return the method that runs a coroutine function on the portal."""

    def call(self: TroveFileSystem, *args: Any, **kwargs: Any) -> Any:
        return self._call(getattr(self, name), *args, **kwargs)

    return call


def _blocking_iterator(name: str) -> Any:
    def iterate(self: TroveFileSystem, *args: Any, **kwargs: Any) -> Any:
        steps = getattr(self, name)(*args, **kwargs)
        while True:
            try:
                step = self._call(steps.__anext__)
            except StopAsyncIteration:
                return
            yield step

    return iterate


def _add_blocking_methods() -> None:
    """Add the method ``cat`` for ``_cat`` and so on: those that fsspec has and the class does not define."""
    for name in dir(AbstractFileSystem):
        function = getattr(TroveFileSystem, f"_{name}", None)
        if not name.startswith("_") and getattr(TroveFileSystem, name) is getattr(AbstractFileSystem, name):
            if isasyncgenfunction(function):
                method = _blocking_iterator(f"_{name}")
            elif iscoroutinefunction(function):
                method = _blocking(f"_{name}")
            else:
                continue
            method.__name__, method.__doc__ = name, getattr(AbstractFileSystem, name).__doc__
            setattr(TroveFileSystem, name, method)


_add_blocking_methods()
