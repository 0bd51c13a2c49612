"""Which proxy leads to an origin: the one that was given, or the environment's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Self

from trove_async.errors import InvalidArgumentError
from trove_async.wire.origin import Origin, Proxy

__all__ = ["Proxies"]

_NAMES: Final = ("http", "https", "all")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies by the scheme of the origin.

    Attributes:
        urls: their URLs by ``http``, ``https`` and ``all``, and under ``no`` the hosts, addresses and networks that
            need none, separated by commas.
    """

    urls: Mapping[str, str] = field(repr=False)
    _found: dict[Origin, Proxy | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def given(cls, url: str) -> Self:
        """Return one proxy for all origins.

        Raises:
            InvalidArgumentError: it is not the URL of an HTTP proxy.
        """
        Proxy.parse(url)
        return cls({"all": url})

    @classmethod
    def of_environment(cls) -> Self | None:
        """Return the proxies of ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``; None if none is set.

        The names may be in lower case, which comes first. ``HTTP_PROXY`` in upper case is ignored in a CGI script,
        where a header of the request sets it.
        """
        if not any(name.lower().endswith("_proxy") for name in os.environ):
            return None
        from urllib.request import getproxies_environment  # is slow to import, and seldom needed

        urls = getproxies_environment()
        return cls(urls) if any(urls.get(name) for name in _NAMES) else None

    def url(self, origin: Origin) -> str | None:
        """Return the URL of the proxy that leads to an origin, credentials included; None if none does."""
        url = self.urls.get(origin.scheme) or self.urls.get("all")
        if not url or self._is_bypassed(origin):
            return None
        return url if "://" in url else f"http://{url}"

    def find(self, origin: Origin) -> Proxy | None:
        """Return the proxy that leads to an origin; None if none does.

        Raises:
            InvalidArgumentError: it is not an HTTP proxy.
        """
        try:
            return self._found[origin]
        except KeyError:
            pass
        url = self.url(origin)
        try:
            proxy = None if url is None else Proxy.parse(url)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"{error.message}; the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) names another for {origin}: "
                "add proxy=none to use no proxy"
            ) from None
        self._found[origin] = proxy
        return proxy

    def _is_bypassed(self, origin: Origin) -> bool:
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

        if proxy_bypass_environment(f"{origin.host}:{origin.port}", self.urls):
            return True
        try:
            address = ip_address(origin.host)
        except ValueError:
            return False
        return any(_covers(entry.strip(), address, origin.port) for entry in self.urls.get("no", "").split(","))


def _covers(entry: str, address: IPv4Address | IPv6Address, port: int) -> bool:
    """Tell whether an entry of ``NO_PROXY`` is an address, ``[address]:port`` or a network, and covers an address."""
    if entry.startswith("["):
        entry, _, rest = entry[1:].partition("]")
        if rest not in ("", f":{port}"):
            return False
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False
