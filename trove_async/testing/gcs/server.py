"""`GCSServer`: Google Cloud Storage and Pub/Sub for tests, in this process, on loopback, in memory."""

from __future__ import annotations

import asyncio
import base64
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Final, Self, TypeVar

from trove_async.testing.gcs.auth import Authority
from trove_async.testing.gcs.connections import HTTPServer
from trove_async.testing.gcs.lifecycle import apply_lifecycle
from trove_async.testing.gcs.pubsub import PubSub
from trove_async.testing.gcs.requests import RequestLog
from trove_async.testing.gcs.service import Service
from trove_async.testing.gcs.sessions import Session
from trove_async.testing.gcs.signed import Signatures
from trove_async.testing.gcs.state import Storage, StoredObject, crc32c_of
from trove_async.testing.gcs.xml_multipart import MultipartUpload

__all__ = ["GCSServer"]

_T = TypeVar("_T")
_LOG: Final = 10_000
_CHUNK: Final = 256 * 1024
_PART: Final = 5 << 20
_PULL: Final = 10.0


class GCSServer:
    """A server that answers as Google documents Cloud Storage and Pub/Sub.

    Use it as a context manager: ``async with`` runs it on the current event loop, ``with`` runs it on another loop in a
    thread. Each instance starts empty and keeps nothing when it is closed.

    Attributes:
        host: the address it listens on.
        port: the port; set once the server is open.
        project: the project that owns everything.
        requests: the log of the requests that it answered.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        project: str = "trove-project",
        anonymous: bool = False,
        token_lifetime: float = 3600,
        chunk_granularity: int = _CHUNK,
        minimum_part: int = _PART,
        rewrite_bytes_per_call: int | None = None,
        pull_wait: float = _PULL,
        log_size: int = _LOG,
    ) -> None:
        """Create a server; it listens once it is entered.

        Args:
            port: the port to listen on; 0 for any free one.
            host: the address to listen on.
            project: the project's name.
            anonymous: accept requests without credentials as well.
            token_lifetime: the lifetime of an access token in seconds.
            chunk_granularity: a resumable upload persists multiples of this number of bytes, and each chunk but the
                last has at least as many; Google's is 256 KiB.
            minimum_part: the minimum size of a part of an XML multipart upload, except the last; Google's is 5 MiB.
            rewrite_bytes_per_call: the maximum number of bytes that a call of rewrite copies. By default a call copies
                everything, or, if the location or the storage class changes, as much as the request allows.
            pull_wait: the maximum time in seconds that a pull waits for a message.
            log_size: the number of requests that the log keeps.

        Raises (on entering):
            MissingDependencyError: httptools or google-crc32c is missing.
            OSError: the port is taken.
        """
        self.host = host
        self.port = port
        self.project = project
        self.requests = RequestLog(log_size)
        self._storage = Storage(project)
        self._authority = Authority(project, token_lifetime, anonymous=anonymous)
        secret = base64.b64encode(secrets.token_bytes(30)).decode()
        self._signatures = Signatures(self._authority, f"GOOG1E{secrets.token_hex(27).upper()}", secret)
        self._pubsub = PubSub(pull_wait)
        self._service = Service(
            self._storage,
            self._authority,
            self._signatures,
            self._pubsub,
            self.requests,
            chunk_granularity=chunk_granularity,
            minimum_part=minimum_part,
            rewrite_bytes_per_call=rewrite_bytes_per_call,
        )
        self._http: HTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """The base URL: ``http://host:port``."""
        return f"http://{self.host}:{self.port}"

    @property
    def service_account_info(self) -> dict[str, str]:
        """The content of a key file for its service account, whose token endpoint is this server."""
        return self._authority.service_account_info()

    @property
    def authorized_user_info(self) -> dict[str, str]:
        """The content of a user's credentials file, whose token endpoint is this server."""
        return self._authority.authorized_user_info()

    @property
    def hmac_key(self) -> tuple[str, str]:
        """The access ID and the secret of an HMAC key of its service account, for signed URLs."""
        return self._signatures.access_id, self._signatures.secret

    @property
    def tokens_issued(self) -> int:
        """The number of access tokens it has issued."""
        return self._authority.issued

    def issue_token(self) -> str:
        """Return an access token without a request for it."""
        return self._authority.issue()

    def revoke_tokens(self) -> None:
        """Refuse from now on every access token that was issued so far."""
        self._authority.revoke()

    def buckets(self) -> list[str]:
        """Return the names of the buckets, sorted."""
        return sorted(self._storage.buckets)

    def objects(self, bucket: str, *, versions: bool = False) -> list[StoredObject]:
        """Return a bucket's objects by name; with ``versions`` their noncurrent generations too, the oldest first.

        Raises:
            ServiceError: there is no such bucket.
        """
        found = self._storage.bucket(bucket).generations()
        return [item for item in found if versions or item.deleted is None]

    def open_uploads(self) -> list[Session | MultipartUpload]:
        """Return the resumable sessions and XML multipart uploads that are neither complete nor aborted."""
        return [*self._service.sessions.open(), *self._service.multipart.uploads.values()]

    def expire_uploads(self) -> None:
        """Expire all open resumable sessions, as Google does after a week."""
        self._service.sessions.expire()

    def expire_ack_deadlines(self) -> None:
        """Expire the acknowledgement deadlines of all delivered messages of Pub/Sub."""
        self._run(self._pubsub.expire)

    def apply_lifecycle(self, now: datetime | None = None) -> int:
        """Apply the lifecycle rules of all buckets; the server never applies them by itself.

        Args:
            now: the time at which they are applied, with a time zone; by default the present.

        Returns:
            The number of objects that were deleted or got another class, and of uploads that were aborted.
        """
        moment = time.time() if now is None else now.timestamp()
        return self._run(lambda: apply_lifecycle(self._storage, self._service.multipart, moment))

    def _run(self, work: Callable[[], _T]) -> _T:
        """Call a function on the server's loop, which may run in another thread."""
        if self._loop is None or threading.current_thread() is self._thread:
            return work()

        async def there() -> _T:
            return work()

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result()

    async def __aenter__(self) -> Self:
        if self._http is not None:
            raise RuntimeError("the server is open already")
        crc32c_of(b"")  # a missing package is reported now, not by the first upload
        http = HTTPServer(self._service, self.host, self.port)
        await http.open()
        self._http, self.port = http, http.port
        self._storage.base_url = self._authority.base_url = self.url
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections and stop listening; idempotent."""
        http, self._http = self._http, None
        if http is not None:
            self._pubsub.close()
            await http.aclose()

    def __enter__(self) -> Self:
        ready = threading.Event()
        failure: list[Exception] = []

        async def serve() -> None:
            try:
                await self.__aenter__()
            except Exception as error:  # noqa: BLE001 - re-raised in the thread that entered the server
                failure.append(error)
                return ready.set()
            try:
                self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
                ready.set()
                await self._stop.wait()
            finally:
                await self.aclose()
            return None

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="GCSServer", daemon=True)
        self._thread.start()
        ready.wait()
        if failure:
            self._thread.join()
            raise failure[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        self._thread = self._loop = self._stop = None
