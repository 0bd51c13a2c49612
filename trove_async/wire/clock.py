"""`ServiceClock`: the time by which requests are signed, corrected where this machine's clock is wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping

from trove_async.wire.fields import parse_http_date

__all__ = ["ServiceClock"]


class ServiceClock:
    """The service's clock, as far as its answers have shown it."""

    __slots__ = ("_skew",)

    def __init__(self) -> None:
        self._skew = 0.0

    @property
    def now(self) -> float:
        """The time in seconds of the epoch."""
        return time.time() + self._skew

    def correct(self, headers: Mapping[str, str], least: float) -> bool:
        """Adopt the ``Date`` of an answer if it differs by ``least`` seconds or more; tell whether it was adopted."""
        date = parse_http_date(headers.get("date"))
        if date is None:
            return False
        skew = date.timestamp() - time.time()
        if abs(skew - self._skew) < least:
            return False
        self._skew = skew
        return True
