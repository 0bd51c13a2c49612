"""Google Cloud Storage and Pub/Sub for tests: an in-memory server that answers as Google documents.

::

    async with GCSServer() as server:
        ...  # the code under test connects to server.url with server.service_account_info

It needs the extra ``testing``, and ``cryptography`` for its service account.
"""

from trove_async.testing.gcs.requests import LoggedRequest, RequestLog
from trove_async.testing.gcs.server import GCSServer

__all__ = ["GCSServer", "LoggedRequest", "RequestLog"]
