"""The Azure driver on Azurite, under every check."""

from __future__ import annotations

import pytest

from tests.azure.harness import azurite
from trove_async.testing.conformance.context import Context
from trove_async.testing.conformance.suite import ConformanceSuite


class TestAzure(ConformanceSuite):
    harness = azurite

    # Of a delimiter Azurite 3.35 takes the first character alone, though "the delimiter can be a single character or a
    # string" (List Blobs). And no key has a backslash.
    @pytest.mark.parametrize("delimiter", ["☺", "-", "a", " "])
    async def test_t09_other_delimiters(self, ctx: Context, delimiter: str) -> None:
        """Any text parts keys into groups."""
        await super().test_t09_other_delimiters(ctx, delimiter)
