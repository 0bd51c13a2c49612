"""The server works with Google's own Python client, google-cloud-storage."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.api_core.exceptions import Conflict, NotFound, PreconditionFailed
from google.auth import jwt
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from trove_async.testing.gcs import GCSServer

MIB = 1 << 20


@pytest_asyncio.fixture
async def google(server: GCSServer) -> AsyncIterator[Client]:
    """The client with the service account's key; tests call it in threads because it blocks."""
    credentials = signer(server)
    # Without a boundary, a thread of google-auth asks iamcredentials.googleapis.com for one.
    boundary = {"encodedLocations": "0x0", "expiry": datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)}
    credentials._set_regional_access_boundary(boundary)  # type: ignore[no-untyped-call]
    client = Client(server.project, credentials, client_options={"api_endpoint": server.url})
    yield client
    await asyncio.to_thread(client.close)


def signer(server: GCSServer) -> service_account.Credentials:
    info = server.service_account_info
    made: service_account.Credentials
    made = service_account.Credentials.from_service_account_info(info)  # type: ignore[no-untyped-call]
    return made


async def run(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)


@pytest.mark.asyncio
async def test_buckets(google: Client, server: GCSServer) -> None:
    def work() -> None:
        for name in ("bucket-b", "bucket-a"):
            google.create_bucket(name, location="europe-west3")
        assert [bucket.name for bucket in google.list_buckets()] == ["bucket-a", "bucket-b"]
        assert [bucket.name for bucket in google.list_buckets(max_results=1)] == ["bucket-a"]
        bucket = google.get_bucket("bucket-a")
        assert (bucket.location, bucket.storage_class) == ("EUROPE-WEST3", "STANDARD")
        with pytest.raises(Conflict):
            google.create_bucket("bucket-a")
        bucket.labels = {"team": "a"}
        bucket.patch()
        assert google.get_bucket("bucket-a").labels == {"team": "a"}
        bucket.delete()
        assert google.lookup_bucket("bucket-a") is None
        assert google.bucket("bucket-b").exists()
        with pytest.raises(NotFound):
            bucket.delete()

    await run(work)
    assert server.tokens_issued == 1


