"""tuspy, as a command that prints its events: one JSON object a line, the result last.

``python -m tests.uploads.clients.tuspy_client FILE ENDPOINT [--options JSON] [--headers JSON] [--previous FILE]
[--asynchronous]``. The options are the keyword arguments of tuspy's ``Uploader``: chunk_size, metadata, retries,
retry_delay, upload_checksum, url, … With ``--previous`` the URLs of uploads are stored in this file, and an unfinished
upload of the same FILE is resumed. ``--asynchronous`` uses tuspy's client on aiohttp.

Events: request (method POST, url) for each creation, chunk (accepted, total), result (ok, url; or error, status and
body of the answer). The exit code is 0 if the result is ok.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
import argparse
import asyncio
import json
import sys
from typing import Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader.uploader import AsyncUploader, Uploader


def report(event: str, **fields: Any) -> None:
    """Print an event."""
    print(json.dumps({"event": event, **fields}), flush=True)


class _Uploader(Uploader):
    def create_url(self) -> Any:
        report("request", method="POST", url=self.client.url if self.client else None)
        return super().create_url()

    def upload_chunk(self) -> None:
        super().upload_chunk()
        report("chunk", accepted=self.offset, total=self.get_file_size())


class _AsyncUploader(AsyncUploader):
    async def create_url(self) -> Any:
        report("request", method="POST", url=self.client.url if self.client else None)
        return await super().create_url()

    async def upload_chunk(self) -> None:
        await super().upload_chunk()
        report("chunk", accepted=self.offset, total=self.get_file_size())


def main() -> int:
    """Upload, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("endpoint")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--headers", type=json.loads, default={})
    parser.add_argument("--previous")
    parser.add_argument("--asynchronous", action="store_true")
    options = parser.parse_args()
    keywords = {"client": TusClient(options.endpoint, headers=options.headers), **options.options}
    if options.previous:
        keywords |= {"store_url": True, "url_storage": FileStorage(options.previous)}
    uploader: Any = None
    try:
        if options.asynchronous:
            uploader = _AsyncUploader(options.file, **keywords)
            asyncio.run(uploader.upload())
        else:
            uploader = _Uploader(options.file, **keywords)
            uploader.upload()
    except TusCommunicationError as error:
        body = error.response_content
        text = body.decode(errors="replace") if isinstance(body, bytes) else None
        report("result", ok=False, error=str(error), status=error.status_code, body=text)
        return 1
    report("result", ok=True, url=uploader.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
