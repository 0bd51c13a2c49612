"""Where requests go: an origin, or a proxy before it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from trove_async.errors import InvalidArgumentError, UnavailableError

__all__ = ["Origin", "Proxy"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: connections are made to it and pooled by it.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name or an address; IPv6 without brackets.
        port: the TCP port.
        authority: the value of the ``Host`` header: the default port is left out, IPv6 stands in brackets.
    """

    scheme: str
    host: str
    port: int
    authority: str = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.scheme not in _DEFAULT_PORTS:
            raise InvalidArgumentError(f"the scheme of an endpoint is http or https, not {self.scheme!r}")
        host = _bracketed(self.host)
        default = self.port == _DEFAULT_PORTS[self.scheme]
        object.__setattr__(self, "authority", host if default else f"{host}:{self.port}")
        object.__setattr__(self, "_hash", hash((self.scheme, self.host, self.port)))

    # Every request looks it up.
    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host, port: where it listens.
        authorization: the value of ``Proxy-Authorization``; None to send none.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse ``http://[user:password@]host[:port]``; the default port is 80.

        Raises:
            InvalidArgumentError: it is not such a URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _DEFAULT_PORTS["http"]
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise InvalidArgumentError(
                "a proxy is given as http://host:port, with a user and password before '@' if it requires them"
            )
        authorization = None
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + b64encode(secret.encode()).decode()
        return cls(parts.hostname, port, authorization)

    def __str__(self) -> str:
        return f"http://{_bracketed(self.host)}:{self.port}"

    def authentication_error(self) -> UnavailableError:
        """Return the error for a response of status 407."""
        wanted = "refuses the user or password" if self.authorization else "requires a user and a password"
        return UnavailableError(
            f"the proxy {self} {wanted}; give them in the URL of the proxy, before '@'",
            status=407,
            retryable=False,
        )
