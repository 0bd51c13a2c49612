"""Finding out by trying what a service supports, for drivers whose services differ from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import Condition

__all__ = ["Finding", "ProbeReport", "ProbingDriver", "find_prober"]


class Finding(Protocol):
    """One thing that was tried."""

    @property
    def name(self) -> str:
        """What was tried, such as a kind of condition."""

    @property
    def works(self) -> bool | None:
        """Whether it works; None if that could not be found out."""

    @property
    def detail(self) -> str:
        """Why it does not work, or how; may be empty."""


class ProbeReport(Protocol):
    """What a service was seen to support."""

    @property
    def findings(self) -> Sequence[Finding]:
        """Everything that was tried, in order."""

    @property
    def conditions(self) -> frozenset[Condition]:
        """The kinds of condition that are honoured."""

    @property
    def profile(self) -> str:
        """The driver's profile that fits the service best."""

    @property
    def differences(self) -> Sequence[str]:
        """The names of the findings, apart from conditions, in which the service differs from the profile."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters that the DSN should have; empty if it needs none."""


@runtime_checkable
class ProbingDriver(Protocol):
    """A driver that can find out what its service supports. This is no capability of stores; ``trove ping`` uses it."""

    async def probe(self, bucket: str | None = None) -> ProbeReport:
        """Write to a bucket and remove what was written, and report what the service supports.

        Args:
            bucket: where to write; None for the default bucket.

        Raises:
            InvalidArgumentError: there is no bucket to write to.
        """


def find_prober(driver: Driver) -> ProbingDriver | None:
    """Return the driver beneath any layers if it can probe its service, else None."""
    at = driver
    while (inner := at.unwrap()) is not None:
        at = inner
    return at if isinstance(at, ProbingDriver) else None
