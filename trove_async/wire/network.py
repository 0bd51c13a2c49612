"""The settings that every driver over HTTP has, and what they take from the environment.

Both planes of a driver, the library's own requests and those of the service's SDK, take them from here, so that they
reach the service in the same way.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from trove_async.driver.retry import Budget, Retries, RetryPolicy
from trove_async.dsn import SettingsParser
from trove_async.errors import InvalidArgumentError, InvalidDSNError
from trove_async.wire.origin import Origin
from trove_async.wire.parts import PART_CONCURRENCY
from trove_async.wire.proxies import Proxies
from trove_async.wire.request import full_user_agent
from trove_async.wire.tls import tls_context
from trove_async.wire.transport import Transport

__all__ = ["Network", "ca_file_of_environment", "choice", "endpoint_of", "proxies_of", "url_of"]

_PARALLEL: Final = 32


@dataclass(frozen=True, slots=True)
class Network:
    """How a service is reached.

    Attributes:
        connections: the maximum of open connections.
        pool_timeout: seconds that requests wait for a connection while none becomes free.
        connect_timeout: seconds for a new connection.
        idle_timeout: seconds without progress.
        attempts: the maximum for each request, the first one included.
        retry_budget: attempts beside the first ones that need no success; see `Budget`.
        proxies: those to use; None for none.
        ca_file: certificates of authorities to trust, in PEM; None for the system's.
        verify: whether certificates are checked.
        tls_strict: whether certificates must have all extensions that RFC 5280 requires; Python checks it from 3.13 on.
        user_agent: how the application names itself; None if it does not.
    """

    connections: int
    pool_timeout: float
    connect_timeout: float
    idle_timeout: float
    attempts: int
    retry_budget: int
    proxies: Proxies | None
    ca_file: str | None
    verify: bool
    tls_strict: bool
    user_agent: str | None

    @classmethod
    def of(cls, settings: SettingsParser, *, ca_variables: Sequence[str] = ("REQUESTS_CA_BUNDLE",)) -> Network:
        """Take the parameters out of a DSN's.

        Args:
            settings: those of the DSN.
            ca_variables: the environment variables that name a CA file, besides those of OpenSSL; the first that is
                set counts.

        Raises:
            InvalidDSNError: one is wrong, or two contradict each other.
        """
        verify = settings.flag("verify", True)
        ca_file = settings.path("ca_file")
        if ca_file is not None and not verify:
            raise InvalidDSNError(
                "ca_file and verify=0 contradict each other: certificates are checked or they are not"
            )
        if ca_file is None and verify:
            ca_file = ca_file_of_environment(ca_variables)
        return cls(
            connections=settings.integer("connections", 100, minimum=1),
            pool_timeout=settings.seconds("pool_timeout", 60),
            connect_timeout=settings.seconds("connect_timeout", 10),
            idle_timeout=settings.seconds("idle_timeout", 60),
            attempts=settings.integer("attempts", 5, minimum=1),
            retry_budget=settings.integer("retry_budget", 3),
            proxies=proxies_of(settings.text("proxy")),
            ca_file=ca_file,
            verify=verify,
            tls_strict=settings.flag("tls_strict", True),
            user_agent=_user_agent(settings.text("user_agent")),
        )

    @property
    def parallel(self) -> int:
        """How many ranges of an object may be read at once: one reader uses a quarter of the connections at most."""
        return max(1, min(_PARALLEL, self.connections // 4))

    def parts(self, settings: SettingsParser) -> int:
        """Take ``part_concurrency`` out of a DSN's parameters: the largest number of parts of an upload at once.

        Each needs a connection, so that there are no more parts than connections.
        """
        return min(settings.integer("part_concurrency", PART_CONCURRENCY, minimum=1), self.connections)

    def retries(self) -> Retries:
        """Return how a store tries again, with a budget of its own."""
        return Retries(RetryPolicy(attempts=self.attempts, budget=Budget(self.retry_budget)))

    async def transport(self) -> Transport:
        """Return the transport that carries the requests; it makes no connection yet."""
        default = self.verify and self.ca_file is None and self.tls_strict
        return Transport(
            connections=self.connections,
            pool_timeout=self.pool_timeout,
            connect_timeout=self.connect_timeout,
            idle_timeout=self.idle_timeout,
            tls=None if default else await self.tls_context(),
            proxy=self.proxies,
            user_agent=self.user_agent,
        )

    async def tls_context(self) -> ssl.SSLContext:
        """Return a context for connections of either plane.

        Raises:
            InvalidArgumentError: the CA file cannot be used.
        """
        return await tls_context(self.verify, self.ca_file, self.tls_strict)

    @property
    def full_user_agent(self) -> str:
        """The value of ``User-Agent``."""
        return full_user_agent(self.user_agent)

    @property
    def sdk_verify(self) -> str | bool:
        """What SDKs take as ``verify``: False, or a file with the authorities that the other plane trusts too.

        True, for the SDK's own authorities, only where the system has no such file.
        """
        if not self.verify:
            return False
        return self.ca_file or ssl.get_default_verify_paths().cafile or True

    def proxy_of(self, url: str) -> str | None:
        """Return the URL of the proxy that leads to a URL, credentials included; None if none does."""
        if self.proxies is None:
            return None
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return self.proxies.url(Origin(parts.scheme, parts.hostname or "", port))

    def sdk_proxies(self, url: str) -> dict[str, str]:
        """Return the proxy that leads to a URL as SDKs take it, by scheme; empty if none does.

        Empty is not None, with which SDKs would look into the environment themselves.
        """
        proxy = self.proxy_of(url)
        return {} if proxy is None else {"http": proxy, "https": proxy}


def ca_file_of_environment(variables: Sequence[str] = ("REQUESTS_CA_BUNDLE",)) -> str | None:
    """Return the CA file that the first environment variable which is set names; None for OpenSSL's own variables."""
    return next(filter(None, map(os.environ.get, variables)), None)


