"""The requests for proofs of access, as changes within a transaction. They are in the catalogue, for all processes."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from trove_async.database import now
from trove_async.errors import NotFoundError, ThrottledError, UploadPendingError
from trove_async.managed.links import Link, give
from trove_async.managed.proof import NONCE_BYTES, choose_ranges
from trove_async.managed.resources import ManagedResource, RequestResponse
from trove_async.managed.schema import ATTEMPTS, REQUESTS, State
from trove_async.managed.transitions import Blob, Blobs
from trove_async.types import FrozenDict

__all__ = ["Answer", "Challenge", "accept", "find", "make"]

LIFETIME: Final = 60.0
"""Seconds for which a request can be answered."""

MOST_FAILURES: Final = 3
"""Wrong answers of its caller that end a request."""

MOST_REQUESTS: Final = 10
"""Requests of one caller for one content in a minute."""

_PERIOD: Final = 60.0


class Answer(Enum):
    """What an answer has come to."""

    ACCEPTED = "accepted"
    WRONG = "wrong"
    EXPIRED = "expired"
    """There is no such request, or no longer."""
    DELETED = "deleted"
    """The content is gone, and so is the request."""
    PENDING = "pending"
    """The content was condemned, and a writer stores it again. The request stays."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A request, and where the bytes are that it asks for.

    Attributes:
        request: what the caller got.
        caller: who may answer.
        link: the name that the content gets.
        digest: of the content.
        blob: has the bytes; None if there is none any more.
    """

    request: RequestResponse
    caller: str
    link: Link
    digest: str
    blob: Blob | None


_OVERDUE: Final = delete(REQUESTS).where(REQUESTS.c.expires_at <= now())
_OLD: Final = delete(ATTEMPTS).where(ATTEMPTS.c.made_at <= now(seconds=-_PERIOD))
_RECENT: Final = select(func.count(), func.min(ATTEMPTS.c.made_at, type_=ATTEMPTS.c.made_at.type)).where(
    *(ATTEMPTS.c[name] == bindparam(name) for name in ("space", "caller", "digest")),
    ATTEMPTS.c.made_at > now(seconds=-_PERIOD),
)
_REQUEST: Final = select(REQUESTS, (REQUESTS.c.expires_at > now()).label("answerable")).where(
    REQUESTS.c.id == bindparam("id"), REQUESTS.c.space == bindparam("space")
)


def make(connection: Connection, space: str, caller: str, link: Link, digest: str) -> Challenge:
    """Make a request.

    Raises:
        NotFoundError: the content is not stored.
        UploadPendingError: it is not stored completely yet.
        ThrottledError: the caller has made too many requests for it.
    """
    connection.execute(_OVERDUE)
    connection.execute(_OLD)
    time = connection.execute(select(now())).scalar_one()
    count, oldest = connection.execute(_RECENT, {"space": space, "caller": caller, "digest": digest}).one()
    if count >= MOST_REQUESTS:
        wait = max(0.0, _PERIOD - (time - oldest).total_seconds())
        raise ThrottledError(
            f"the caller has made {count} requests for this content in a minute; store it, or try again later",
            retry_after=wait,
        )
    blob = _available(connection, space, digest)
    if blob is None:
        raise NotFoundError("no content has this SHA-384; store it")
    if blob.state is State.PENDING:
        raise UploadPendingError
    request = RequestResponse(
        secrets.token_urlsafe(16),
        secrets.token_bytes(NONCE_BYTES),
        choose_ranges(blob.length),
        time + timedelta(seconds=LIFETIME),
    )
    connection.execute(insert(REQUESTS).values(**_row(space, caller, link, digest, request)))
    attempt = {"request": request.request_id, "space": space, "caller": caller, "digest": digest}
    connection.execute(insert(ATTEMPTS).values(**attempt, made_at=now()))
    return Challenge(request, caller, link, digest, blob)


def find(connection: Connection, space: str, request_id: str) -> Challenge | None:
    """Return a request that was made by this or another process; None if it cannot be answered any more."""
    row = connection.execute(_REQUEST, {"id": request_id, "space": space}).first()
    if row is None or not row.answerable:
        return None
    ranges = tuple((start, size) for start, size in json.loads(row.ranges))
    request = RequestResponse(row.id, row.nonce, ranges, row.expires_at)
    return Challenge(request, row.caller, _link(row), row.digest, _available(connection, space, row.digest))


def accept(connection: Connection, space: str, challenge: Challenge, caller: str, *, is_right: bool | None) -> Answer:
    """Take an answer.

    Args:
        connection: of the transaction.
        space: of the store.
        challenge: the request.
        caller: who answers; the answers of others than the one who made it change nothing.
        is_right: whether the proof is right; None if the bytes are gone.
    """
    row = connection.execute(_REQUEST, {"id": challenge.request.request_id, "space": space}).first()
    if row is None or not row.answerable:
        return Answer.EXPIRED
    if row.caller != caller:
        return Answer.WRONG
    if is_right is False:
        _count_failure(connection, row)
        return Answer.WRONG
    blobs = Blobs(connection, space)
    blob = blobs.live("sha384", row.digest)
    if blob is not None and blob.state is State.PENDING:
        return Answer.PENDING
    connection.execute(delete(REQUESTS).where(REQUESTS.c.id == row.id))
    if is_right is None or (blob is not None and blob.state is State.LOST):
        return Answer.DELETED
    if blob is None and challenge.blob is not None:
        blob = _revived(blobs, challenge.blob.id)
    if blob is None:
        return Answer.DELETED
    give(connection, space, blobs, _link(row), blob)
    return Answer.ACCEPTED


def _count_failure(connection: Connection, row: Any) -> None:
    where = REQUESTS.c.id == row.id
    if row.failures + 1 >= MOST_FAILURES:
        connection.execute(delete(REQUESTS).where(where))
    else:
        connection.execute(update(REQUESTS).where(where).values(failures=row.failures + 1))


def _available(connection: Connection, space: str, digest: str) -> Blob | None:
    """Return the blob of content, which may be condemned; None if there is none that has its bytes."""
    blobs = Blobs(connection, space)
    blob = blobs.live("sha384", digest)
    if blob is None:
        return blobs.condemned("sha384", digest)
    return None if blob.state is State.LOST else blob


def _revived(blobs: Blobs, id: str) -> Blob | None:
    """Take the blob back whose bytes the proof was compared with; return None if the sweep was faster."""
    for blob in blobs.named([id]):
        if blob.state is State.CONDEMNED:
            blobs.revive(blob)
            return blob
    return None


def _row(space: str, caller: str, link: Link, digest: str, request: RequestResponse) -> dict[str, Any]:
    return {
        "id": request.request_id,
        "space": space,
        "caller": caller,
        "bucket": link.resource.bucket,
        "user": link.resource.user,
        "path": link.resource.path,
        "content_type": link.content_type,
        "metadata": json.dumps(dict(link.metadata)),
        "digest": digest,
        "nonce": request.nonce,
        "ranges": json.dumps(request.ranges),
        "failures": 0,
        "expires_at": request.expires,
    }


def _link(row: Any) -> Link:
    resource = ManagedResource(row.bucket, row.user, row.path)
    return Link(resource, row.content_type, FrozenDict(json.loads(row.metadata)))
