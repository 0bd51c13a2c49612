"""Microsoft's SDK with the credentials of a store, for what the library has no verb for."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import anyio.to_thread

from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.tokens import Tokens
from trove_async.errors import MissingDependencyError

__all__ = ["open_client"]


async def open_client(settings: AzureSettings, tokens: Tokens) -> Any:
    """Return a ``BlobServiceClient`` of ``azure.storage.blob.aio``, which the caller closes."""
    account = settings.account
    # The SDK takes a third of a second to import.
    make, new_session = await anyio.to_thread.run_sync(_load)
    credential: Any = account.key_text
    if account.uses_tokens:
        credential = _Credential(tokens)
    elif account.sas:
        credential = "&".join(f"{name}={quote(value, safe='')}" for name, value in account.sas)
    network = settings.network
    return make(
        account.endpoint,
        credential=credential,
        connection_timeout=network.connect_timeout,
        read_timeout=network.idle_timeout,
        session=new_session(await network.tls_context()),
        proxies=network.sdk_proxies(account.endpoint),
        user_agent=network.full_user_agent,
    )


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
