"""The conformance suite: the requirements for every driver, as pytest classes for one `Harness`.

Run it with ``pytest --trove-driver=module:harness``; see ``docs/drivers.md``. `ConformanceSuite` is in
`trove_async.testing.conformance.suite`, which needs the extra ``testing``.
"""

from trove_async.testing.conformance.harness import Harness, HTTPClient, HTTPResponse

__all__ = ["HTTPClient", "HTTPResponse", "Harness"]
