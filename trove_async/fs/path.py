"""`StorePath`: a path of a store, with the methods of `pathlib` as coroutines."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from os import PathLike
from typing import Any, Self, TypeVar, Unpack, overload

from trove_async.body import BodyLike
from trove_async.errors import (
    InvalidArgumentError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.fs.base import AsyncFile
from trove_async.fs.file import ReadBytes, ReadText, WriteBytes, WriteText, open_file
from trove_async.fs.pure import PureStorePath
from trove_async.fs.reading import BinaryReader
from trove_async.fs.text import TextReader, TextWriter
from trove_async.fs.trees import (
    Once,
    at_path,
    carry,
    entries,
    exists,
    in_folder,
    is_directory,
    is_file,
    matching,
    pattern_names,
)
from trove_async.fs.writing import BinaryWriter
from trove_async.opening import Opening
from trove_async.paths import local_path
from trove_async.store.arguments import PutArguments
from trove_async.types import ObjectInfo

__all__ = ["StorePath"]

Target = TypeVar("Target", bound="StorePath | str | PathLike[str]")


class StorePath(PureStorePath):
    """A path of a store: an object, a directory, or both, or neither.

    A directory is what the keys of the objects below it begin with. It exists while there are such objects; a root
    always exists if its bucket does. Listings never end early, and errors of the store are raised as they are.
    """

    __slots__ = ()

    async def exists(self) -> bool:
        """Tell whether there is an object or a directory; False where the bucket is missing."""
        return await exists(self)

    async def is_file(self) -> bool:
        """Tell whether there is an object; False where the bucket is missing."""
        return await is_file(self)

    async def is_dir(self) -> bool:
        """Tell whether there are objects below the path, or it is the root; False where the bucket is missing."""
        return await is_directory(self)

    async def stat(self) -> ObjectInfo:
        """Describe the object.

        Raises:
            ObjectNotFoundError: there is none; a directory has no description.
        """
        return await self.store.head(self.bucket, self.key)

    async def read_bytes(self) -> bytes:
        """Return the object's bytes."""
        return await self.store.read(self.bucket, self.key)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """Return the object's text; see `open_file` for the arguments."""
        async with self.open("r", encoding=encoding, errors=errors, newline=newline) as file:
            return await file.read()

    async def write_bytes(self, data: BodyLike, **arguments: Unpack[PutArguments]) -> ObjectInfo:
        """Store an object, whole or not at all; arguments and errors are those of ``put``."""
        return await self.store.put(self.bucket, self.key, data, **arguments)

    async def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **arguments: Unpack[PutArguments],
    ) -> ObjectInfo:
        """Store text, whole or not at all; see `open_file` for the arguments."""
        async with self.open("w", encoding=encoding, errors=errors, newline=newline, **arguments) as file:
            await file.write(data)
        assert file.info is not None
        return file.info

    @overload
    def open(
        self,
        mode: ReadText = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Opening[TextReader]: ...

    @overload
    def open(
        self,
        mode: WriteText,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **arguments: Unpack[PutArguments],
    ) -> Opening[TextWriter]: ...

    @overload
    def open(self, mode: ReadBytes) -> Opening[BinaryReader]: ...

    @overload
    def open(self, mode: WriteBytes, **arguments: Unpack[PutArguments]) -> Opening[BinaryWriter]: ...

    @overload
    def open(
        self,
        mode: str,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **arguments: Unpack[PutArguments],
    ) -> Opening[AsyncFile[Any]]: ...

    def open(self, mode: str = "r", **arguments: Any) -> Opening[Any]:
        """Open the object as a file; see `open_file`."""
        return open_file(self.store, self.bucket, self.key, mode, **arguments)

    async def iterdir(self) -> AsyncGenerator[Self, None]:
        """Yield the paths in the directory, in the order of their keys; none if it does not exist.

        Raises:
            BucketNotFoundError: the bucket does not exist.
        """
        once = Once()
        async for name, is_folder in entries(self):
            if once.is_new(name, is_folder):
                yield self.child(name)

    async def glob(self, pattern: str) -> AsyncGenerator[Self, None]:
        """Yield the objects and directories below this directory that match a pattern, in the order of their keys.

        ``*`` is any text without a slash, ``?`` one character but a slash, ``**`` any text, and ``**/`` any number of
        directories; all other characters stand for themselves. Directories that do not match up to the first ``**`` are
        not listed.

        Raises:
            InvalidArgumentError: the pattern is empty, or begins or ends with a slash.
            BucketNotFoundError: the bucket does not exist.
        """
        async for path in matching(self, pattern_names(pattern)):
            yield path

    async def rglob(self, pattern: str) -> AsyncGenerator[Self, None]:
        """Yield the objects and directories at any depth whose last names match a pattern; see `glob`."""
        async for path in matching(self, ["**", *pattern_names(pattern)]):
            yield path

    async def walk(self) -> AsyncGenerator[tuple[Self, list[str], list[str]], None]:
        """Yield each directory from here downwards, with the names of the directories and of the objects in it.

        Remove names from the list of directories to leave them out, and stop whenever you like. A name may be in both
        lists. Go on from a name with `child`, since it may be one that ``/`` would not take literally.

        Raises:
            BucketNotFoundError: the bucket does not exist.
        """
        pending = [self]
        while pending:
            directory = pending.pop()
            directories: list[str] = []
            objects: list[str] = []
            async for name, is_folder in entries(directory):
                (directories if is_folder else objects).append(name)
            yield directory, directories, objects
            pending += [directory.child(name) for name in reversed(directories)]

    async def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make sure that the name is free for a directory; at the root of a bucket, create the bucket.

        Nothing is stored: a directory exists once there is an object in it.

        Args:
            parents: for code that is written for `pathlib`; the directories above need not exist.
            exist_ok: True to accept a directory that exists.

        Raises:
            ObjectAlreadyExistsError: an object has the path's key, or the directory exists.
            BucketAlreadyExistsError: the bucket exists.
            BucketNotFoundError: the bucket does not exist.
        """
        if not self.prefix:
            await self.store.create_bucket(self.bucket, exist_ok=exist_ok)
            return
        found = await self.store.list(self.bucket, self.prefix, max_keys=1).all()
        if (found and not exist_ok) or await self.is_file():
            raise ObjectAlreadyExistsError(operation="mkdir", bucket=self.bucket, key=self.key)

    async def rmdir(self) -> None:
        """Remove an empty directory; the root of a bucket is removed with the bucket.

        Only an empty object that marks the directory may be there, whose key ends in a slash; without one there is
        nothing to remove.

        Raises:
            PreconditionFailedError: the directory is not empty; nothing was removed.
            BucketNotEmptyError: the bucket is not.
            BucketNotFoundError: the bucket does not exist.
        """
        if not self.prefix:
            await self.store.delete_bucket(self.bucket)
            return
        found = await self.store.list(self.bucket, self.prefix, max_keys=2).all()
        if any(info.key != self.prefix or info.size for info in found):
            message = "the directory is not empty; rmtree removes it with all that is in it"
            raise PreconditionFailedError(message, operation="rmdir", bucket=self.bucket, key=self.key)
        if found:
            await self.store.delete(self.bucket, self.prefix)

    async def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete the object; what is below the path stays.

        Raises:
            ObjectNotFoundError: there is none, and ``missing_ok`` is False.
        """
        if not missing_ok:
            await self.stat()
        await self.store.delete(self.bucket, self.key)

    async def rmtree(self, *, missing_ok: bool = False) -> int:
        """Delete all objects below the path, and return their number; the object at the path itself stays.

        If it is interrupted, run it again.

        Raises:
            ObjectNotFoundError: there are none, and ``missing_ok`` is False; not at the root.
            BulkError: some were not deleted; ``failed`` says which, and ``deleted_count`` how many were.
        """
        keys = (info.key async for info in self.store.list(self.bucket, self.prefix))
        deleted = await self.store.delete_many(self.bucket, keys)
        if not deleted and self.parts and not missing_ok:
            raise ObjectNotFoundError(operation="rmtree", bucket=self.bucket, key=self.key)
        return deleted

    async def rename(self, target: Self) -> Self:
        """Move the object, and all objects below the path, to another path of the same store; return that path.

        Objects at the target are replaced, and others stay. Each object is copied, and then deleted if it is still the
        same; several at a time. A path that is renamed to itself stays as it is.

        A tree is not moved at once. If it is interrupted, or fails, each object is at the source or the target, or at
        both; run it again for what is left.

        Raises:
            InvalidArgumentError: the paths are of different stores, or one is below the other.
            ObjectNotFoundError: there is neither an object nor a directory.
            BucketNotFoundError: a bucket is missing.
            BulkError: some objects were not moved; ``failed`` says which and why, ``deleted_count`` how many were.
            TroveError: the only object was not moved; the errors are those of ``move``.
        """
        if target.store is not self.store:
            raise InvalidArgumentError("a path is renamed within its store; use copy_to, and remove the source")
        if (self.bucket, self.key) == (target.bucket, target.key) and self.prefix == target.prefix:
            if not await self.exists():
                raise ObjectNotFoundError(operation="rename", bucket=self.bucket, key=self.key)
            return target
        self._require_apart(target)
        await carry(self, at_path(target), operation="rename", move=True)
        return target

    async def replace(self, target: Self) -> Self:
        """Do the same as `rename`, which replaces what is at the target, too."""
        return await self.rename(target)

    async def copy_to(self, target: Target) -> Target:
        """Copy the object, and all objects below the path, to a path of any store or of this machine; return it.

        Objects and files at the target are replaced, each at once, and others stay. Within a backend the objects are
        copied by the backend.

        Args:
            target: the path of the copy, and not the directory that it goes into. Missing local directories are made.

        Raises:
            InvalidArgumentError: one path is below the other.
            ObjectNotFoundError: there is neither an object nor a directory.
            BucketNotFoundError: a bucket is missing.
            BulkError: some objects were not copied; ``failed`` says which and why. Names that cannot be those of local
                files, such as ``..``, are among them.
            TroveError, OSError: the only object was not copied.
        """
        if isinstance(target, StorePath):
            if target.store is self.store:
                self._require_apart(target)
            place = at_path(target)
        else:
            place = in_folder(local_path(target))
        await carry(self, place, operation="copy_to", move=False)
        return target

    def _require_apart(self, target: StorePath) -> None:
        """Refuse a target within the source, which never ends, and a source within the target, which loses objects."""
        here, there = self.prefix, target.prefix
        if self.bucket == target.bucket and (here.startswith(there) or there.startswith(here)):
            raise InvalidArgumentError(f"one of the paths {str(self)!r} and {str(target)!r} is below the other")
