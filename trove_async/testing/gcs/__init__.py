"""Google Cloud Storage and Pub/Sub for tests: a server in memory that answers as Google documents.

::

    async with GCSServer() as server:
        ...  # what is tested talks to server.url, with server.service_account_info

It needs the extra ``testing``, and ``cryptography`` for its service account.
"""

from trove_async.testing.gcs.requests import RequestLog, Seen
from trove_async.testing.gcs.server import GCSServer

__all__ = ["GCSServer", "RequestLog", "Seen"]
