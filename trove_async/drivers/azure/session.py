"""`Session`: the client of Microsoft's SDK with the credentials of a store, for what the library has no verb for."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import anyio.to_thread

from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.tokens import Tokens
from trove_async.errors import ClosedError, MissingDependencyError

__all__ = ["Session"]


class Session:
    """Makes the SDK's client when it is first needed.

    Args:
        settings: of the store.
        tokens: of the store.
    """

    def __init__(self, settings: AzureSettings, tokens: Tokens) -> None:
        self._settings = settings
        self._tokens = tokens
        self._client: Any = None
        self._closed = False

    async def client(self) -> Any:
        """Return the ``BlobServiceClient`` of ``azure.storage.blob.aio``; it is closed with the store."""
        if self._closed:
            raise ClosedError("the store is closed")
        if self._client is None:
            # The SDK takes a third of a second to import.
            make, new_session = await anyio.to_thread.run_sync(_load)
            context = await self._settings.network.tls_context()
            if self._client is None:
                self._client = self._make(make, new_session(context))
        return self._client

    def _make(self, make: Any, session: Any) -> Any:
        account, network = self._settings.account, self._settings.network
        credential: Any = None
        if account.key_text is not None:
            # With a name of its own, since the SDK cannot find the account in an endpoint of another domain.
            credential = {"account_name": account.name, "account_key": account.key_text}
        elif account.uses_tokens:
            credential = _Credential(self._tokens)
        elif account.sas:
            credential = "&".join(f"{name}={quote(value, safe='')}" for name, value in account.sas)
        return make(
            account.endpoint,
            credential=credential,
            connection_timeout=network.connect_timeout,
            read_timeout=network.idle_timeout,
            session=session,
            proxies=network.sdk_proxies(account.endpoint),
            user_agent=network.full_user_agent,
        )

    async def close(self) -> None:
        """Close the client; idempotent."""
        self._closed = True
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()


class _Credential:
    """Gives the SDK the tokens of a store."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def get_token(self, *_scopes: str, **_more: Any) -> Any:
        from azure.core.credentials import AccessToken

        return AccessToken(await self._tokens.get(), int(self._tokens.good_until))

    async def close(self) -> None:
        """Leave it to the store."""

    async def __aenter__(self) -> _Credential:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def _load() -> tuple[Any, Any]:
    try:
        import aiohttp
        from azure.storage.blob.aio import BlobServiceClient
    except ImportError as error:
        raise MissingDependencyError(f"azure needs {error.name!r}: pip install 'trove-async[azure]'") from error

    def new_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
        """Return a session as the SDK makes it, with other certificates, and without the environment's proxies."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    return BlobServiceClient, new_session
