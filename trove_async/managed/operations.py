"""What `ManagedStorage` does with a name, whomever it belongs to."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from trove_async.body import BodyLike
from trove_async.checksums import Checksum
from trove_async.errors import (
    BucketNotFoundError,
    InvalidArgumentError,
    NotFoundError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    RequestExpiredError,
    ResourceDeletedError,
    ResponseMismatchError,
    TroveError,
    UploadPendingError,
)
from trove_async.keys import check_content_type, check_metadata, check_prefix, content_type_of
from trove_async.managed import links, requests
from trove_async.managed.catalogue import ResourceCatalog, check_sha384
from trove_async.managed.links import Link, Linked
from trove_async.managed.names import check_caller, check_path, locate
from trove_async.managed.proof import prove
from trove_async.managed.requests import Answer, Challenge
from trove_async.managed.resources import ManagedInfo, ManagedResource, PutResponse, RequestResponse
from trove_async.managed.storage import ResourceStorage
from trove_async.managed.writing import Writing
from trove_async.opening import Opening
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader
from trove_async.store.arguments import check_page_size
from trove_async.types import FrozenDict, ObjectInfo
from trove_async.values import check_text, is_whole

__all__ = ["Operations"]

_REMEMBERED: Final = 1000
"""Requests whose ranges need not be read from the database again, since this process has made them."""


class Operations:
    """The operations on names, of which `ManagedStorage` has a method for each kind of owner.

    Args:
        catalogue: has the names.
        storage: has the bytes.
    """

    def __init__(self, catalogue: ResourceCatalog, storage: ResourceStorage) -> None:
        self._database = catalogue.database
        self._space = catalogue.space
        self._storage = storage
        self._writing = Writing(catalogue, storage)
        self._challenges: dict[str, Challenge] = {}

    def get(self, resource: ManagedResource, range: RangeLike | None) -> Opening[ObjectReader]:
        """Open the content of a name."""

        async def opening() -> ObjectReader:
            with _locating("get", resource):
                return await self._open(resource, range)

        return Opening(opening)

    async def _open(self, resource: ManagedResource, range: RangeLike | None) -> ObjectReader:
        found = await self._find(resource)
        while True:
            reader = await self._open_bytes(found, range)
            if reader is not None:
                return reader
            before, found = found, await self._find(resource)
            if found.key == before.key:
                raise ResourceDeletedError(
                    "the bytes of the content are missing or incomplete in the store, or wrong; "
                    "`fsck` finds all such content"
                )

    async def _open_bytes(self, found: Linked, range: RangeLike | None) -> ObjectReader | None:
        """Open bytes; return None if they are missing, incomplete, or known to be wrong."""
        if not found.key:
            return None
        try:
            reader = await self._storage.get(found.key, range=range)
        except BucketNotFoundError:
            raise
        except NotFoundError:
            return None
        if reader.info.size != found.info.length:
            await reader.aclose()
            return None
        reader.info = _object_info(found.info)
        return reader

    async def _find(self, resource: ManagedResource) -> Linked:
        check_path(resource)
        found = await self._database.read(lambda connection: links.find(connection, self._space, resource))
        if found is None:
            raise ObjectNotFoundError("there is nothing at this path")
        return found

    async def stat(self, resource: ManagedResource) -> ManagedInfo:
        """Describe a name."""
        with _locating("stat", resource):
            return (await self._find(resource)).info

    def list(self, owner: ManagedResource, prefix: str, start_after: str, page_size: int) -> AsyncIterator[ManagedInfo]:
        """List the names of an owner."""
        with _locating("list", owner):
            check_prefix(prefix)
            check_prefix(start_after)
            check_page_size(page_size)
        return self._pages(owner, prefix, start_after, page_size)

    async def _pages(
        self, owner: ManagedResource, prefix: str, after: str, page_size: int
    ) -> AsyncIterator[ManagedInfo]:
        reading = partial(
            links.listed,
            space=self._space,
            bucket=owner.bucket,
            user=owner.user,
            prefix=prefix,
            limit=page_size,
        )
        while True:
            page = await self._database.read(partial(reading, after=after))
            for info in page:
                yield info
            if len(page) < page_size:
                return
            after = page[-1].resource.path

    async def put(
        self,
        resource: ManagedResource,
        data: BodyLike,
        length: int | None,
        sha384: str | None,
        content_type: str | None,
        metadata: Mapping[str, str] | None,
    ) -> ManagedInfo:
        """Store content and give it a name."""
        with _locating("put", resource):
            one = _link(resource, content_type, metadata)
            checksum = Checksum("sha384", check_sha384(sha384) if sha384 else None)
            blob = await self._writing.put(one, data, _length(length), checksum)
        return ManagedInfo(resource, blob.length, blob.digest, one.content_type, one.metadata)

    async def remove(self, resource: ManagedResource) -> None:
        """Remove a name."""
        with _locating("remove", resource):
            check_path(resource)
            blob = await self._database.write(lambda connection: links.unlink(connection, self._space, resource))
            if blob is None:
                raise ObjectNotFoundError("there is nothing at this path")

    async def request(
        self,
        resource: ManagedResource,
        sha384: str,
        caller: str,
        content_type: str | None,
        metadata: Mapping[str, str] | None,
    ) -> RequestResponse:
        """Make a request for a proof of access."""
        with _locating("put_request", resource):
            one = _link(resource, content_type, metadata)
            digest = check_sha384(sha384)
            check_caller(caller)
            challenge = await self._database.write(
                lambda connection: requests.make(connection, self._space, caller, one, digest)
            )
        self._challenges[challenge.request.request_id] = challenge
        if len(self._challenges) > _REMEMBERED:
            del self._challenges[next(iter(self._challenges))]
        return challenge.request

    async def respond(self, response: PutResponse, caller: str) -> None:
        """Take the answer to a request."""
        if not isinstance(response, PutResponse):
            raise InvalidArgumentError(f"an answer is a PutResponse, not of type {type(response).__name__}")
        check_text("the id of a request", response.request_id)
        if not isinstance(response.proof, str):
            raise InvalidArgumentError(f"a proof is a str, not of type {type(response.proof).__name__}")
        check_caller(caller)
        challenge = self._challenges.get(response.request_id) or await self._challenge(response.request_id)
        with _locating("put_response", challenge.link.resource):
            await self._answer(challenge, response, caller)

    async def _challenge(self, request_id: str) -> Challenge:
        found = await self._database.read(lambda connection: requests.find(connection, self._space, request_id))
        if found is None:
            raise RequestExpiredError(operation="put_response")
        return found

    async def _answer(self, challenge: Challenge, response: PutResponse, caller: str) -> None:
        if challenge.caller != caller:  # a stranger costs the store nothing
            raise ResponseMismatchError
        is_right = await self._is_right(challenge, response.proof)
        if is_right is None:  # the bytes may be elsewhere since the request was made
            challenge = await self._challenge(response.request_id)
            is_right = await self._is_right(challenge, response.proof)
        answer = await self._database.write(
            lambda connection: requests.accept(connection, self._space, challenge, caller, is_right=is_right)
        )
        if answer in (Answer.ACCEPTED, Answer.EXPIRED, Answer.DELETED):
            self._challenges.pop(response.request_id, None)
        if (error := _ERRORS.get(answer)) is not None:
            raise error

    async def _is_right(self, challenge: Challenge, proof: str) -> bool | None:
        """Tell whether a proof is right; None if the bytes that it is compared with are gone or incomplete."""
        request, blob = challenge.request, challenge.blob
        if blob is None:
            return None
        try:
            chunks = await self._storage.read_ranges(blob.key, request.ranges)
        except BucketNotFoundError:
            raise
        except (NotFoundError, RangeNotSatisfiableError):
            return None
        expected = prove(request.request_id, request.nonce, request.ranges, chunks)
        if not hmac.compare_digest(expected.encode(), proof.encode(errors="surrogatepass")):
            return False
        return True if await self._writing.is_there(blob) else None


_ERRORS: Final[Mapping[Answer, type[TroveError]]] = {
    Answer.WRONG: ResponseMismatchError,
    Answer.EXPIRED: RequestExpiredError,
    Answer.DELETED: ResourceDeletedError,
    Answer.PENDING: UploadPendingError,
}


@contextmanager
def _locating(operation: str, resource: ManagedResource) -> Iterator[None]:
    """Let errors name what the caller asked for, and not the key of bytes."""
    try:
        yield
    except BucketNotFoundError:
        raise
    except TroveError as error:
        locate(error, operation, resource)
        raise


def _link(resource: ManagedResource, content_type: str | None, metadata: Mapping[str, str] | None) -> Link:
    check_path(resource)
    if content_type is not None:
        check_content_type(content_type)
    return Link(resource, content_type or content_type_of(resource.path), check_metadata(metadata))


def _length(length: int | None) -> int | None:
    """Return a declared length; None if it is unknown, which a negative number says too."""
    if length is None:
        return None
    if not is_whole(length):
        raise InvalidArgumentError(f"a length is a whole number, not {length!r}")
    return None if length < 0 else length


def _object_info(info: ManagedInfo) -> ObjectInfo:
    return ObjectInfo(
        key=info.resource.path,
        size=info.length,
        etag=info.sha384,
        last_modified=info.created_at,
        content_type=info.content_type,
        metadata=info.metadata,
        checksums=FrozenDict({"sha384": info.sha384}),
    )
