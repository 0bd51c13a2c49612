"""Lists and copies in the XML API."""

from __future__ import annotations

from xml.etree import ElementTree

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_xml_error
from tests.gcs_server.test_xml import texts
from trove_async.testing.gcs import GCSServer

NAMES = ["a/1", "a/2", "b", "c/ä&", "d"]
BUCKET = "/my-bucket"


async def filled(put: Put) -> None:
    for name in NAMES:
        await put(name, b"data")


def prefixes(answer: httpx.Response) -> list[str]:
    root = ElementTree.fromstring(answer.content)
    space = root.tag.partition("}")[0] + "}"
    return [item.findtext(f"{space}Prefix") or "" for item in root.iter(f"{space}CommonPrefixes")]


@pytest.mark.asyncio
async def test_the_elements_of_a_list(client: httpx.AsyncClient, put: Put) -> None:
    made = await put("a", b"data")
    answer = await client.get(BUCKET)
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert ElementTree.fromstring(answer.content).tag == "{http://doc.s3.amazonaws.com/2006-03-01}ListBucketResult"
    for tag, value in (
        ("Name", "my-bucket"),
        ("Key", "a"),
        ("Generation", made["generation"]),
        ("MetaGeneration", "1"),
        ("Size", "4"),
        ("LastModified", made["updated"]),
        ("ETag", '"8d777f385d3dfec8815d20f7496026dc"'),
        ("IsTruncated", "false"),
    ):
        assert texts(answer, tag) == [value]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.asyncio
async def test_pages(client: httpx.AsyncClient, put: Put, version: int, delimiter: str, size: int) -> None:
    await filled(put)
    keys: list[str] = []
    groups: list[str] = []
    more = {"list-type": "2"} if version == 2 else {}
    for _ in range(len(NAMES)):
        asked = {"max-keys": str(size), "delimiter": delimiter, **more}
        answer = await client.get(BUCKET, params={name: value for name, value in asked.items() if value})
        assert len(texts(answer, "Key")) + len(prefixes(answer)) <= size
        keys += texts(answer, "Key")
        groups += prefixes(answer)
        if version == 2:
            assert texts(answer, "KeyCount") == [str(len(texts(answer, "Key")) + len(prefixes(answer)))]
        if texts(answer, "IsTruncated") == ["false"]:
            break
        if version == 2:
            more["continuation-token"] = texts(answer, "NextContinuationToken")[0]
        else:
            more["marker"] = texts(answer, "NextMarker")[0]
    assert (keys, groups) == ((["b", "d"], ["a/", "c/"]) if delimiter else (NAMES, []))


@pytest.mark.asyncio
async def test_the_start_of_a_list(client: httpx.AsyncClient, put: Put) -> None:
    await filled(put)
    assert texts(await client.get(BUCKET, params={"prefix": "a/"}), "Key") == ["a/1", "a/2"]
    assert texts(await client.get(BUCKET, params={"marker": "a/2"}), "Key") == ["b", "c/ä&", "d"]
    second = {"list-type": "2", "start-after": "b"}
    assert texts(await client.get(BUCKET, params=second), "Key") == ["c/ä&", "d"]
    encoded = await client.get(BUCKET, params={"prefix": "c/ä", "encoding-type": "url"})
    assert (texts(encoded, "Key"), texts(encoded, "EncodingType")) == (["c/%C3%A4%26"], ["url"])
    none = await client.get(BUCKET, params={"max-keys": "0"})
    assert (texts(none, "Key"), texts(none, "IsTruncated")) == ([], ["false"])


@pytest.mark.parametrize("parameter", ["max-keys=-1", "max-keys=x", "encoding-type=gzip", "list-type=3"])
@pytest.mark.asyncio
async def test_lists_that_are_refused(client: httpx.AsyncClient, bucket: str, parameter: str) -> None:
    assert_xml_error(await client.get(f"{BUCKET}?{parameter}"), 400, "InvalidArgument")
    assert_xml_error(await client.get(f"{BUCKET}?list-type=2&continuation-token=x"), 400, "InvalidArgument")
    assert_xml_error(await client.get("/no-bucket"), 404, "NoSuchBucket")


