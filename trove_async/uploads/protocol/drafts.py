"""The versions of "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload), and in what they differ.

A client of a draft names its version in ``Upload-Draft-Interop-Version``; a client of the RFC has no such header.
tus-js-client sends 5 and 6. Others report that URLSession of Apple's systems sends 3 (iOS 17), 5 (18.0), 6 (18.1) and
8 (26.2); that was not tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trove_async.uploads.protocol.fields import whole_number
from trove_async.web.http import Headers

__all__ = ["INTEROP_VERSION", "NEWEST", "OLDEST", "Draft"]

INTEROP_VERSION: Final = "Upload-Draft-Interop-Version"
"""The header by which clients and servers name the version of a draft."""

OLDEST: Final = 3
"""The oldest version that is spoken: draft 01."""

NEWEST: Final = 9
"""The newest version that is spoken: since draft 12. What has no version is taken for the RFC, which follows it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A version.

    Attributes:
        interop: its number; None for the RFC, and for a version that is not spoken.
    """

    interop: int | None = None

    @classmethod
    def of(cls, headers: Headers) -> Draft:
        """Return the version that a request asks for."""
        number = whole_number(headers, INTEROP_VERSION.lower())
        return cls(number if number is not None and OLDEST <= number <= NEWEST else None)

    @property
    def _number(self) -> int:
        return NEWEST if self.interop is None else self.interop

    @property
    def inverts_complete(self) -> bool:
        """Whether the header is ``Upload-Incomplete``, with the opposite value of ``Upload-Complete``."""
        return self._number <= 3

    @property
    def may_omit_complete(self) -> bool:
        """Whether a PATCH without ``Upload-Complete`` completes the upload (until draft 05)."""
        return self._number <= 6

    @property
    def is_strict(self) -> bool:
        """Whether HEAD and DELETE must not have headers about the state of an upload (until draft 05)."""
        return self._number <= 6

    @property
    def appended_status(self) -> int:
        """The status of a PATCH that does not complete the upload: 201 was required until draft 05."""
        return 201 if self._number <= 6 else 204

    @property
    def needs_offset(self) -> bool:
        """Whether every answer about an active upload has its offset (until draft 05)."""
        return self._number <= 6

    @property
    def expired_status(self) -> int:
        """The status for an upload that has expired: 404 was required until draft 05."""
        return 404 if self._number <= 6 else 410

    @property
    def needs_content_type(self) -> bool:
        """Whether a PATCH must be ``application/partial-upload`` (since draft 04)."""
        return self._number >= 6

    @property
    def has_length(self) -> bool:
        """Whether a HEAD is answered with ``Upload-Length`` (since draft 05).

        tus-js-client needs it in draft 03 too: otherwise it does not notice that an upload is complete.
        """
        return self._number >= 5

    @property
    def has_limits(self) -> bool:
        """Whether answers have ``Upload-Limit`` (since draft 04)."""
        return self._number >= 6

    @property
    def age_limit(self) -> str:
        """The name of the limit for the remaining lifetime."""
        return "max-age" if self._number >= 7 else "expires"

    @property
    def deactivates(self) -> bool:
        """Whether an append beyond the upload's length makes the upload invalid (since draft 08)."""
        return self._number >= 7

    @property
    def is_of_tus_js_client(self) -> bool:
        """Whether tus-js-client (4.3, 5.0) speaks this version, so that the server makes allowance for it."""
        return self._number in (5, 6)
