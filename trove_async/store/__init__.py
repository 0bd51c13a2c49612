"""What users hold: `open`, `Trove` and `Bucket`."""

from trove_async.store.bucket import Bucket
from trove_async.store.bulk import BulkDelete
from trove_async.store.trove import Trove, open
from trove_async.store.watch import Watch

__all__ = ["Bucket", "BulkDelete", "Trove", "Watch", "open"]
