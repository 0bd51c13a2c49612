"""`Client`: uploads that go on after every interruption, to any server of tus 1.0 or Resumable Uploads for HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, get_args

from trove_async.body import BodyLike
from trove_async.body import Progress as OnProgress
from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.checksums import ALGORITHMS
from trove_async.driver.retry import THROTTLED, Backoff, Budget, RetryPolicy
from trove_async.errors import (
    AccessDeniedError,
    BodySourceError,
    ClosedError,
    ContentTooLargeError,
    InvalidArgumentError,
    TroveError,
)
from trove_async.keys import content_type_of
from trove_async.types import EMPTY
from trove_async.uploads.client.arguments import check_client, check_upload, check_url
from trove_async.uploads.client.channel import Channel, HeaderSource, Reply, tried
from trove_async.uploads.client.contents import Content, open_content
from trove_async.uploads.client.dialects import VERSION_PAIR, Creation, Dialect, IETFDialect, Offer, TusDialect
from trove_async.uploads.client.fingerprints import Claim, Fingerprints, Urls, default_folder
from trove_async.uploads.client.parallel import ParallelSending
from trove_async.uploads.client.places import Places
from trove_async.uploads.client.progress import Progress
from trove_async.uploads.client.remote import ProtocolName, RemoteUpload
from trove_async.uploads.client.removing import abandon, terminate
from trove_async.uploads.client.sending import Sending, Terms
from trove_async.wire.network import Network, ca_file_of_environment, proxies_of
from trove_async.wire.transport import Transport

__all__ = ["Client"]

_TRANSPORT: Final = Backoff(first=0.5, longest=30.0)
_ATTEMPTS: Final = 12
_SMALLEST_PART: Final = 256 * 1024

_log = logging.getLogger("trove_async.uploads")


def _policy() -> RetryPolicy:
    """Return the default: about two minutes without a byte, in which a server can restart.

    No budget limits it: each upload makes one attempt at a time.
    """
    return RetryPolicy(attempts=_ATTEMPTS, transport=_TRANSPORT, throttled=THROTTLED, budget=Budget(math.inf))


class Client:
    """Uploads to one URL; use it in ``async with``, in one event loop. It serves any number of tasks.

    Args:
        url: where uploads are created. A user and a password in it are sent as ``Authorization``.
        headers: sent with every request to the URL's origin, and to no other; or an async function that returns them,
            which is called for every request, and once more after 401.
        protocol: ``tus``, ``ietf``, or ``auto`` to ask the server.
        chunk_size: bytes of a request at most; None to send all that is left in one request. Limits that the server
            announces, and answers of 413, make requests smaller by themselves.
        parallel: parts of an upload that are sent at the same time, if the server can join them (tus), and if the
            source can be read at several places.
        retries: how often what failed is tried again, and when; None for 12 attempts in about two minutes. The count
            begins anew whenever the server has taken bytes.
        fingerprints: the folder for what another process needs to continue uploads of files; True for
            ``trove/uploads`` in ``XDG_STATE_HOME`` (``~/.local/state``), None to keep nothing.
        allow_origins: further origins at which the server may place uploads, and to which it may redirect. ``headers``
            are not sent to them.
        connections: the maximum of open connections.
        connect_timeout: seconds for a new connection.
        idle_timeout: seconds without progress, after which a request fails.
        proxy: ``http://[user:password@]host[:port]``; ``none`` for none; None for what the environment says.
        ca_file: a PEM file of authorities to trust instead of the system's; None for what the environment says.
        verify: False accepts any certificate.
        user_agent: put before the name of this library in ``User-Agent``.

    Raises:
        InvalidArgumentError: one of them is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: HeaderSource | None = None,
        protocol: ProtocolName | Literal["auto"] = "auto",
        chunk_size: int | None = None,
        parallel: int = 1,
        retries: RetryPolicy | None = None,
        fingerprints: str | os.PathLike[str] | Literal[True] | None = True,
        allow_origins: Iterable[str] = (),
        connections: int = 100,
        connect_timeout: float = 10,
        idle_timeout: float = 60,
        proxy: str | None = None,
        ca_file: str | None = None,
        verify: bool = True,
        user_agent: str | None = None,
    ) -> None:
        if protocol not in ("auto", *get_args(ProtocolName)):
            raise InvalidArgumentError(f"the protocol is 'tus', 'ietf' or 'auto', not {protocol!r}")
        check_client(
            headers=headers,
            chunk_size=chunk_size,
            parallel=parallel,
            retries=retries,
            fingerprints=fingerprints,
            allow_origins=allow_origins,
            connections=connections,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            texts={"proxy": proxy, "ca_file": ca_file, "user_agent": user_agent},
        )
        self._places = Places(url, allow_origins)
        self._headers: HeaderSource = {} if headers is None else headers
        self._protocol = protocol
        self._chunk_size = chunk_size
        self._parallel = parallel
        self._policy = _policy() if retries is None else retries
        self._is_folder_chosen = fingerprints is not True
        folder = default_folder() if fingerprints is True else fingerprints
        self._fingerprints = None if folder is None else Fingerprints(Path(folder))
        self._network = Network(
            connections=connections,
            pool_timeout=60,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            attempts=self._policy.attempts,
            retry_budget=0,
            proxies=proxies_of(proxy),
            ca_file=ca_file_of_environment() if ca_file is None and verify else ca_file,
            verify=verify,
            tls_strict=True,
            user_agent=user_agent,
        )
        self._transport: Transport | None = None
        self._offer: tuple[Dialect, Offer] | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._transport = await self._network.transport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; what uses them gets a `ClosedError`. It may be called again."""
        if self._transport is not None:
            await self._transport.aclose()

    async def upload(
        self,
        source: BodyLike,
        *,
        metadata: Mapping[str, str | bytes] | None = None,
        filename: str | None = None,
        content_type: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> RemoteUpload:
        """Upload a source, and return what the server made of it.

        A failure that may pass is waited for; then the server is asked how much it has, and gets what it lacks. If the
        call is cancelled, or raises such a failure in the end, the upload stays on the server, and the next call for
        the same file continues it, in this process or another one. A file that was changed is uploaded anew.

        Args:
            source: a path, a binary file, bytes, or an (async) iterable of them. What can be read only once is kept in
                memory until the server has it, up to ``chunk_size``, by default 8 MiB; it cannot be continued by
                another process, nor if the server loses more than that.
            metadata: names and values, for servers of tus.
            filename: default: that of the path; empty to send none.
            content_type: default: by the extension of the filename, if it is known.
            size: bytes of a source that does not know them.
            checksum: algorithm, such as ``sha256``, with which the server compares each request.
            on_progress: called with the bytes that were sent and the size (None while it is unknown), about ten times a
                second. The number only decreases if the server loses bytes.

        Raises:
            BodyTypeError, BodySizeError, BodySourceError, OSError: of the source; it was changed while it was read.
            UnsupportedError: the server does not compare this checksum, or needs the size.
            ContentTooLargeError: the upload is larger than the server accepts; if it announces that, nothing was sent.
            UploadRejectedError, AccessDeniedError: the server refuses it.
            TransientError: the attempts were used up.
            BackendError: the server answers what the protocol does not know.
            ClosedError: the client was closed, or not entered.
        """
        if checksum is not None and checksum not in ALGORITHMS:
            raise InvalidArgumentError(f"the checksum is one of {', '.join(sorted(ALGORITHMS))}, not {checksum!r}")
        described = check_upload(filename, content_type, size, metadata, on_progress)
        transport = self._open_transport()
        name = os.path.basename(os.fspath(source)) if filename is None and isinstance(source, os.PathLike) else filename
        if content_type is None and name and os.path.splitext(name)[1]:
            content_type = content_type_of(name)
        try:
            content = await open_content(source, size)
            try:
                dialect, offer = await self._discover(transport)
                terms = self._terms(transport, dialect, offer, checksum)
                if content.size is None:
                    await content.piece(0, terms.limit)  # it may end within its first request
                creation = Creation(
                    size=content.size,
                    metadata=described,
                    filename=name or None,
                    content_type=content_type,
                )
                dialect.check(creation, checksum)
                if content.size is not None and offer.max_size is not None and content.size > offer.max_size:
                    raise ContentTooLargeError(
                        f"the upload has {content.size} bytes, and the server accepts {offer.max_size}"
                    )
                return await self._upload(terms, content, creation, on_progress)
            finally:
                await finish(content.aclose(), timeout=CLEANUP_TIMEOUT, leftover="the source of an upload")
        except TroveError as error:
            error.locate("upload")
            raise

    async def info(self, url: str) -> RemoteUpload:
        """Return what the server has of an upload.

        Args:
            url: of the upload, absolute or relative to the client's.

        Raises:
            UploadNotFoundError: it is gone.
            TroveError: as `upload`.
        """
        check_url(self._places, url)
        transport = self._open_transport()
        dialect, offer = await self._discover(transport)
        terms = self._terms(transport, dialect, offer, None)
        place = self._places.find(self._places.endpoint, url)

        async def ask() -> Reply:
            reply = await terms.channel.exchange("HEAD", place, dialect.plain())
            reply.check()
            return reply

        state = dialect.read(await tried(self._policy, ask))
        offset = state.offset or 0
        return RemoteUpload(
            url=str(place),
            offset=offset,
            size=state.size,
            is_finished=offset == state.size if state.is_complete is None else state.is_complete,
            metadata=state.metadata,
            expires_at=state.expires_at,
        )

    async def terminate(self, url: str) -> None:
        """Remove an upload from the server; one that is gone is no error.

        Args:
            url: of the upload, absolute or relative to the client's.

        Raises:
            UnsupportedError: the server removes no uploads.
            TroveError: as `upload`.
        """
        check_url(self._places, url)
        transport = self._open_transport()
        dialect, offer = await self._discover(transport)
        await terminate(self._terms(transport, dialect, offer, None), url)

    def _open_transport(self) -> Transport:
        if self._transport is None:
            raise ClosedError("the client is not open: use it in 'async with'")
        return self._transport

    def _terms(self, transport: Transport, dialect: Dialect, offer: Offer, checksum: str | None) -> Terms:
        limits = [limit for limit in (self._chunk_size, offer.max_append) if limit]
        return Terms(
            channel=Channel(transport, self._places, self._headers),
            dialect=dialect,
            policy=self._policy,
            limit=min(limits, default=None),
            checksum=checksum,
        )

    async def _discover(self, transport: Transport) -> tuple[Dialect, Offer]:
        """Return the protocol and what the server announces; it is asked once."""
        async with self._asking:
            if self._offer is None:
                channel = Channel(transport, self._places, self._headers)
                headers = await tried(self._policy, lambda: self._options(channel))
                offer = Offer.of(headers)
                is_tus = self._protocol == "tus" or (self._protocol == "auto" and "tus-version" in headers)
                self._offer = (TusDialect(offer) if is_tus else IETFDialect(offer)), offer
            return self._offer

    async def _options(self, channel: Channel) -> Mapping[str, str]:
        """Return the headers with which the server announces what it offers; none if it does not answer OPTIONS."""
        reply = await channel.exchange("OPTIONS", channel.places.endpoint, [VERSION_PAIR])
        try:
            reply.check()
        except TroveError as error:
            # The creation will tell what is wrong, but not in a protocol that was only guessed.
            if error.retryable or (self._protocol == "auto" and isinstance(error, AccessDeniedError)):
                raise
            return EMPTY
        return reply.headers

    async def _upload(
        self, terms: Terms, content: Content, creation: Creation, on_progress: OnProgress | None
    ) -> RemoteUpload:
        progress = Progress(on_progress, lambda: content.size, asyncio.get_running_loop().time)
        claim = await self._claim(terms.dialect, content, creation)
        try:
            urls = await self._known_urls(terms.dialect, content, claim)

            async def noted(urls: Urls) -> None:
                if claim is not None:
                    await self._note(claim, urls)

            if len(urls) > 1 and isinstance(terms.dialect, TusDialect):
                joined = ParallelSending(terms, terms.dialect, content, creation, progress, noted, urls)
                try:
                    found = await joined.run()
                except TroveError as error:
                    if claim is None or not error.retryable:
                        await noted((None,))
                        await abandon(terms, joined.urls)
                    raise
            else:
                sending = Sending(
                    terms, content, creation, progress.meter(), lambda url: noted((url,)), urls[0]
                )  # fmt: skip
                found = await sending.run()
            progress.tell(now=True)
            if claim is not None:
                await claim.forget()
            return found
        except BodySourceError:
            if claim is not None:
                await claim.forget()
            raise
        finally:
            if claim is not None:
                await claim.release()

    async def _note(self, claim: Claim, urls: Urls) -> None:
        if not any(urls):
            await claim.forget()
            return
        try:
            await claim.save(urls)
        except TroveError as error:
            if self._is_folder_chosen:
                raise
            _log.warning("%s; the upload cannot be continued after a crash", error.message)

    async def _claim(self, dialect: Dialect, content: Content, creation: Creation) -> Claim | None:
        """Return what keeps the upload's URL; None if nothing does, or if another task or process uploads the file."""
        if self._fingerprints is None or content.identity is None:
            return None
        about = json.dumps([dialect.name, creation.filename, creation.content_type, creation.metadata.header])
        try:
            return await self._fingerprints.claim(str(self._places.endpoint), content.identity, about)
        except TroveError as error:
            if self._is_folder_chosen:
                raise
            _log.warning("%s; the upload cannot be continued after a crash", error.message)
            return None

    async def _known_urls(self, dialect: Dialect, content: Content, claim: Claim | None) -> Urls:
        """Return the URLs of an upload that was begun before; else a None for each part that is to be created."""
        found = None if claim is None else await claim.load()
        if found is not None and (len(found) == 1 or dialect.joins):
            return found
        parts = 1
        if dialect.joins and content.divisible and content.size is not None:
            parts = max(1, min(self._parallel, content.size // _SMALLEST_PART))
        return (None,) * parts
