"""The client of resumable uploads: tus 1.0 and Resumable Uploads for HTTP.

``docs/uploads-client.md`` is the guide.
"""

from importlib.util import find_spec

from trove_async.errors import MissingDependencyError

if find_spec("httptools") is None:
    raise MissingDependencyError("the client of uploads needs 'httptools': pip install 'trove-async[client]'")

from trove_async.uploads.client.client import Client
from trove_async.uploads.client.remote import RemoteUpload

__all__ = ["Client", "RemoteUpload"]
