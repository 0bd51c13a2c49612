"""`ObjectReads`: how an object is read over HTTP, whatever the service.

Ask, check that the answer is what was asked for, describe the object, hand out a reader that resumes. A service brings
how it asks and how its headers describe an object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from trove_async.driver import GetOptions, HeadOptions, check_read
from trove_async.driver.put_settling import Find, Settling, find_for
from trove_async.driver.retry import Retries, many_requests
from trove_async.errors import BackendError, PreconditionFailedError
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader, Verifier
from trove_async.types import ObjectInfo
from trove_async.wire.fields import content_range, etag_of, required
from trove_async.wire.stream import ResponseStream
from trove_async.wire.transport import Response

__all__ = ["ObjectReads", "placement"]


class ObjectReads(ABC):
    """Reads objects of one service.

    Attributes:
        service: its name, for errors.
        retries: of the store; a body that breaks off is resumed by them.
        parallel: how many ranges of an object may be read at once; see `ObjectReader`.
        read_tags: reads the tags of an object; None if objects have none.
    """

    service: ClassVar[str]
    retries: Retries
    parallel: int
    read_tags: Callable[[str, str], Awaitable[Mapping[str, str]]] | None = None

    @abstractmethod
    async def ask(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None
    ) -> tuple[Response, ObjectInfo | None]:
        """Send the request for an object.

        Args:
            bucket, key, options: of the get.
            wanted: the range, in place of that of the options.

        Returns:
            The answer, whose status is a success; and the object, if the headers of the answer do not describe it.
        """

    @abstractmethod
    def described(self, key: str, size: int, response: Response) -> ObjectInfo:
        """Return the object that the headers of an answer describe."""

    @abstractmethod
    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""

    def settling(
        self,
        bucket: str,
        key: str,
        tags: Mapping[str, str],
        find: Find,
        if_match: str | None,
        if_none_match: str | None,
    ) -> Settling | None:
        """Return what settles a put whose answer is lost; None if its condition makes that superfluous.

        Args:
            bucket, key, tags: of the put.
            find: as in `Settling`; it need not compare tags.
            if_match, if_none_match: the conditions that are sent.
        """

        async def find_tagged() -> ObjectInfo | None:
            found = await find()
            if found is None or self.read_tags is None:
                return found
            return found if await self.read_tags(bucket, key) == tags else None

        settles = find_for(if_match, if_none_match, find_tagged)
        return None if settles is None else Settling(settles)

    def pinned(self, options: GetOptions, info: ObjectInfo) -> GetOptions:
        """Return the options that read on from the object that was opened, and from no other."""
        version_id = options.version_id if info.version_id is None else info.version_id
        return replace(options, if_match=info.etag, if_none_match=None, if_modified_since=None, version_id=version_id)

    def verifier(self, key: str, response: Response) -> Verifier | None:
        """Return what compares the bytes of a whole object with the service's checksum; None for nothing."""
        return None

    async def size_of(self, bucket: str, key: str, response: Response) -> int:
        """Return the size of the object that an answer brings without a length, as some proxies send it."""
        etag = response.headers.get("etag")
        return (await self.head(bucket, key, HeadOptions(if_match=None if etag is None else etag_of(etag)))).size

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        wanted = options.range
        response, known = await self.ask(bucket, key, options, wanted)
        try:
            content = response.content
            length = response.length if content is None else len(content)
            if length is None and response.status == 200:
                length = await self.size_of(bucket, key, response) if known is None else known.size
            start, stop, size = placement(response, length, wanted, self.service)
            info = known or self.described(key, size, response)
            if info.size != size:
                raise BackendError(
                    f"the object has {info.size} bytes, and the answer is about {size}: "
                    "something between here and the service changes what is stored"
                )
            check_read(info, options)
            whole = start == 0 and stop == size
            verifier = self.verifier(key, response) if whole else None
            if content is not None and (whole or response.status == 206):
                if verifier is not None:
                    verifier.update(content)
                    verifier.finish()
                return ObjectReader(info, content, start=start, stop=stop)
            if response.status != 206:
                await _skip(response, start)
        except BaseException:
            response.abort()
            raise

        async def reopen(offset: int) -> Response:
            with many_requests():
                return await self._resume(bucket, info, self.pinned(options, info), ByteRange(offset, stop - offset))

        ends = whole or response.status == 206
        return ObjectReader(
            info,
            ResponseStream(response, start, stop, ends=ends, reopen=reopen),
            start=start,
            stop=stop,
            resumption=self.retries.of_step,
            verifier=verifier,
            parallel=self.parallel if ends else 1,
        )

    async def _resume(self, bucket: str, info: ObjectInfo, options: GetOptions, wanted: ByteRange) -> Response:
        """Ask for the same object from an offset on: not every server honours both the range and the condition."""
        response, known = await self.ask(bucket, info.key, options, wanted)
        try:
            length = response.length if response.content is None else len(response.content)
            start, _, size = placement(response, length, wanted, self.service)
            found = known or self.described(info.key, size, response)
            if found.etag != info.etag or size != info.size:
                raise PreconditionFailedError("the object was replaced meanwhile", status=response.status)
            if response.status != 206:
                await _skip(response, start)
        except BaseException:
            response.abort()
            raise
        return response


def placement(response: Response, length: int | None, wanted: ByteRange | None, service: str) -> tuple[int, int, int]:
    """Return where in the object the wanted bytes begin and end, and the size of the object.

    The body of a 206 holds exactly these bytes; that of a 200 holds the whole object, as a server sends it that knows
    no ranges (RFC 9110, section 14.2).

    Args:
        response: the answer.
        length: of its body; None if it is not known before the end.
        wanted: the range that was asked for; None for the whole object.
        service: for errors.

    Raises:
        RangeNotSatisfiableError: the range starts at or past the end of the object.
        BackendError: the answer is not one to the request: its status, range, size and length do not fit together.
    """
    headers = response.headers
    if response.status == 200:
        if "content-range" in headers:
            raise BackendError(
                f"the answer has status 200 and the range {headers['content-range'][:80]!r}: it is a part or the whole",
                status=200,
            )
        if length is None:
            raise BackendError("the answer does not say how long the object is", status=200)
        return (0, length, length) if wanted is None else (*wanted.resolve(length), length)
    if response.status != 206:
        raise BackendError(f"the answer to a read has status {response.status}", status=response.status)
    start, stop, size = content_range(required(headers, "content-range", service))
    if wanted is None:
        raise BackendError(f"the whole object was asked for, the answer is its bytes {start} to {stop}", status=206)
    expected = wanted.resolve(size)
    if (start, stop) != expected:
        raise BackendError(
            f"the answer is the bytes {start} to {stop} of {size}; {expected[0]} to {expected[1]} were asked for",
            status=206,
        )
    if length is not None and length != stop - start:
        raise BackendError(f"the answer has {length} bytes; its range declares {stop - start}", status=206)
    return start, stop, size


async def _skip(response: Response, count: int) -> None:
    """Read past bytes that were not asked for, from a server that answers a range with the whole object."""
    while count:
        chunk = await response.read(count)
        if not chunk:
            raise BackendError("the server sent fewer bytes than the object has")
        count -= len(chunk)
