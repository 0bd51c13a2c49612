"""Cross-origin requests of browsers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from trove_async.errors import InvalidArgumentError
from trove_async.web.http import METADATA_PREFIX, VERSION_HEADER, Headers
from trove_async.web.objects import Answer

__all__ = ["CORS"]

_EXPOSED: Final = ("Content-Disposition", "Content-Encoding", "Content-Range", "ETag", "Retry-After", VERSION_HEADER)
"""What a script may read of an answer, in addition to what every script may (``Content-Type``, ``Last-Modified`` …)."""
_HEADER_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, -]+\Z")
_MAX_NAMES: Final = 1024


@dataclass(frozen=True, slots=True)
class CORS:
    """Which pages may send requests from a browser and read the answers.

    Attributes:
        origins: such as ``https://app.example.com``, without a path; ``("*",)`` for every page.
        max_age: seconds for which a browser remembers that it may send a request, 0 to 86,400.
        credentials: whether a page may send the cookies of the browser, for an app that decides by them; not with
            ``"*"``. A signed URL needs none.

    Raises:
        InvalidArgumentError: one of them is invalid.
    """

    origins: tuple[str, ...]
    max_age: int = 600
    credentials: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.origins, str) or not isinstance(self.origins, Iterable) or not self.origins:
            raise InvalidArgumentError("origins is a sequence of origins, such as ('https://app.example.com',)")
        object.__setattr__(self, "origins", tuple(self.origins))
        for origin in self.origins:
            if origin != "*" and not _is_origin(origin):
                raise InvalidArgumentError(
                    f"{origin!r} is no origin; write scheme, host and port without a slash at the end, as in "
                    "'https://app.example.com', or '*' alone for every origin"
                )
        if type(self.max_age) is not int or not 0 <= self.max_age <= 86_400:
            raise InvalidArgumentError(f"max_age is 0 to 86400 seconds, not {self.max_age!r}")
        if self.credentials and "*" in self.origins:
            raise InvalidArgumentError("browsers send credentials only to servers that name the origins of their pages")

    def preflight(self, headers: Headers, methods: Iterable[str]) -> Answer:
        """Answer the OPTIONS request by which a browser asks whether it may send another one.

        Args:
            headers: of the request.
            methods: those that are served.
        """
        said = [("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
        allowed = self._allowed(headers)
        if allowed is not None:
            said += [
                *self._admit(allowed),
                ("Access-Control-Allow-Methods", ", ".join(methods)),
                ("Access-Control-Max-Age", str(self.max_age)),
            ]
            names = headers.get("access-control-request-headers", "")
            if len(names) <= _MAX_NAMES and _HEADER_NAMES.match(names):
                said.append(("Access-Control-Allow-Headers", names))
        return Answer(204, said)

    def allow(self, answer: Answer, headers: Headers, exposed: Iterable[str] = ()) -> Answer:
        """Return an answer that the page which sent the request may read, if its origin is allowed.

        Args:
            answer: to the request.
            headers: of the request.
            exposed: names of headers of the answer that its scripts may read, in addition to those of objects.
        """
        added = [] if "*" in self.origins else [("Vary", "Origin")]
        allowed = self._allowed(headers)
        if allowed is not None:
            metadata = (name for name, _ in answer.headers if name.startswith(METADATA_PREFIX))
            added += [
                *self._admit(allowed),
                ("Access-Control-Expose-Headers", ", ".join(dict.fromkeys((*_EXPOSED, *exposed, *metadata)))),
            ]
        return replace(answer, headers=[*answer.headers, *added])

    def _admit(self, origin: str) -> list[tuple[str, str]]:
        with_credentials = [("Access-Control-Allow-Credentials", "true")] if self.credentials else []
        return [("Access-Control-Allow-Origin", origin), *with_credentials]

    def _allowed(self, headers: Headers) -> str | None:
        if "*" in self.origins:
            return "*"
        origin = headers.get("origin", "")
        return origin if origin in self.origins else None


def _is_origin(text: str) -> bool:
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or text != text.lower():
        return False
    parts = urlsplit(text)
    if "*" in text:  # an origin is compared as a whole: a pattern would match no page
        return False
    return bool(parts.scheme and parts.netloc) and text == f"{parts.scheme}://{parts.netloc}" and "@" not in text
