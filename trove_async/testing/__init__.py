"""Tools for tests of drivers, layers and applications.

`trove_async.testing.conformance` is the suite that every driver passes. If pytest-asyncio is
installed, tests have the fixture ``throwaway_store``: a store in memory with a bucket named ``bucket``.
"""

from trove_async.testing.helpers import assert_same_object, random_bytes, read_all, sample_object

__all__ = ["assert_same_object", "random_bytes", "read_all", "sample_object"]