async def source(client: httpx.AsyncClient) -> str:
    headers = {"Content-Type": "image/png", "x-goog-meta-k": "v", "Cache-Control": "no-store"}
    answer = await client.put("/my-bucket/dir/ä", content=b"data", headers=headers)
    return answer.headers["x-goog-generation"]


async def copied(client: httpx.AsyncClient, to: str = "copy", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(f"/my-bucket/{to}", headers={"x-goog-copy-source": "my-bucket/dir/%C3%A4", **named})


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.asyncio
async def test_a_copy(server: GCSServer, client: httpx.AsyncClient, bucket: str, slash: str) -> None:
    await source(client)
    answer = await copied(client, x_goog_copy_source=f"{slash}my-bucket/dir/%C3%A4", Content_Type="a/b")
    assert answer.status_code == 200
    assert texts(answer, "ETag") == ['"8d777f385d3dfec8815d20f7496026dc"']
    resource = (await client.get(f"{OBJECTS}/copy")).json()
    assert texts(answer, "LastModified") == [resource["updated"]]
    assert answer.headers["x-goog-generation"] == resource["generation"]
    assert (resource["contentType"], resource["cacheControl"]) == ("image/png", "no-store")
    assert (resource["metadata"], resource["storageClass"]) == ({"k": "v"}, "STANDARD")
    assert (await copied(client, x_goog_storage_class="NEARLINE")).status_code == 200
    assert server.objects(bucket)[0].fields["storageClass"] == "NEARLINE"


@pytest.mark.asyncio
async def test_a_copy_with_other_metadata(client: httpx.AsyncClient, bucket: str) -> None:
    await source(client)
    answer = await copied(client, "dir/ä", x_goog_metadata_directive="REPLACE", x_goog_meta_l="w")
    assert answer.status_code == 200
    resource = (await client.get(f"{OBJECTS}/dir%2F%C3%A4")).json()
    assert (resource["metadata"], resource["contentType"]) == ({"l": "w"}, "application/octet-stream")
    assert "cacheControl" not in resource


@pytest.mark.parametrize(
    ("condition", "value", "status"),
    [
        ("x-goog-copy-source-if-generation-match", "{g}", 200),
        ("x-goog-copy-source-if-generation-match", "5", 412),
        ("x-goog-copy-source-if-metageneration-match", "2", 412),
        ("x-goog-copy-source-if-match", '"8d777f385d3dfec8815d20f7496026dc"', 200),
        ("x-goog-copy-source-if-match", '"other"', 412),
        ("x-goog-copy-source-if-none-match", '"8d777f385d3dfec8815d20f7496026dc"', 412),
        ("x-goog-copy-source-if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT", 412),
        ("x-goog-copy-source-if-unmodified-since", "Mon, 01 Jan 2001 00:00:00 GMT", 412),
        ("x-goog-copy-source-generation", "{g}", 200),
        ("x-goog-copy-source-generation", "5", 404),
        ("x-goog-if-generation-match", "0", 200),
        ("x-goog-if-generation-match", "5", 412),
    ],
)
@pytest.mark.asyncio
async def test_conditional_copies(
    server: GCSServer, client: httpx.AsyncClient, bucket: str, condition: str, value: str, status: int
) -> None:
    generation = await source(client)
    answer = await copied(client, **{condition: value.format(g=generation)})
    assert answer.status_code == status, answer.text
    assert len(server.objects(bucket)) == (2 if status == 200 else 1)


@pytest.mark.asyncio
async def test_copies_that_are_refused(client: httpx.AsyncClient, bucket: str) -> None:
    assert_xml_error(await copied(client), 404, "NoSuchKey")
    await source(client)
    assert_xml_error(await copied(client, "dir/ä"), 400, "InvalidArgument")
    assert_xml_error(await copied(client, x_goog_metadata_directive="MERGE"), 400, "InvalidArgument")
    assert_xml_error(await copied(client, x_goog_copy_source="dir"), 400, "InvalidArgument")
    assert_xml_error(await copied(client, x_goog_copy_source="none/a"), 404, "NoSuchBucket")
    headers = {"x-goog-copy-source": "my-bucket/dir/%C3%A4"}
    assert_xml_error(await client.put("/my-bucket/copy", content=b"x", headers=headers), 400, "InvalidArgument")