@pytest.mark.asyncio
async def test_uploads_and_downloads(google: Client, server: GCSServer, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4 * 1024 * 3  # 3 MiB
    path = tmp_path / "file.png"
    path.write_bytes(data)

    def work() -> None:
        bucket = google.create_bucket("assets")
        text = bucket.blob("dir/text ü.txt")
        text.metadata = {"author": "me"}
        text.upload_from_string("hello", content_type="text/markdown")
        assert (text.size, text.content_type, text.metadata) == (5, "text/markdown", {"author": "me"})
        assert text.md5_hash == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
        assert text.download_as_text() == "hello"
        assert text.download_as_bytes(start=1, end=3) == b"ell"
        file = bucket.blob("file")
        file.upload_from_filename(path, checksum="crc32c")
        assert (file.size, file.content_type) == (len(data), "image/png")
        file.download_to_filename(tmp_path / "copy", checksum="md5")
        chunked = bucket.blob("chunked", chunk_size=MIB)
        chunked.upload_from_file(io.BytesIO(data), content_type="a/b")
        with bucket.blob("streamed").open("wb", chunk_size=MIB) as writer:
            writer.write(data)
        with bucket.blob("streamed").open("rb", chunk_size=MIB) as reader:
            assert reader.read() == data
        assert chunked.download_as_bytes() == data

    await run(work)
    assert (tmp_path / "copy").read_bytes() == data
    assert {item.name: item.data for item in server.objects("assets")} == {
        "dir/text ü.txt": b"hello",
        "file": data,
        "chunked": data,
        "streamed": data,
    }
    assert server.requests.count("POST", "uploadType=multipart", 200) == 2
    assert server.requests.count("POST", "uploadType=resumable", 200) == 2
    assert server.requests.count("PUT", "upload_id=", 308) == 6


@pytest.mark.asyncio
async def test_lists(google: Client) -> None:
    def work() -> None:
        bucket = google.create_bucket("assets")
        for name in ("a/1", "a/2", "b/1", "c"):
            bucket.blob(name).upload_from_string(b"")
        assert [blob.name for blob in google.list_blobs("assets", page_size=1)] == ["a/1", "a/2", "b/1", "c"]
        assert [blob.name for blob in bucket.list_blobs(prefix="a/")] == ["a/1", "a/2"]
        assert [blob.name for blob in bucket.list_blobs(match_glob="*/1")] == ["a/1", "b/1"]
        assert [blob.name for blob in bucket.list_blobs(start_offset="a/2", end_offset="c")] == ["a/2", "b/1"]
        found = bucket.list_blobs(delimiter="/", fields="items(name,size),prefixes,nextPageToken")
        assert [blob.name for blob in found] == ["c"]
        assert found.prefixes == {"a/", "b/"}

    await run(work)


@pytest.mark.asyncio
async def test_metadata_copies_and_moves(google: Client, server: GCSServer) -> None:
    def work() -> None:
        bucket, other = google.create_bucket("assets"), google.create_bucket("others")
        blob = bucket.blob("a")
        blob.upload_from_string("hello", content_type="text/plain")
        blob.metadata, blob.cache_control = {"k": "v"}, "no-store"
        blob.patch()
        found = bucket.get_blob("a")
        assert (found.metadata, found.cache_control, found.metageneration) == ({"k": "v"}, "no-store", 2)
        copy = bucket.copy_blob(blob, other, "copy")
        assert (copy.metadata, copy.content_type) == ({"k": "v"}, "text/plain")
        token, written, total = other.blob("rewritten").rewrite(blob)
        assert (token, written, total) == (None, 5, 5)
        blob.update_storage_class("NEARLINE")
        assert bucket.get_blob("a").storage_class == "NEARLINE"
        other.blob("both").compose([other.blob("copy"), other.blob("rewritten")])
        assert other.blob("both").download_as_bytes() == b"hellohello"
        moved = bucket.move_blob(bucket.get_blob("a"), "b", if_generation_match=0)
        assert (moved.name, moved.storage_class, moved.metadata) == ("b", "NEARLINE", {"k": "v"})
        assert bucket.rename_blob(moved, "c").name == "c"

    await run(work)
    assert [item.name for item in server.objects("assets")] == ["c"]


@pytest.mark.asyncio
async def test_deletion_in_batches(google: Client, server: GCSServer) -> None:
    def work() -> None:
        bucket = google.create_bucket("assets")
        for number in range(5):
            bucket.blob(f"dir/ü {number}").upload_from_string(b"")
        with google.batch():
            bucket.delete_blobs([bucket.blob(f"dir/ü {number}") for number in range(4)])
        with google.batch():
            last = bucket.blob("dir/ü 4")
            last.metadata = {"k": "v\n\n--v"}
            last.patch()
        assert last.metageneration == 2
        with pytest.raises(NotFound), google.batch():
            bucket.delete_blob("missing")
        missing: list[Any] = []
        bucket.delete_blobs(["dir/ü 4", "gone"], on_error=missing.append)
        assert missing == ["gone"]
        bucket.delete(force=True)

    await run(work)
    assert server.requests.count("POST", "/batch/storage/v1", 200) == 3
    assert server.buckets() == []


@pytest.mark.asyncio
async def test_preconditions_and_generations(google: Client) -> None:
    def work() -> None:
        bucket = google.create_bucket("assets")
        bucket.versioning_enabled = True
        bucket.patch()
        blob = bucket.blob("a")
        blob.upload_from_string("first", if_generation_match=0)
        first = blob.generation
        with pytest.raises(PreconditionFailed):
            blob.upload_from_string("second", if_generation_match=0)
        blob.upload_from_string("second", if_generation_match=first)
        with pytest.raises(PreconditionFailed):
            bucket.delete_blob("a", if_generation_match=first)
        assert bucket.blob("a", generation=first).download_as_bytes() == b"first"
        assert len(list(bucket.list_blobs(versions=True))) == 2
        bucket.copy_blob(blob, bucket, "a", source_generation=first)
        assert bucket.blob("a").download_as_bytes() == b"first"
        bucket.delete_blobs(list(bucket.list_blobs(versions=True)), preserve_generation=True)
        assert list(bucket.list_blobs(versions=True)) == []

    await run(work)


@pytest.mark.asyncio
async def test_lifecycle_rules(google: Client, server: GCSServer) -> None:
    def work() -> None:
        bucket = google.create_bucket("assets")
        bucket.add_lifecycle_delete_rule(age=7, matches_prefix=["tmp/"])
        bucket.add_lifecycle_set_storage_class_rule("COLDLINE", age=30)
        bucket.patch()
        assert [rule["action"]["type"] for rule in google.get_bucket("assets").lifecycle_rules] == [
            "Delete",
            "SetStorageClass",
        ]
        bucket.clear_lifecycle_rules()
        bucket.patch()
        assert list(google.get_bucket("assets").lifecycle_rules) == []

    await run(work)


@pytest.mark.asyncio
async def test_signed_urls(google: Client, server: GCSServer, stranger: httpx.AsyncClient) -> None:
    bucket = await asyncio.to_thread(google.create_bucket, "assets")

    def signed(method: str, **more: Any) -> str:
        url: str = bucket.blob("dir/a b").generate_signed_url(
            timedelta(minutes=5), version="v4", method=method, api_access_endpoint=server.url, **more
        )
        return url

    put = await stranger.put(signed("PUT", content_type="a/b"), content=b"data", headers={"Content-Type": "a/b"})
    assert put.status_code == 200, put.text
    got = await stranger.get(signed("GET", response_disposition="attachment"))
    assert (got.content, got.headers["Content-Type"]) == (b"data", "a/b")
    assert got.headers["Content-Disposition"] == "attachment"
    assert (await stranger.get(signed("PUT"))).status_code == 403


@pytest.mark.asyncio
async def test_a_self_signed_jwt_needs_no_token(server: GCSServer) -> None:
    credentials = jwt.Credentials.from_signing_credentials(signer(server), f"{server.url}/")  # type: ignore[no-untyped-call]
    client = Client(server.project, credentials, client_options={"api_endpoint": server.url})

    def work() -> None:
        client.create_bucket("assets", retry=DEFAULT_RETRY)
        client.bucket("assets").blob("a").upload_from_string("data")
        client.close()

    await run(work)
    assert server.objects("assets")[0].data == b"data"
    assert server.tokens_issued == 0
