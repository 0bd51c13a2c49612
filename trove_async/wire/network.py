"""The settings that every driver over HTTP has: connections, time-outs, attempts, proxy, certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from trove_async.dsn import Settings
from trove_async.errors import InvalidDSNError
from trove_async.wire.tls import tls_context
from trove_async.wire.transport import Transport

__all__ = ["Network", "choice", "endpoint_of", "url_of"]


@dataclass(frozen=True, slots=True)
class Network:
    """How a service is reached.

    Attributes:
        connections: how many there are at most.
        pool_timeout: seconds to wait for a free one.
        connect_timeout: seconds.
        idle_timeout: seconds without progress.
        attempts: of each request, the first one included.
        proxy: ``http://[user:password@]host:port``; None for none.
        ca_file: certificates of authorities to trust, in PEM; None for those of the system.
        verify: whether certificates are checked.
    """

    connections: int
    pool_timeout: float
    connect_timeout: float
    idle_timeout: float
    attempts: int
    proxy: str | None = field(repr=False)
    ca_file: str | None
    verify: bool

    @classmethod
    def of(cls, settings: Settings) -> Network:
        """Take the parameters out of a DSN's.

        Raises:
            InvalidDSNError: one is wrong, or two contradict each other.
        """
        proxy = settings.text("proxy")
        if proxy is not None:
            url_of("proxy", proxy, ("http",))
        network = cls(
            connections=settings.integer("connections", 100, minimum=1),
            pool_timeout=settings.seconds("pool_timeout", 60),
            connect_timeout=settings.seconds("connect_timeout", 10),
            idle_timeout=settings.seconds("idle_timeout", 60),
            attempts=settings.integer("attempts", 5, minimum=1),
            proxy=proxy,
            ca_file=settings.text("ca_file"),
            verify=settings.flag("verify", True),
        )
        if network.ca_file is not None and not network.verify:
            raise InvalidDSNError(
                "ca_file and verify=0 contradict each other: certificates are checked or they are not"
            )
        return network

    async def transport(self) -> Transport:
        """Return what carries the requests; no connection is made yet."""
        plain = self.verify and self.ca_file is None
        return Transport(
            connections=self.connections,
            pool_timeout=self.pool_timeout,
            connect_timeout=self.connect_timeout,
            idle_timeout=self.idle_timeout,
            tls=None if plain else await tls_context(self.verify, self.ca_file),
            proxy=self.proxy,
        )


def url_of(name: str, text: str, schemes: tuple[str, ...] = ("http", "https")) -> SplitResult:
    """Take apart a URL that a parameter holds.

    Raises:
        InvalidDSNError: it is none, or one of another scheme; it is not shown, for it may hold a password.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise InvalidDSNError(f"the {name} is no URL; write {name}={schemes[0]}://host:port") from None
    if url.scheme not in schemes or not url.hostname or port == 0 or any(c.isspace() for c in text):
        raise InvalidDSNError(f"the {name} is a URL that begins with {' or '.join(f'{s}://' for s in schemes)}")
    return url


def endpoint_of(name: str, text: str | None, credentials: str) -> str | None:
    """Return the URL of a service without a slash at its end, None for none.

    Args:
        name: of the parameter.
        text: its value.
        credentials: where credentials stand instead, for the error.

    Raises:
        InvalidDSNError: it is no URL, or one with a user, ``?`` or ``#``.
    """
    if text is None:
        return None
    url = url_of(name, text)
    if url.username is not None:
        raise InvalidDSNError(f"the {name} holds a user; credentials stand in {credentials}")
    if url.query or url.fragment:
        raise InvalidDSNError(f"the {name} is a URL without '?' and '#'")
    return text.rstrip("/")


def choice(settings: Settings, name: str, choices: tuple[Any, ...], default: str | None = None) -> Any:
    """Return a setting that is one of some words.

    Raises:
        InvalidDSNError: it is another; the message names them all.
    """
    value = settings.text(name, default)
    if value is not None and value not in choices:
        raise InvalidDSNError(f"{name} is one of {', '.join(choices)}, not {value!r}")
    return value
