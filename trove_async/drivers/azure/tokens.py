"""Tokens of Microsoft Entra ID: one request for all that wait, renewed before they expire."""

from __future__ import annotations

import asyncio
import inspect
import threading
from functools import partial
from time import time
from typing import Any, Final

import anyio.to_thread

from trove_async.drivers.azure.errors import credential_error
from trove_async.errors import ClosedError, MissingDependencyError, TroveError
from trove_async.wire.network import Network

__all__ = ["Tokens"]

_AUTHORITY: Final = "https://login.microsoftonline.com"
_SCOPE: Final = "https://storage.azure.com/.default"
_AHEAD: Final = 300.0
"""Seconds before its expiry during which a token is not used any more."""

_PAUSE: Final = 5.0
"""Seconds without another request for a token after the service refused one and the credential gave it again."""


class Tokens:
    """The tokens of one store.

    Credentials of azure-identity read files, start processes and ask metadata services; blocking ones run in a thread.

    Args:
        credential: an object with ``get_token``, blocking or not; None for azure-identity's default chain, which is
            made when it is first needed and closed with the store.
        network: how that chain reaches Entra ID; None for its own defaults.
    """

    def __init__(self, credential: Any = None, network: Network | None = None) -> None:
        self._credential = credential
        self._network = network
        self._owned = credential is None
        self._token: str | None = None
        self._good_until = 0.0
        self._fetching: asyncio.Task[str] | None = None
        self._refused: tuple[str, float] | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def known(self) -> str | None:
        """The token if it can still be used; None if `get` has to be awaited."""
        return self._token if time() < self._good_until else None

    @property
    def good_until(self) -> float:
        """When the token stops being used, in seconds of the epoch."""
        return self._good_until

    async def get(self) -> str:
        """Return a token that can be used.

        Raises:
            UnauthenticatedError: no token could be fetched.
        """
        if self._closed:
            raise ClosedError("the store is closed")
        known = self.known
        if known is not None:
            return known
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="trove-azure-token")
            self._fetching.add_done_callback(self._fetched)
        task = self._fetching
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and task.cancelled() and (caller is None or not caller.cancelling()):
                raise ClosedError("the store was closed") from None
            raise

    async def renew(self, used: str) -> bool:
        """Replace a token that was refused; tell whether there is another one.

        Raises:
            UnauthenticatedError: no token could be fetched.
        """
        if self._token == used:
            if self._refused is not None and self._refused[0] == used and time() < self._refused[1]:
                return False
            self._good_until = 0.0
            if await self.get() == used:
                self._refused = used, time() + _PAUSE
        return self._token != used

    async def _fetch(self) -> str:
        try:
            found = await self._ask()
        except TroveError:
            raise
        except ImportError as error:
            raise MissingDependencyError(f"azure needs {error.name!r}: pip install 'trove-async[azure]'") from error
        except Exception as error:
            raise credential_error(error) from error
        self._token, self._good_until = found.token, found.expires_on - _AHEAD
        return str(found.token)

    async def _ask(self) -> Any:
        get_token = getattr(self._credential, "get_token", None)
        if get_token is not None and inspect.iscoroutinefunction(get_token):
            return await get_token(_SCOPE)
        return await anyio.to_thread.run_sync(self._ask_in_thread, abandon_on_cancel=True)

    def _ask_in_thread(self) -> Any:
        with self._lock:
            if self._credential is None:
                from azure.identity import DefaultAzureCredential

                self._credential = DefaultAzureCredential(
                    exclude_interactive_browser_credential=True, **_pipeline_options(self._network)
                )
            return self._credential.get_token(_SCOPE)

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # it is retrieved: the tasks that wait raise it

    async def close(self) -> None:
        """Cancel what is being fetched, and close the default chain; idempotent."""
        self._closed = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        if self._owned and self._credential is not None:
            credential, self._credential = self._credential, None
            await anyio.to_thread.run_sync(partial(_close, credential))


def _pipeline_options(network: Network | None) -> dict[str, Any]:
    """Return how azure-identity makes its requests; those to the machine's metadata service, over http, are direct."""
    if network is None:
        return {}
    proxy = network.proxy_of(_AUTHORITY)
    return {
        "connection_verify": network.sdk_verify,
        "connection_timeout": network.connect_timeout,
        "proxies": {} if proxy is None else {"https": proxy},
        "use_env_settings": False,
    }


def _close(credential: Any) -> None:
    credential.close()
