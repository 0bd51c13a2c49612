"""The metadata of a resumable upload: names and values, byte for byte as the client sent them."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, overload

from trove_async.errors import InvalidMetadataError

__all__ = ["MAX_METADATA", "NO_METADATA", "MetaData"]

MAX_METADATA: Final = 16 * 1024
"""Characters of an ``Upload-Metadata`` header that are accepted; servers take 64 KiB of headers at the most."""

_NAME: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+\Z")  # ASCII without spaces and commas


class MetaData(Mapping[str, bytes]):
    """Names and values in their order, immutable.

    Values are bytes: the protocol does not say what they mean, and a file's name need not be UTF-8.

    Args:
        pairs: names, of ASCII without spaces and commas, and values; text is encoded as UTF-8.

    Raises:
        InvalidMetadataError: a name is empty, invalid or occurs twice, or all of it has more than `MAX_METADATA`
            characters as a header.
    """

    __slots__ = ("_header", "_values")

    def __init__(self, pairs: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = ()) -> None:
        given = pairs.items() if isinstance(pairs, Mapping) else pairs
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise InvalidMetadataError(f"metadata is a mapping, or pairs of names and values, not {pairs!r}")
        values: dict[str, bytes] = {}
        for name, value in given:
            if not isinstance(value, str | bytes | bytearray | memoryview):
                raise InvalidMetadataError(f"the value of {name!r} in the metadata is text or bytes, not {value!r}")
            _add(values, name, value.encode() if isinstance(value, str) else bytes(value))
        self._values = values
        self._header = ",".join(
            f"{name} {b64encode(value).decode()}" if value else name for name, value in values.items()
        )
        _check_length(self._header)

    @classmethod
    def parse(cls, header: str) -> MetaData:
        """Return the metadata of an ``Upload-Metadata`` header (tus 1.0, creation); `header` returns it unchanged.

        Raises:
            InvalidMetadataError: it is not a list of names and base64 values, or has a name twice.
        """
        _check_length(header)
        values: dict[str, bytes] = {}
        if header:
            for item in header.split(","):
                name, _, encoded = item.strip(" ").partition(" ")
                try:
                    value = b64decode(encoded.strip(" "), validate=True)
                except (Base64Error, ValueError) as error:
                    raise InvalidMetadataError(f"the value of {name!r} in the metadata is not base64") from error
                _add(values, name, value)
        made = cls.__new__(cls)
        made._values, made._header = values, header
        return made

    @property
    def header(self) -> str:
        """The value of the header ``Upload-Metadata``; empty if there is no metadata."""
        return self._header

    @overload
    def text(self, name: str) -> str | None: ...
    @overload
    def text(self, name: str, default: str) -> str: ...
    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a value as text; the default if it is missing or not UTF-8."""
        try:
            return self._values[name].decode()
        except (KeyError, UnicodeDecodeError):
            return default

    def __getitem__(self, name: str) -> bytes:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MetaData):
            return list(self._values.items()) == list(other._values.items())
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"MetaData({self._values!r})"


def _add(values: dict[str, bytes], name: str, value: bytes) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidMetadataError(f"{name!r} is no name for metadata: use ASCII without spaces and commas")
    if name in values:
        raise InvalidMetadataError(f"the metadata has the name {name!r} twice")
    values[name] = value


def _check_length(header: str) -> None:
    if len(header) > MAX_METADATA:
        raise InvalidMetadataError(f"the metadata has {len(header)} characters; at most {MAX_METADATA} are accepted")


NO_METADATA: Final = MetaData()
"""No metadata; shared."""
