"""Credentials: tokens of OAuth 2.0 through gcloud-aio-auth, kept until shortly before they expire, and the signing key.

gcloud-aio-auth finds the credentials as Google's libraries do, and asks for tokens. This module decides when to ask
again: one request renews the token for all that wait, and the others use a token that is about to expire meanwhile.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.drivers.gcs.signing import Signer
from trove_async.dsn import redact
from trove_async.errors import (
    BackendError,
    ClosedError,
    InvalidArgumentError,
    InvalidDSNError,
    OperationTimeoutError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Credentials"]

_STORAGE_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"
_PUBSUB_SCOPE: Final = "https://www.googleapis.com/auth/pubsub"
_EARLY: Final = 225.0
"""Seconds before a token expires at which a new one is asked for.

The metadata server returns the same token until 300 seconds or less before it expires
(https://cloud.google.com/compute/docs/access/authenticate-workloads#applications).
"""
_LATE: Final = 10.0
"""Seconds before a token expires at which it is not used any more."""
_PAUSE: Final = 30.0
"""Seconds between attempts to renew a token early."""
_TOKEN_SERVER: Final = "https://oauth2.googleapis.com"
_TIMEOUT: Final = 20
_FILE_VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_HINT: Final = (
    "give the path of a key file as credentials, or set GOOGLE_APPLICATION_CREDENTIALS, "
    "or run 'gcloud auth application-default login', or give anonymous=1 for public buckets"
)

_log = logging.getLogger("trove_async")


class Credentials:
    """The credentials of one store. Nothing is connected before the first token is needed.

    Args:
        settings: of the store.

    Attributes:
        known: the value of the ``Authorization`` header; None if `authorization` must be called.
        signer: signs URLs; None without a service account's key.
        project: that of the settings, the environment or the file; None if none of them names one.
    """

    def __init__(self, settings: GCSSettings) -> None:
        self._settings = settings
        self._token: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._header: str | None = None
        self._ends = 0.0
        self._next = 0.0
        self._closed = False
        self.signer: Signer | None = None
        self.project = settings.project or os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")

    async def open(self) -> None:
        """Read the credentials, if they are in a file.

        Raises:
            InvalidDSNError: the file does not exist, or does not hold credentials.
        """
        settings = self._settings
        if settings.access_token is not None:
            self._header, self._ends = f"Bearer {settings.access_token}", float("inf")
        elif not settings.tokenless:
            path = settings.credentials or os.environ.get(_FILE_VARIABLE)
            data = None if not path else await anyio.to_thread.run_sync(_read_file, path)
            self._token = await anyio.to_thread.run_sync(_make_token, data, _scopes(settings))
            found = self._token.service_data
            self.signer = await anyio.to_thread.run_sync(_signer, found)
            if self.signer is not None:
                found["private_key"] = self.signer.key  # else it would be parsed for each token, on the event loop
            self.project = self.project or found.get("project_id") or found.get("quota_project_id")

    async def close(self) -> None:
        """Drop the connections; idempotent."""
        self._closed = True
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    @property
    def known(self) -> str | None:
        """The value of the header ``Authorization``, if it is valid for a while."""
        if self._ends - asyncio.get_running_loop().time() > _EARLY:
            return self._header
        return None

    async def authorization(self) -> str | None:
        """Return the value of the header ``Authorization``; None for anonymous access.

        Raises:
            UnauthenticatedError: there are no credentials, or the token service refuses them.
            TransientError: the token service cannot be reached, or has a transient error.
        """
        if self._token is None:
            return self._header
        loop = asyncio.get_running_loop()
        left = self._ends - loop.time()
        if self._header is not None and left > _LATE and (self._lock.locked() or loop.time() < self._next):
            return self._header
        async with self._lock:
            left = self._ends - loop.time()
            if self._header is None or left <= _EARLY:
                try:
                    await self._refresh()
                except TroveError as error:
                    if self._header is None or left <= _LATE or not error.retryable:
                        raise
                    _log.warning("the token could not be renewed early, and is used until it expires: %s", error)
        return self._header

    async def renew(self, used: str | None) -> bool:
        """Ask for a new token in place of one that was refused; tell whether there is one.

        One request is sent, however many requests the old token was refused for.
        """
        if self._token is None or used is None:
            return False
        async with self._lock:
            if self._header == used:
                await self._refresh()
            return self._header != used

    async def find_project(self) -> str:
        """Return the project in which buckets are created and listed.

        Raises:
            InvalidArgumentError: neither settings, environment nor credentials name one.
        """
        if self.project is None and self._token is not None and not self._token.service_data:
            from gcloud.aio.auth.token import GCE_ENDPOINT_PROJECT, GCE_METADATA_HEADERS

            await self._connect()
            with suppress(*_failures()):
                answer = await self._token.session.get(
                    GCE_ENDPOINT_PROJECT, headers=GCE_METADATA_HEADERS, timeout=_TIMEOUT
                )
                self.project = (await answer.text()).strip() or None
        if self.project is None:
            raise InvalidArgumentError(
                "buckets are created and listed in a project: write gcs://project/, or set GOOGLE_CLOUD_PROJECT"
            )
        return self.project

    async def session(self) -> aiohttp.ClientSession:
        """Return the session of the SDK's requests."""
        await self._connect()
        assert self._session is not None
        return self._session

    async def get(self) -> str:
        """Return the token without ``Bearer``, as the SDK's clients expect it; empty for anonymous access."""
        return (self.known or await self.authorization() or "").removeprefix("Bearer ")

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.time() + _PAUSE
        await self._connect()
        try:
            found = await self._token.refresh(timeout=_TIMEOUT)
        except Exception as error:
            raise self._failed(error) from error
        self._header, self._ends = f"Bearer {found.value}", loop.time() + found.expires_in

    async def _connect(self) -> None:
        if self._closed:
            raise ClosedError("the store is closed")
        if self._session is not None:
            return
        import aiohttp
        from gcloud.aio.auth import AioSession

        network = self._settings.network
        context = await network.tls_context()
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=context)
            # The metadata server of a machine is never behind a proxy.
            metadata = self._token is not None and not self._token.service_data
            self._session = aiohttp.ClientSession(
                connector=connector,
                proxy=None if metadata else network.proxy_of(self._settings.pubsub_endpoint or _TOKEN_SERVER),
                headers={"User-Agent": network.full_user_agent},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=network.connect_timeout, sock_read=network.idle_timeout
                ),
            )
            if self._token is not None:
                self._token.session = AioSession(self._session)  # type: ignore[arg-type]

    def _failed(self, error: Exception) -> TroveError:
        """Return the error for one that gcloud-aio-auth or aiohttp raised."""
        import aiohttp

        words = redact(str(error))[:300]
        if isinstance(error, aiohttp.ClientResponseError):
            if error.status in (408, 429) or error.status >= 500:
                return UnavailableError(f"the token service failed: {words}", status=error.status)
            return UnauthenticatedError(f"the token service refuses the credentials: {words}", status=error.status)
        metadata = not self._token.service_data
        if isinstance(error, aiohttp.ClientConnectionError | TimeoutError | OSError):
            if metadata:
                return UnauthenticatedError(f"there are no credentials, and no metadata server to ask; {_HINT}")
            if isinstance(error, TimeoutError):
                return OperationTimeoutError("the token service did not answer in time")
            return UnavailableError(f"the token service failed: {words}")
        if isinstance(error, aiohttp.ClientError):
            return BackendError(f"the answer is not one of a token service: {words}")
        return UnauthenticatedError(f"the credentials cannot be used: {type(error).__name__}: {words}")


