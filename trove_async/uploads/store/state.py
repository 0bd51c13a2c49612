"""What is kept of an upload in an object of the store, and how it is written.

The object is the unfinished tail of the upload, then the manifest (JSON), then 16 bytes: a magic number, the version of
the format and the length of the manifest. One put replaces all of it, so that the tail and what is known of it never
disagree. The manifest is last so that a tail in memory is put without copying it.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from trove_async.driver.options import PutOptions
from trove_async.errors import BackendError
from trove_async.types import FrozenDict, PartInfo
from trove_async.uploads.info import Destination, FileInfo, FinalAnswer
from trove_async.uploads.metadata import MetaData

__all__ = ["FOOTER_SIZE", "Finishing", "Part", "State", "decode", "encode", "manifest_size"]

_FOOTER: Final = struct.Struct(">8sII")
FOOTER_SIZE: Final = _FOOTER.size
_MAGIC: Final = b"trove-up"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part of the backend's upload; ``crc32c`` is None if it is not known."""

    number: int
    etag: str
    size: int
    crc32c: int | None = None

    @property
    def info(self) -> PartInfo:
        """The part, as drivers know it."""
        return PartInfo(self.number, self.etag, self.size)


@dataclass(frozen=True, slots=True)
class Finishing:
    """The upload is about to become an object, which ``before`` was the ETag of; None if there was none."""

    before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of an upload.

    Attributes:
        info: the upload; its offset counts the parts and the tail.
        bucket, key: of the backend's upload, and of the object that it becomes: the destination, or an object of the
            store's own.
        backend_id: of the backend's upload; empty if none is open.
        appends: whether the upload is one part that grows.
        part_size: bytes of all parts but the last; None if they grow.
        parts: in order.
        running: whether a writer may have stored parts since, or is storing one.
        recoverable: whether such parts count; not while a chunk is received whose checksum is not verified yet.
        stale: numbers and ETags of parts that were stored before this state and do not count; without an ETag no part
            of the number counts. They are replaced when the upload reaches their numbers.
        tail_size: bytes of the tail.
        finishing: set before an object is replaced.
    """

    info: FileInfo
    bucket: str
    key: str
    backend_id: str
    appends: bool
    part_size: int | None = None
    parts: tuple[Part, ...] = ()
    running: bool = False
    recoverable: bool = True
    stale: tuple[tuple[int, str | None], ...] = ()
    tail_size: int = 0
    finishing: Finishing | None = None

    @property
    def stored(self) -> int:
        """Bytes of the parts."""
        return sum(part.size for part in self.parts)

    @property
    def next_number(self) -> int:
        """The number of the part that is stored next."""
        return len(self.parts) + 1

    def with_info(self, **changes: Any) -> State:
        """Return the state with other values in its `FileInfo`."""
        return replace(self, info=replace(self.info, **changes))


def encode(state: State) -> bytes:
    """Return the manifest of a state with what follows it."""
    manifest = json.dumps(_dump(state), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return manifest + _FOOTER.pack(_MAGIC, _VERSION, len(manifest))


def manifest_size(end: bytes) -> int:
    """Return the size of the manifest, from the last bytes of the object.

    Raises:
        BackendError: it is no state of an upload, or was written by a newer version of the library.
    """
    if len(end) < FOOTER_SIZE:
        raise _damaged()
    magic, version, size = _FOOTER.unpack(end[-FOOTER_SIZE:])
    if magic != _MAGIC:
        raise _damaged()
    if version != _VERSION:
        raise BackendError(
            f"the state of the upload has format {version}; this version of the library knows {_VERSION}"
        )
    return int(size)


def decode(manifest: bytes) -> State:
    """Return the state of a manifest, without what follows it.

    Raises:
        BackendError: it is damaged.
    """
    try:
        return _load(json.loads(manifest.decode("utf-8", "surrogatepass")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged() from error


def _damaged() -> BackendError:
    return BackendError("the object that keeps the state of the upload is damaged")


_PLAIN: Final = ("bucket", "key", "backend_id", "appends", "part_size", "running", "recoverable")
_PLAIN_INFO: Final = ("id", "size", "offset", "is_partial", "is_final", "max_size", "owner", "is_finished", "etag")


def _dump(state: State) -> dict[str, Any]:
    return {
        **{name: getattr(state, name) for name in _PLAIN},
        "info": _dump_info(state.info),
        "parts": [[part.number, part.etag, part.size, part.crc32c] for part in state.parts],
        "stale": [list(each) for each in state.stale],
        "tail_size": state.tail_size,
        "finishing": None if state.finishing is None else {"before": state.finishing.before},
    }


def _load(found: Mapping[str, Any]) -> State:
    finishing = found["finishing"]
    return State(
        **{name: found[name] for name in _PLAIN},
        info=_load_info(found["info"]),
        parts=tuple(Part(*part) for part in found["parts"]),
        stale=tuple((number, etag) for number, etag in found["stale"]),
        tail_size=int(found["tail_size"]),
        finishing=None if finishing is None else Finishing(finishing["before"]),
    )


def _dump_info(info: FileInfo) -> dict[str, Any]:
    to, answer = info.destination, info.answer
    return {
        **{name: getattr(info, name) for name in _PLAIN_INFO},
        "metadata": info.metadata.header,
        "partial_ids": list(info.partial_ids),
        "digests": dict(info.digests),
        "created_at": None if info.created_at is None else info.created_at.isoformat(),
        "expires_at": None if info.expires_at is None else info.expires_at.isoformat(),
        "destination": None if to is None else _dump_destination(to),
        "answer": None
        if answer is None
        else {
            "status": answer.status,
            "headers": [list(header) for header in answer.headers],
            "body": b64encode(answer.body).decode(),
        },
    }


def _dump_destination(to: Destination) -> dict[str, Any]:
    return {
        "bucket": to.bucket,
        "key": to.key,
        "options": to.options.dump(),
        "if_match": to.options.if_match,
        "if_none_match": to.options.if_none_match,
    }


def _load_info(found: Mapping[str, Any]) -> FileInfo:
    to, answer = found["destination"], found["answer"]
    return FileInfo(
        **{name: found[name] for name in _PLAIN_INFO},
        metadata=MetaData.parse(found["metadata"]),
        partial_ids=tuple(found["partial_ids"]),
        digests=FrozenDict(found["digests"]),
        created_at=_time(found["created_at"]),
        expires_at=_time(found["expires_at"]),
        destination=None if to is None else _load_destination(to),
        answer=None
        if answer is None
        else FinalAnswer(
            answer["status"], tuple((name, value) for name, value in answer["headers"]), b64decode(answer["body"])
        ),
    )


def _load_destination(found: Mapping[str, Any]) -> Destination:
    options = replace(
        PutOptions.load(found["options"]), if_match=found["if_match"], if_none_match=found["if_none_match"]
    )
    return Destination(found["bucket"], found["key"], options)


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
