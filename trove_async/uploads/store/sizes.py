"""How large the parts of a resumable upload are."""

from __future__ import annotations

from dataclasses import dataclass

from trove_async.driver.capabilities import Limits
from trove_async.driver.part_plan import PartPlan
from trove_async.errors import ContentTooLargeError, InvalidArgumentError, UnsupportedError
from trove_async.uploads.info import lowest

__all__ = ["PartSizes"]

_LARGEST = 5 << 40  # bytes of an object where no limit is known: as much as the largest that S3 has


@dataclass(frozen=True, slots=True)
class PartSizes:
    """The sizes of the parts of the uploads of a store.

    Attributes:
        limits: of the backend.
        part_size: bytes of a part if they suffice.
        memory: bytes that a part may have, since it is sent from memory.
        max_size: bytes of an upload; None without a limit.
    """

    limits: Limits
    part_size: int
    memory: int
    max_size: int | None

    def fixed(self, size: int | None, max_size: int | None) -> int | None:
        """Return the size of all parts of a new upload but the last; None if they grow.

        Args:
            size: of the upload; None if it is not known yet.
            max_size: that this upload may have; None for that of the store.

        Raises:
            UnsupportedError: the backend needs parts of one size, and nothing is known of the size of the upload.
            ContentTooLargeError: the upload needs more parts than the backend takes, or larger ones than the memory.
        """
        if size is None and self.limits.equal_parts:
            size = lowest(max_size, self.max_size)
            if size is None:
                raise UnsupportedError(
                    "this backend needs parts of one size: give max_size=, or create the upload with its length"
                )
        return None if size is None else self._size_for(1, size)

    def size_of(self, number: int, fixed: int | None) -> int:
        """Return the size of a part that is not the last.

        Args:
            number: of the part.
            fixed: what `fixed` returned.

        Raises:
            ContentTooLargeError: there are no more parts.
        """
        return self._size_for(number, None) if fixed is None else fixed

    def _size_for(self, number: int, size: int | None) -> int:
        plan = self._plan
        try:
            return plan.size_for(number, size)
        except InvalidArgumentError as error:
            raise ContentTooLargeError(
                f"the upload does not fit into {plan.max_parts} parts of {plan.max_part_size} bytes, which the backend "
                "takes and the memory for uploads allows"
            ) from error

    @property
    def _plan(self) -> PartPlan:
        max_part_size = min(self.limits.max_part_size or self.memory, self.memory)
        return PartPlan(
            part_size=min(max(self.part_size, self.limits.min_part_size), max_part_size),
            max_parts=self.limits.max_parts,
            max_part_size=max_part_size,
            max_size=_LARGEST,
            equal=self.limits.equal_parts,
        )