def _failures() -> tuple[type[Exception], ...]:
    import aiohttp

    return (aiohttp.ClientError, TimeoutError, OSError)


def _scopes(settings: GCSSettings) -> list[str]:
    return [_STORAGE_SCOPE, _PUBSUB_SCOPE] if settings.watch == "pubsub" else [_STORAGE_SCOPE]


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise InvalidDSNError(f"the credentials file {path!r} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InvalidDSNError(f"the credentials file {path!r} does not hold JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise InvalidDSNError(f"the file {path!r} does not hold credentials: it has no 'type'")
    return data


def _make_token(data: dict[str, Any] | None, scopes: list[str]) -> Any:
    from gcloud.aio.auth import Token

    try:
        return Token(service_file=None if data is None else io.StringIO(json.dumps(data)), scopes=scopes)
    except Exception as error:
        raise InvalidDSNError(f"the credentials cannot be used: {redact(str(error))[:300]}") from error


def _signer(data: dict[str, Any]) -> Signer | None:
    """Return the signer of a service account; None for other credentials.

    Raises:
        InvalidDSNError: the key cannot be read, or the account has no name.
    """
    if data.get("type") != "service_account":
        return None
    email, key = data.get("client_email"), data.get("private_key")
    if not isinstance(email, str) or not isinstance(key, str):
        raise InvalidDSNError("the credentials are those of a service account, but have no client_email or private_key")
    try:
        return Signer(email, key)
    except ValueError:
        raise InvalidDSNError("the private_key of the credentials is not an RSA key in PEM") from None
