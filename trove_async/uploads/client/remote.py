"""`RemoteUpload`: what a server says of an upload."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from trove_async.uploads.info import FinalAnswer
from trove_async.uploads.metadata import NO_METADATA, MetaData

__all__ = ["ProtocolName", "RemoteUpload"]

ProtocolName = Literal["tus", "ietf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteUpload:
    """An upload on a server.

    Attributes:
        url: its URL. On some servers, everyone who knows it may use it.
        offset: bytes that the server has.
        size: of the whole upload; None while it is not known.
        is_finished: the server has all bytes, and has accepted them.
        metadata: as the server has it; only tus servers say it, and only when they are asked (`Client.info`).
        expires_at: when the server removes it unless it is continued; None if it does not say so.
        resumed_at: bytes that the server had from an earlier run; 0 for an upload that began in this call.
        answer: what the server answered to the last bytes; None if that answer was lost.
    """

    url: str
    offset: int
    size: int | None = None
    is_finished: bool = False
    metadata: MetaData = NO_METADATA
    expires_at: datetime | None = None
    resumed_at: int = 0
    answer: FinalAnswer | None = None
