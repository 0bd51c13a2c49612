"""Where requests go: an origin, and a proxy on the way to it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from trove_async.errors import InvalidArgumentError

__all__ = ["Origin", "Proxy"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: what connections are made to, and what they are pooled by.

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

    # It is looked up for every request.
    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host, port: where it listens.
        authorization: the value of ``Proxy-Authorization``; None for none.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``http://[user:password@]host[:port]``; the port is 80 if it is left out.

        Raises:
            InvalidArgumentError: it is no such URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _DEFAULT_PORTS["http"]
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise InvalidArgumentError("a proxy is given as http://[user:password@]host[:port]")
        authorization = None
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + b64encode(secret.encode()).decode()
        return cls(parts.hostname, port, authorization)

    def __str__(self) -> str:
        return f"http://{_bracketed(self.host)}:{self.port}"
