"""What proxies say about the URL that a client has used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import quote

from trove_async.errors import InvalidArgumentError
from trove_async.web.http import Headers

__all__ = ["UNIX", "PublicURL", "TrustedProxies"]

UNIX: Final = "unix"
"""Among trusted proxies: those that are connected by a Unix socket."""

_MAX_HEADER: Final = 4096
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+\Z")
# RFC 7239, section 4. No two repetitions can take the same character.
_PAIR: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([!#$%&'*+.^_`|~0-9A-Za-z-]+))")


@dataclass(frozen=True, slots=True)
class PublicURL:
    """Where clients see the app.

    Attributes:
        origin: such as ``https://example.com``; None if nobody has said it.
        path: of the app, percent-encoded, with a slash at its end.
    """

    origin: str | None
    path: str


class TrustedProxies:
    """The proxies whose headers are believed: ``X-Forwarded-*``, and ``Forwarded`` (RFC 7239).

    Anybody can send these headers. So each trusted proxy must set or remove ``X-Forwarded-Proto``,
    ``X-Forwarded-Host`` and ``X-Forwarded-Prefix``, or ``Forwarded``; where both are sent, the first kind counts.

    Args:
        networks: such as ``"10.0.0.0/8"`` or ``"::1"``; ``"unix"`` for Unix sockets.

    Raises:
        InvalidArgumentError: one is no network.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        if isinstance(networks, str) or not isinstance(networks, Iterable):
            raise InvalidArgumentError("trusted_proxies is a sequence of networks, such as ('10.0.0.0/8',)")
        named = tuple(networks)
        for name in named:
            if not isinstance(name, str):  # a number would be taken for an address
                raise InvalidArgumentError(f"a network is text such as '10.0.0.0/8', not {name!r}")
        self._unix = UNIX in named
        try:
            self._networks = tuple(ip_network(name) for name in named if name != UNIX)
        except ValueError as error:
            raise InvalidArgumentError(
                f"trusted_proxies has networks such as '10.0.0.0/8' or '::1', or 'unix': {error}"
            ) from error

    def public_url(self, peer: str | None, scheme: str, headers: Headers, root: str) -> PublicURL:
        """Return where the client of a request sees the app.

        Args:
            peer: the address that has sent the request; None for a Unix socket.
            scheme: of the connection.
            headers: of the request.
            root: the path of the app on this server, decoded and without a slash at its end.
        """
        said: Mapping[str, str] = {}
        if self._trusts(peer):
            said = self._x_forwarded(headers) or self._forwarded(headers)
        host = _valid(_HOST, said.get("host")) or _valid(_HOST, headers.get("host"))
        proto = said.get("proto", "").lower()
        scheme = proto if proto in ("http", "https") else scheme
        prefix = _valid(_PREFIX, said.get("prefix", "").rstrip("/")) or ""
        path = prefix + quote(root, safe="/~!$&'()*+,;=:@")
        # A path that begins with two slashes would be the host of a relative URL.
        return PublicURL(host and f"{scheme}://{host}", f"/{path.strip('/')}/" if path.strip("/") else "/")

    def _trusts(self, peer: str | None) -> bool:
        if peer is None:
            return self._unix
        if not self._networks:  # the usual case: no address needs to be parsed
            return False
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)

    def _x_forwarded(self, headers: Headers) -> dict[str, str]:
        """Return what the outermost trusted proxy has said; each proxy may have appended to the lists."""
        clients = _items(headers.get("x-forwarded-for"))
        hops = self._hops(clients)
        found = {}
        for name in ("proto", "host", "prefix"):
            if values := _items(headers.get(f"x-forwarded-{name}")):
                found[name] = values[max(len(values) - hops, 0)]
        return found

    def _forwarded(self, headers: Headers) -> dict[str, str]:
        value = headers.get("forwarded", "")
        if len(value) > _MAX_HEADER:
            return {}
        elements = _elements(value)
        hops = self._hops([element.get("for", "") for element in elements])
        found: dict[str, str] = {}
        for element in reversed(elements[max(len(elements) - hops, 0) :]):
            found |= element
        return found

    def _hops(self, clients: list[str]) -> int:
        """Return how many trusted proxies the request has passed, by the addresses of those who sent it to each."""
        hops = 1
        for client in reversed(clients[1:]):
            if not self._trusts(client or "?"):
                break
            hops += 1
        return hops


def _address(node: str) -> IPv4Address | IPv6Address | None:
    """Parse the address of a node, which may have a port; a mapped IPv4 address is one."""
    host = node.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _items(value: str | None) -> list[str]:
    if value is None or len(value) > _MAX_HEADER:
        return []
    return [item.strip() for item in value.split(",") if item.strip()]


def _elements(value: str) -> list[dict[str, str]]:
    """Parse a Forwarded header; one that is malformed says nothing."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(value):
        if (character := value[position]) in " \t;":
            position += 1
        elif character == ",":
            elements.append({})
            position += 1
        elif match := _PAIR.match(value, position):
            text = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
            elements[-1][match[1].lower()] = text
            position = match.end()
        else:
            return []
    return elements


def _valid(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and len(value) <= _MAX_HEADER and pattern.match(value) else None
