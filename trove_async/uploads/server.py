"""A server of resumable uploads, independent of HTTP servers and frameworks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, TypedDict

from trove_async.errors import InvalidArgumentError, TroveError, UnavailableError
from trove_async.store import Trove
from trove_async.uploads.arguments import check_bytes, check_seconds, check_server, check_types
from trove_async.uploads.datastore import DataStore, LocatedDataStore, LockerDataStore, SweeperDataStore
from trove_async.uploads.exchange import Interim
from trove_async.uploads.forwarding import TrustedProxies
from trove_async.uploads.handler import HOOK_TIMEOUT, PROGRESS_SECONDS, UploadHandler
from trove_async.uploads.hooks import Hooks
from trove_async.uploads.lockers.base import Locker
from trove_async.uploads.lockers.datastore import DataStoreLocker
from trove_async.uploads.lockers.memory import MemoryLocker
from trove_async.uploads.protocol.choosing import choose
from trove_async.uploads.protocol.messages import INLINE_TYPES, Request, Settings
from trove_async.uploads.receiving import IDLE_TIMEOUT, RequestBody
from trove_async.uploads.store.data_store import EXPIRES, MEMORY, TroveDataStore
from trove_async.uploads.sweeper import SWEEP_EVERY, Sweeper
from trove_async.values import is_number
from trove_async.web.cors import CORS
from trove_async.web.http import Headers
from trove_async.web.objects import Answer

if TYPE_CHECKING:
    from trove_async.database import Database

__all__ = ["Arrival", "TusOptions", "UploadServer"]

_EVERY_PAGE: Final = CORS(("*",))
_OF_PROXIES: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"})
_METHODS: Final = ("POST", "PATCH", "HEAD", "GET", "PUT", "DELETE", "OPTIONS")


class TusOptions(TypedDict, total=False):
    """Options of a server of resumable uploads.

    Attributes:
        bucket: where finished uploads are put; with a store.
        state: ``BUCKET/PREFIX`` for what the server keeps of unfinished uploads; default:
            ``.trove-uploads/`` in ``bucket``.
        locker: of the uploads; it is not closed. Default: a `PostgresLocker` with ``database``, the locks of a
            `LockerDataStore`, or a `MemoryLocker`, which refuses to work for a second process.
        database: of a `PostgresLocker`: a URL, or a database that is connected, which is not closed.
        hooks: what the application decides.
        max_size: bytes of an upload; default: no limit.
        chunk_size: bytes of the largest body that clients are told to send, such as the limit of a proxy; default:
            none.
        expires: seconds after which an upload that is not continued is removed; None for never. Default: 7 days. With a
            `DataStore`, which removes uploads by itself, it is only announced; default: None.
        part_size: bytes of the parts of an upload, in stores whose parts cannot grow; default: 8 MiB, and more for
            large uploads.
        memory: bytes that all uploads together may buffer; those that need more wait. Default: 64 MiB.
        cors: pages whose scripts may upload; default: all. None for those of the app's own origin.
        download: whether finished uploads can be read; default: True.
        inline_types: media types that browsers may show; others are saved as files. Default:
            `INLINE_TYPES`.
        trusted_proxies: networks whose ``Forwarded`` and ``X-Forwarded-*`` headers are believed, such as
            ``("10.0.0.0/8",)``, or ``"unix"`` for Unix sockets; default: none.
        absolute_location: whether ``Location`` has scheme and host; default: a path, which is right behind any proxy
            that keeps paths.
        idle_timeout: seconds without a byte after which a request ends, with what has arrived; default: 60. None for
            no limit.
        hook_timeout: seconds that a hook may take; default: 30.
        progress_seconds: seconds between two calls of `Hooks.on_progress` for a body, at least; default: 1.
        sweep_every: seconds between two sweeps, which remove what has expired; of several servers one sweeps. Default:
            3600. None for never.
        sweep_orphans: whether a sweep also aborts multipart uploads of the bucket that are 7 days old and belong to no
            upload of this server, whoever has begun them; default: True.
    """

    bucket: str | None
    state: str | None
    locker: Locker | None
    database: Database | str | None
    hooks: Hooks | None
    max_size: int | None
    chunk_size: int | None
    expires: float | None
    part_size: int | None
    memory: int
    cors: CORS | None
    download: bool
    inline_types: Iterable[str]
    trusted_proxies: Iterable[str]
    absolute_location: bool
    idle_timeout: float | None
    hook_timeout: float
    progress_seconds: float
    sweep_every: float | None
    sweep_orphans: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request, as an HTTP server delivers it.

    Attributes:
        method: in upper case.
        headers: by `trove_async.web.http.join_headers`.
        root: the path of the app on this server, decoded and without a slash at its end.
        path: below it, decoded.
        peer: the address that has sent the request; None for a Unix socket.
        scheme: of the connection.
        http1: whether the connection is one of HTTP/1.
        trailers: whether the server delivers trailers.
        native: the server's request, for hooks.
    """

    method: str
    headers: Headers
    root: str
    path: str
    peer: str | None
    scheme: str
    http1: bool
    trailers: bool
    native: Any

    @property
    def is_forwarded(self) -> bool:
        """Whether the request comes from a proxy, as far as its headers say; ``Connection: close`` is what nginx sends.

        Proxies must forward interim answers (RFC 9110, section 15.2), but nginx takes a 104 for the final answer, and
        the final answer for bytes that follow it: https://github.com/nginx/nginx/issues/1427.
        """
        return self.headers.get("connection", "").lower() == "close" or not _OF_PROXIES.isdisjoint(self.headers)

    @property
    def upload_id(self) -> str | None:
        """The upload that the request is for; None if it is for the collection."""
        return self.path.strip("/") or None

    def precedes_end(self, body: RequestBody) -> bool:
        """Whether the answer comes before the end of the body: some of it was refused.

        According to the headers there may be a body (RFC 9112, section 6; a body of HTTP/2 needs no header).
        """
        if body.ended == "complete":
            return False
        length = self.headers.get("content-length")
        if length is not None:
            return length != "0"
        return "transfer-encoding" in self.headers or (not self.http1 and self.method in ("POST", "PUT", "PATCH"))


