"""`SharedKey`: the signatures of Azure Storage with the key of an account.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

from __future__ import annotations

import base64
import hmac
import time
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from trove_async.errors import InvalidArgumentError

__all__ = ["SharedKey", "date_header"]

_STANDARD: Final = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
"""The headers of which only the values are signed, in the order of their places."""

_PLACES: Final = {name: place for place, name in enumerate(_STANDARD)}
_LENGTH: Final = _PLACES["content-length"]

# The service sorts the names of headers like words: hyphens do not count, and underscores sort before digits.
_COLLATION: Final = {ord("-"): None, ord("_"): " "}

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(8)  # all requests of a second have the same
def _date(second: int) -> str:
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(second)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02} GMT"


def date_header(now: float) -> str:
    """Return a time, in seconds of the epoch, in the form of the header ``x-ms-date``."""
    return _date(int(now))


@lru_cache(4096)
def _collated(name: str) -> str:
    return name.translate(_COLLATION)


class SharedKey:
    """Signs requests of an account.

    Args:
        account: its name.
        key: in base64.

    Raises:
        InvalidArgumentError: the key is not base64.
    """

    def __init__(self, account: str, key: str) -> None:
        self.account = account
        try:
            self._key = base64.b64decode(key, validate=True)
        except (Base64Error, ValueError):
            raise InvalidArgumentError(
                "the account key is not base64: was it cut, or its '+' or '=' changed?"
            ) from None

    def sign(
        self, method: str, path: str, params: Sequence[tuple[str, str]], headers: Iterable[tuple[str, str]], size: int
    ) -> str:
        """Return the value of the header ``Authorization``.

        Args:
            method: of the request.
            path: exactly as it is sent, percent-encoded.
            params: of the query, not encoded; no name twice.
            headers: of the request, names in lower case; ``x-ms-date`` and ``x-ms-version`` among them.
            size: of the body.
        """
        text = self.string_to_sign(method, path, params, headers, size)
        signature = base64.b64encode(hmac.digest(self._key, text.encode(), "sha256")).decode()
        return f"SharedKey {self.account}:{signature}"

    def string_to_sign(
        self, method: str, path: str, params: Sequence[tuple[str, str]], headers: Iterable[tuple[str, str]], size: int
    ) -> str:
        """Return what the signature is made of; see `sign`."""
        standard = [""] * len(_STANDARD)
        if size:
            standard[_LENGTH] = str(size)
        own: list[tuple[str, str]] = []
        for header in headers:
            name = header[0]
            if name[:5] == "x-ms-":
                own.append((_collated(name), f"{name}:{header[1]}\n"))
            elif name in _PLACES:
                standard[_PLACES[name]] = header[1]
        own.sort()
        text = f"{method}\n" + "\n".join(standard) + "\n" + "".join([line for _, line in own])
        text += f"/{self.account}{path}"
        for name, value in sorted(params):
            text += f"\n{name.lower()}:{value}"
        return text