def proxies_of(proxy: str | None) -> Proxies | None:
    """Return the proxies to use.

    Args:
        proxy: ``http://[user:password@]host[:port]``; ``none`` for none; None for those of the environment.

    Raises:
        InvalidDSNError: it is something else; it is not shown, since it may hold a password.
    """
    if proxy is None:
        return Proxies.of_environment()
    if proxy == "none":
        return None
    url_of("proxy", proxy, ("http",))
    try:
        return Proxies.given(proxy)
    except InvalidArgumentError as error:
        raise InvalidDSNError(error.message) from None


def _user_agent(application: str | None) -> str | None:
    try:
        full_user_agent(application)
    except InvalidArgumentError as error:
        raise InvalidDSNError(error.message) from None
    return application


def url_of(name: str, text: str, schemes: tuple[str, ...] = ("http", "https")) -> SplitResult:
    """Parse the URL of a parameter.

    Raises:
        InvalidDSNError: it is not a URL, or one of another scheme; it is not shown, since it may hold a password.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise InvalidDSNError(f"the {name} is not a URL; write {name}={schemes[0]}://host:port") from None
    if url.scheme not in schemes or not url.hostname or port == 0 or any(c.isspace() for c in text):
        raise InvalidDSNError(f"the {name} must be a URL that begins with {' or '.join(f'{s}://' for s in schemes)}")
    return url


def endpoint_of(name: str, text: str | None, credentials: str) -> str | None:
    """Return the URL of a service without a slash at its end; None if there is none.

    Args:
        name: the parameter.
        text: its value.
        credentials: where credentials belong instead, for the error.

    Raises:
        InvalidDSNError: it is not a URL, or one with a user, ``?`` or ``#``.
    """
    if text is None:
        return None
    url = url_of(name, text)
    if url.username is not None:
        raise InvalidDSNError(f"the {name} must not hold a user or password; they belong in {credentials}")
    if url.query or url.fragment:
        raise InvalidDSNError(f"the {name} must be a URL without '?' and '#'")
    return text.rstrip("/")


def choice(settings: SettingsParser, name: str, choices: tuple[Any, ...], default: str | None = None) -> Any:
    """Return a setting that is one of several words.

    Raises:
        InvalidDSNError: it is not; the message names them all.
    """
    value = settings.text(name, default)
    if value is not None and value not in choices:
        raise InvalidDSNError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value