class UploadServer:
    """Answers the requests for uploads of one data store; `TusApp` and `tus_application` are adapters of it.

    Args:
        store: an open store, or a data store; it is not closed.
        options: see `TusOptions`.

    Raises:
        InvalidArgumentError: an option is invalid.
        UnsupportedError: the store has no multipart uploads.

    Attributes:
        idle_timeout: for the bodies of requests.
    """

    def __init__(
        self,
        store: Trove | DataStore,
        *,
        bucket: str | None = None,
        state: str | None = None,
        locker: Locker | None = None,
        database: Database | str | None = None,
        hooks: Hooks | None = None,
        max_size: int | None = None,
        chunk_size: int | None = None,
        expires: float | EllipsisType | None = ...,
        part_size: int | None = None,
        memory: int = MEMORY,
        cors: CORS | None = _EVERY_PAGE,
        download: bool = True,
        inline_types: Iterable[str] = INLINE_TYPES,
        trusted_proxies: Iterable[str] = (),
        absolute_location: bool = False,
        idle_timeout: float | None = IDLE_TIMEOUT,
        hook_timeout: float = HOOK_TIMEOUT,
        progress_seconds: float = PROGRESS_SECONDS,
        sweep_every: float | None = SWEEP_EVERY,
        sweep_orphans: bool = True,
    ) -> None:
        check_server(store, locker, database, hooks, cors)
        for name, size in (("max_size", max_size), ("chunk_size", chunk_size)):
            check_bytes(name, size)
        check_seconds("idle_timeout", idle_timeout)
        check_seconds("hook_timeout", hook_timeout, optional=False)
        check_seconds("sweep_every", sweep_every)
        if not is_number(progress_seconds) or not progress_seconds >= 0:
            raise InvalidArgumentError(f"progress_seconds is a number of seconds, not {progress_seconds!r}")
        if isinstance(expires, EllipsisType):
            expires = EXPIRES if isinstance(store, Trove) else None
        check_seconds("expires", expires)
        self.idle_timeout = idle_timeout
        self._cors = cors
        self._proxies = TrustedProxies(trusted_proxies)
        self._owned = locker is None
        self._locker = _locker_for(store, database) if locker is None else locker
        if isinstance(store, Trove):
            self._data_store: DataStore = TroveDataStore(
                store,
                store.bucket(bucket).name,
                state=state,
                part_size=part_size,
                memory=memory,
                expires=expires,
                max_size=max_size,
                shared=not isinstance(self._locker, MemoryLocker),
            )
        elif bucket is None and state is None and part_size is None:
            self._data_store = store
        else:
            raise InvalidArgumentError("bucket, state and part_size are for a store; this is a data store")
        self._handler = UploadHandler(
            self._data_store,
            locker=self._locker,
            hooks=hooks,
            settings=Settings(
                max_size=max_size,
                chunk_size=chunk_size,
                expires=expires,
                downloads=download,
                inline_types=check_types(inline_types),
                absolute=absolute_location,
            ),
            hook_timeout=hook_timeout,
            progress_seconds=progress_seconds,
        )
        self._sweeper = None
        if sweep_every is not None and isinstance(self._data_store, SweeperDataStore):
            self._sweeper = Sweeper(self._data_store, sweep_every, orphans=sweep_orphans)
        self._starting = asyncio.Lock()
        self._started = False
        self._closed = False

    async def start(self) -> None:
        """Look at the store, claim the uploads for this process if no other can see its locks, and begin to sweep.

        The first request does so at the latest.

        Raises:
            InvalidArgumentError: another process serves the same uploads with a `MemoryLocker`.
            BucketNotFoundError: the bucket of the uploads, or of their state, does not exist.
            AccessDeniedError: nothing may be written there.
            TroveError: the store cannot be reached.
        """
        async with self._starting:
            if not self._started:
                if isinstance(self._data_store, LocatedDataStore):
                    place = await self._data_store.place()
                    if isinstance(self._locker, MemoryLocker):
                        self._locker.claim(place)
                if self._sweeper is not None and not self._closed:
                    self._sweeper.start()
                self._started = True

    async def aclose(self) -> None:
        """Stop the requests that write, wait until what they have received is durable, and release the locks."""
        self._closed = True
        try:
            if self._sweeper is not None:
                await self._sweeper.aclose()
            await self._handler.close()
        finally:
            if self._owned:
                await self._locker.aclose()

    async def answer(self, arrival: Arrival, body: RequestBody, inform: Interim | None) -> Answer:
        """Answer a request; errors are answers too.

        If the answer `precedes <Arrival.precedes_end>` the end of the body, the adapter sends it, calls
        `RequestBody.drain`, and then closes the connection.
        """
        headers = arrival.headers
        if self._cors is not None and arrival.method == "OPTIONS" and "access-control-request-method" in headers:
            return self._cors.preflight(headers, _METHODS)
        if not self._started:
            try:
                await self.start()
            except TroveError as error:  # a fault of the server, by which no upload is lost
                unavailable = UnavailableError(f"uploads cannot be served: {error}")
                unavailable.__cause__ = error
                return self.refuse(arrival, body, unavailable)
        if arrival.is_forwarded:
            inform = None
        return self._ready(arrival, body, await self._handler.answer(self._request(arrival), body, inform))

    def refuse(self, arrival: Arrival, body: RequestBody, error: TroveError) -> Answer:
        """Answer a request with an error, as its protocol names it."""
        return self._ready(arrival, body, choose(self._request(arrival), self._handler.settings).failed(error))

    def _request(self, arrival: Arrival) -> Request:
        url = self._proxies.public_url(arrival.peer, arrival.scheme, arrival.headers, arrival.root)
        return Request(
            method=arrival.method,
            headers=arrival.headers,
            upload_id=arrival.upload_id,
            base=url.path,
            origin=url.origin,
            trailers=arrival.trailers,
            native=arrival.native,
        )

    def _ready(self, arrival: Arrival, body: RequestBody, answer: Answer) -> Answer:
        if self._cors is not None:
            answer = self._cors.allow(answer, arrival.headers, (name for name, _ in answer.headers))
        if arrival.http1 and arrival.precedes_end(body):
            answer = replace(answer, headers=[*answer.headers, ("Connection", "close")])
        return answer


def _locker_for(store: Trove | DataStore, database: Database | str | None) -> Locker:
    if database is not None:
        from trove_async.uploads.lockers.postgres import PostgresLocker

        return PostgresLocker(database)
    return DataStoreLocker(store) if isinstance(store, LockerDataStore) else MemoryLocker()
