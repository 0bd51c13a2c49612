"""How large the parts of an upload are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trove_async.errors import InvalidArgumentError

__all__ = ["MIB", "PartPlan"]

MIB: Final = 1024 * 1024

_DOUBLINGS: Final = 10
"""Into how many runs of equal parts an upload of unknown length is divided; the size doubles from run to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlan:
    """The sizes of the parts of an upload, in bytes.

    Attributes:
        part_size: of all parts but the last, if they suffice.
        max_parts, max_part_size, max_size: what the service allows.
        multiple: larger parts are a multiple of it.
        equal: whether the service wants all parts but the last to have one size.
    """

    part_size: int
    max_parts: int
    max_part_size: int
    max_size: int
    multiple: int = MIB
    equal: bool = False

    def size_for(self, number: int, total: int | None) -> int:
        """Return the size of a part.

        The parts of a body of known length are equal. Those of another begin at `part_size` and double with every
        tenth of the parts that are allowed, so that they hold the largest object that the service takes.

        Args:
            number: of the part, from 1.
            total: the length of the body; None if it is unknown.

        Raises:
            InvalidArgumentError: the service takes no object of this length, or no more parts.
        """
        if total is not None:
            return self._fixed(total)
        if number > self.max_parts:
            raise InvalidArgumentError(
                f"the body does not fit into {self.max_parts} parts, which begin at {self.part_size} bytes: "
                "open the store with a larger part_size, or give put() the size"
            )
        if self.equal:
            return self.part_size
        run = (number - 1) // -(-self.max_parts // _DOUBLINGS)
        return min(self.part_size << run, self.max_part_size)

    def _fixed(self, total: int) -> int:
        largest = min(self.max_size, self.max_part_size * self.max_parts)
        if total > largest:
            raise InvalidArgumentError(f"the body has {total} bytes; the service takes {largest} in one object")
        needed = -(-total // self.max_parts)
        if needed <= self.part_size:
            return self.part_size
        return min(-(-needed // self.multiple) * self.multiple, self.max_part_size)
