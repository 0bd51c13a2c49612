"""URLs of uploads, and at which of them requests may be sent."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from trove_async.errors import InvalidArgumentError, UnavailableError
from trove_async.wire.origin import Origin

__all__ = ["Place", "Places"]

_PORTS: Final = {"http": 80, "https": 443}
_AS_GIVEN: Final = "!$%&'()*+,-./:;=?@_~[]"  # with letters and digits: what a path or query may hold, "%" included


@dataclass(frozen=True, slots=True)
class Place:
    """The URL of a request, without credentials.

    Attributes:
        origin: its server.
        target: path and query.
    """

    origin: Origin
    target: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL.

        Raises:
            InvalidArgumentError: it is no URL of http or https.
        """
        parts = _split(url)
        host = parts.hostname or ""
        if parts.scheme not in _PORTS or not host:
            raise InvalidArgumentError("the URL of uploads begins with http:// or https:// and names a host")
        target = quote(parts.path or "/", safe=_AS_GIVEN)
        if parts.query:
            target += "?" + quote(parts.query, safe=_AS_GIVEN)
        return cls(Origin(parts.scheme, host, parts.port or _PORTS[parts.scheme]), target)

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def _split(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise InvalidArgumentError(f"the URL of uploads is text, not {url!r}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"this is no URL: {error}") from None
    return parts


class Places:
    """Where requests may be sent, and where the application's headers may.

    Args:
        endpoint: the URL at which uploads are created. A user and a password in it become ``Authorization``.
        others: origins beside the endpoint's, such as ``https://uploads.example.com``.

    Attributes:
        endpoint: the URL, without user and password.
        authorization: made from them; None if there are none.

    Raises:
        InvalidArgumentError: one is no URL of http or https.
    """

    def __init__(self, endpoint: str, others: Iterable[str] = ()) -> None:
        self.endpoint = Place.parse(endpoint)
        self._others = frozenset(Place.parse(other).origin for other in others)
        parts = _split(endpoint)
        self.authorization: str | None = None
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.authorization = "Basic " + b64encode(secret.encode()).decode()

    def find(self, base: Place, reference: str) -> Place:
        """Return what a ``Location`` refers to, or a URL that the application gives.

        Raises:
            UnavailableError: it is at an origin to which nothing is sent.
        """
        try:
            found = Place.parse(urljoin(str(base), reference))
        except InvalidArgumentError as error:
            raise UnavailableError(f"the server gives an unusable Location: {error}", retryable=False) from None
        if found.origin != self.endpoint.origin and found.origin not in self._others:
            raise UnavailableError(
                f"the upload is at {found.origin}, and not at {self.endpoint.origin}, where uploads are created: "
                f"if that is right, allow it with allow_origins=[{str(found.origin)!r}]; if "
                "only the scheme or the port differs, let the proxy before the server forward them",
                retryable=False,
            )
        return found

    def trusts(self, place: Place) -> bool:
        """Whether the application's headers are sent there: only to the origin of the endpoint."""
        return place.origin == self.endpoint.origin
