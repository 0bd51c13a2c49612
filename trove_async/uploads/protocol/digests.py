"""Digest fields (RFC 9530): ``Content-Digest`` of a request's body, ``Repr-Digest`` of a whole upload.

The algorithms are those of the registry "Hash Algorithms for HTTP Digest Fields" that `trove_async.checksums` has.
The deprecated ones are compared too: against accidents they are good enough, and clients send them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from trove_async.checksums import Checksum, is_available
from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.uploads.protocol.fields import dictionary
from trove_async.web.http import Headers

__all__ = ["DIGESTS", "format_digests", "parse_digests"]

_ALGORITHMS: Final[Mapping[str, str]] = {
    "sha-512": "sha512",
    "sha-256": "sha256",
    "sha": "sha1",
    "md5": "md5",
    "crc32c": "crc32c",
}
_MOST_WANTED: Final = 10

DIGESTS: Final = tuple(each for each in _ALGORITHMS.values() if is_available(each))
"""The algorithms that can be compared here, as `trove_async.checksums` names them."""


def parse_digests(headers: Headers, name: str) -> dict[str, str]:
    """Return the digests of a field, algorithm to lower-case hex.

    Unknown algorithms are left out, and so is crc32c where its package is missing: a recipient may ignore any of them.
    A field that is malformed, or has a value that is no byte sequence, is ignored.

    Raises:
        InvalidArgumentError: a digest does not have the length of its algorithm, so that it cannot match.
    """
    members = dictionary(headers, name)
    found: dict[str, str] = {}
    for key, value in members.items():
        if not isinstance(value, bytes):
            return {}
        if key in _ALGORITHMS:
            try:
                checksum = Checksum(_ALGORITHMS[key], value.hex())
            except MissingDependencyError:
                continue
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"{name}: {len(value)} bytes are no {key}") from error
            found[checksum.algorithm] = value.hex()
    return found


def format_digests(digests: Mapping[str, str], headers: Headers, wanted: str) -> str | None:
    """Return the text of a field with digests; None if there are none to send.

    Args:
        digests: algorithm to hex; those that the registry does not have are left out.
        headers: of the request.
        wanted: the name of its field with preferences, such as ``want-repr-digest``: from 0, which excludes an
            algorithm, to 10. Without the field, all are sent.
    """
    preferences = dictionary(headers, wanted)

    def preference(key: str) -> int:
        value = preferences.get(key, 0) if preferences else _MOST_WANTED
        return value if isinstance(value, int) else 0

    known = [key for key, algorithm in _ALGORITHMS.items() if algorithm in digests and preference(key) > 0]
    known.sort(key=preference, reverse=True)
    members = (f"{key}=:{b64encode(bytes.fromhex(digests[_ALGORITHMS[key]])).decode()}:" for key in known)
    return ", ".join(members) or None
