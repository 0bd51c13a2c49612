"""`ReadableFileSystem`: the half of `TroveFileSystem` that opens stores, looks and reads."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike, stringify_path, tokenize

from trove_async.driver.base import Layer
from trove_async.driver.opening import named_target
from trove_async.dsn import DSN, NAMED, check_no_secret, is_name, parse_dsn
from trove_async.errors import (
    InvalidArgumentError,
    LifetimeError,
    NotFoundError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    UnpicklableError,
)
from trove_async.fs.fsspec_bulk import BulkFileSystem, run_all
from trove_async.fs.fsspec_stores import LoopStores
from trove_async.fs.fsspec_urls import PROTOCOLS, is_named, keywords_of, path_of, path_under
from trove_async.portal import current
from trove_async.store import Trove
from trove_async.store import open as open_store
from trove_async.types import ObjectInfo

__all__ = ["ReadableFileSystem", "progress_of"]

_FOR_FSSPEC = frozenset({"use_listings_cache", "listings_expiry_time", "max_paths"})


class ReadableFileSystem(BulkFileSystem):
    """What `TroveFileSystem` has without the methods that write."""

    protocol = PROTOCOLS
    mirror_sync_methods = False  # those of fsspec do not cancel the coroutine that they wait for

    def __init__(
        self,
        dsn: str | None = None,
        *,
        name: str | None = None,
        asynchronous: bool = False,
        loop: object = None,
        batch_size: int | None = None,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        layers: Iterable[Layer] = (),
        **settings: Any,
    ) -> None:
        if dsn is None and name is None:
            raise InvalidArgumentError("give the store: dsn='local:///srv/data', or the URL trove://NAME/bucket/key")
        for option in _FOR_FSSPEC:
            settings.pop(option, None)
        self._settings = settings
        self._config = config
        self._name = name if dsn is None else None
        self._dsn = dsn if dsn is not None else f"trove://{name}"
        super().__init__(
            asynchronous=asynchronous,
            loop=None if asynchronous else current()._loop,
            batch_size=batch_size,
            use_listings_cache=False,
        )
        self._strip_protocol = self._path_of  # type: ignore[method-assign]
        self._stores = LoopStores(lambda: open_store(self._dsn, config=config, layers=layers, **settings))

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of the calls that block."""
        return None if self.asynchronous else current()._loop

    def __repr__(self) -> str:
        dsn = self._dsn if "://" not in self._dsn else str(parse_dsn(self._dsn))
        return f"<{type(self).__name__} {dsn}>"

    # Paths

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return keywords_of(stringify_path(path))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return path_of(stringify_path(path))

    def _path_of(self, path: Any) -> Any:
        if isinstance(path, list):
            return [self._path_of(each) for each in path]
        text = path_of(stringify_path(path))
        return path_under(text, self._name) if is_named(text) else text

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path."""
        path = self._path_of(name)
        return f"trove://{path}" if self._name is None else f"trove://{self._name}/{path}"

    def _split(self, path: Any) -> tuple[str, str]:
        bucket, _, key = self._path_of(path).partition("/")
        return bucket, key

    def _object(self, path: Any) -> tuple[str, str]:
        """Return the bucket and the key of an object.

        Raises:
            IsADirectoryError: the path has no key.
        """
        bucket, key = self._split(path)
        if not key:
            raise IsADirectoryError(errno.EISDIR, "an object has a path of the form bucket/key", self._path_of(path))
        return bucket, key

    # Pickling

    def _check_portable(self) -> None:
        if is_name(self._dsn):
            named_target(self._dsn, self._config).__reduce__()
            dsn = DSN(NAMED)
        else:
            dsn = parse_dsn(self._dsn)
        check_no_secret(dsn, self._settings)
        if dsn.scheme == "memory" and not dsn.host:
            raise UnpicklableError(
                "a store in memory without a name is known only to its file system; use 'memory://NAME', or name a "
                "store in trove.toml and use 'trove://NAME'"
            )

    def __reduce__(self) -> Any:
        self._check_portable()
        return super().__reduce__()

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return a description from which fsspec makes the file system again.

        Raises:
            UnpicklableError: it would hold a secret.
        """
        self._check_portable()
        described: dict[str, Any] = super().to_dict(include_password=include_password)
        return described

    # Calls that block

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        if self.asynchronous:
            raise LifetimeError(
                "the file system was made with asynchronous=True; await the method whose name begins with '_', or make "
                "another file system"
            )
        return current().call(function, *args, **kwargs)

    async def _store(self) -> Trove:
        return await self._stores.get()

    # Looking

    async def _info(self, path: Any, **kwargs: Any) -> dict[str, Any]:
        bucket, key = self._split(path)
        if not bucket:
            return _directory("")
        store = await self._store()
        if not key:
            await store.list(bucket, max_keys=1).all()  # raises if there is no such bucket
            return _directory(bucket)
        try:
            return _file(bucket, await store.head(bucket, key))
        except ObjectNotFoundError:
            if await store.list(bucket, f"{key}/", max_keys=1).all():
                return _directory(f"{bucket}/{key}")
            raise

    async def _isfile(self, path: Any) -> bool:
        return await self._type(path) == "file"

    async def _isdir(self, path: Any) -> bool:
        return await self._type(path) == "directory"

    async def _type(self, path: Any) -> str | None:
        try:
            return str((await self._info(path))["type"])
        except FileNotFoundError:
            return None

    async def _ls(self, path: Any, detail: bool = True, **kwargs: Any) -> list[Any]:
        bucket, key = self._split(path)
        store = await self._store()
        found: list[dict[str, Any]]
        if not bucket:
            found = [{**_directory(each.name), "created": each.created_at} for each in await store.list_buckets()]
        else:
            prefix = f"{key}/" if key else ""
            found = []
            begun = False
            async for item in store.list(bucket, prefix, delimiter="/"):
                begun = True
                if isinstance(item, ObjectInfo):
                    if item.key != prefix:
                        found.append(_file(bucket, item))
                else:
                    found.append(_directory(f"{bucket}/{item.prefix[:-1]}"))
            if not begun and key:
                found = [_file(bucket, await store.head(bucket, key))]
        return found if detail else [each["name"] for each in found]

    async def _find(
        self, path: Any, maxdepth: int | None = None, withdirs: bool = False, prefix: str = "", **kwargs: Any
    ) -> Any:
        bucket, key = self._split(path)
        if maxdepth is not None or not bucket:
            return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)
        detail = kwargs.pop("detail", False)
        store = await self._store()
        base = f"{key}/" if key else ""
        found: dict[str, dict[str, Any]] = {}
        begun = False
        try:
            async for each in store.list(bucket, base + prefix):
                begun = True
                if withdirs:
                    at = each.key.rfind("/", len(base))
                    while at >= 0 and (name := f"{bucket}/{each.key[:at]}") not in found:
                        found[name] = _directory(name)
                        at = each.key.rfind("/", len(base), at)
                if not each.key.endswith("/"):
                    found[f"{bucket}/{each.key}"] = _file(bucket, each)
            if withdirs and (begun or not key):
                name = f"{bucket}/{key}".rstrip("/")
                found[name] = _directory(name)
            elif not begun and key and not prefix:
                found[f"{bucket}/{key}"] = _file(bucket, await store.head(bucket, key))
        except NotFoundError:
            pass
        return dict(sorted(found.items())) if detail else sorted(found)

    async def _du(
        self, path: Any, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        found = await self._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    async def _created(self, path: Any) -> Any:
        return (await self._info(path))["created"]

    async def _modified(self, path: Any) -> Any:
        return (await self._info(path))["LastModified"]

    async def _ukey(self, path: Any) -> str:
        return str((await self._info(path))["ETag"])

    async def _checksum(self, path: Any) -> int:
        return int(tokenize(await self._ukey(path)), 16)

    async def _sign(self, path: Any, expiration: float = 100, **kwargs: Any) -> str:
        store = await self._store()
        return await store.presign_get(*self._object(path), expires=expiration, **kwargs)

    # Reading

    async def _cat_file(self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        bucket, key = self._object(path)
        store = await self._store()
        if not start and end is None:
            return await store.read(bucket, key)
        try:
            if (start is None or start >= 0) and (end is None or end > (start or 0)):
                return await store.read(bucket, key, (start or 0, None if end is None else end - (start or 0)))
            if start is not None and start < 0 and end is None:
                return await store.read(bucket, key, (start, None))
        except RangeNotSatisfiableError:
            return b""
        info = await store.head(bucket, key)
        first, stop, _ = slice(start, end).indices(info.size)
        if stop <= first:
            return b""
        return await store.read(
            bucket, key, (first, stop - first), if_match=info.etag if store.supports("get") else None
        )

    async def _cat(self, path: Any, recursive: bool = False, **kwargs: Any) -> Any:
        if recursive:
            tops = await self._expand_path(path)
            path = sorted({name for top in tops for name in await self._find(top)})
        return await super()._cat(path, **kwargs)

    async def _cat_ranges(
        self,
        paths: Sequence[Any],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        if not isinstance(paths, list):
            raise TypeError("paths is a list")
        if not isinstance(starts, Iterable):
            starts = [starts] * len(paths)
        if not isinstance(ends, Iterable):
            ends = [ends] * len(paths)
        ranges: dict[Any, list[tuple[int, Any, Any]]] = {}
        for place, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
            ranges.setdefault(path, []).append((place, start, end))
        results: list[Any] = [None] * len(paths)

        async def read(path: Any, wanted: list[tuple[int, Any, Any]]) -> None:
            try:
                found = await self._ranges(path, [(start, end) for _, start, end in wanted], max_gap)
            except Exception as error:  # noqa: BLE001 - it is returned in place of the bytes
                found = [error] * len(wanted)
            for (place, _, _), each in zip(wanted, found, strict=True):
                results[place] = each

        await run_all([read(*each) for each in ranges.items()], batch_size=batch_size or self.batch_size, nofiles=True)
        failed = next((each for each in results if isinstance(each, Exception)), None)
        if failed is not None and on_error != "return":
            raise failed
        return results

    async def _ranges(self, path: Any, ranges: list[tuple[Any, Any]], max_gap: int | None) -> list[Any]:
        gap: dict[str, Any] = {} if max_gap is None else {"coalesce_gap": max_gap}
        plain = all((start or 0) >= 0 and (end is None or end >= (start or 0)) for start, end in ranges)
        if plain and len(ranges) > 1:
            wanted = [(start or 0, None if end is None else end - (start or 0)) for start, end in ranges]
            store = await self._store()
            try:
                return list(await store.read_ranges(*self._object(path), wanted, **gap))
            except RangeNotSatisfiableError:
                pass  # one begins at or behind the end, where fsspec expects no bytes
        return [await self._cat_file(path, start, end) for start, end in ranges]

    async def _get_file(self, rpath: Any, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        bucket, key = self._split(rpath)
        store = await self._store()
        if isfilelike(lpath):
            async with store.get(bucket, key) as reader:
                callback.set_size(reader.size)
                async for chunk in reader:
                    lpath.write(chunk)
                    callback.relative_update(len(chunk))
            return
        if not key:
            await asyncio.to_thread(os.makedirs, lpath, exist_ok=True)
            return
        await asyncio.to_thread(lambda: os.makedirs(os.path.dirname(os.path.abspath(lpath)), exist_ok=True))
        try:
            await store.download(bucket, key, lpath, on_progress=progress_of(callback))
        except (ObjectNotFoundError, IsADirectoryError):
            if not await self._isdir(rpath):
                raise
            await asyncio.to_thread(os.makedirs, lpath, exist_ok=True)


def _directory(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory", "created": None, "LastModified": None}


def _file(bucket: str, info: ObjectInfo) -> dict[str, Any]:
    return {
        "name": f"{bucket}/{info.key}",
        "size": info.size,
        "type": "file",
        "ETag": info.etag,
        "LastModified": info.last_modified,
        "created": info.last_modified,  # an object is not changed, but replaced
        "mtime": info.last_modified and info.last_modified.timestamp(),
        "ContentType": info.content_type,
        "VersionId": info.version_id,
    }


def progress_of(callback: Any) -> Any:
    """Return what tells a callback of fsspec how many bytes there are."""

    def report(done: int, size: int | None) -> None:
        if size is not None:
            callback.set_size(size)
        callback.absolute_update(done)

    return None if callback is DEFAULT_CALLBACK else report
