"""The server refuses and names the features that it does not implement."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, UPLOADS, assert_error, assert_xml_error, related
from trove_async.testing.gcs import GCSServer

BUCKET = "/storage/v1/b/my-bucket"
PROJECT = "/storage/v1/projects/p"
SUBSCRIPTION = "/v1/projects/p/subscriptions/a-subscription"
KEY = {"x-goog-encryption-algorithm": "AES256", "x-goog-encryption-key": "k", "x-goog-encryption-key-sha256": "h"}


@pytest.mark.parametrize(
    ("method", "path", "feature"),
    [
        ("GET", f"{BUCKET}/acl", "access control lists"),
        ("GET", f"{BUCKET}/acl/allUsers", "access control lists"),
        ("POST", f"{BUCKET}/defaultObjectAcl", "access control lists"),
        ("POST", f"{OBJECTS}/a/acl", "access control lists"),
        ("GET", f"{BUCKET}/iam", "IAM policies"),
        ("PUT", f"{BUCKET}/iam", "IAM policies"),
        ("GET", f"{OBJECTS}/a/iam", "IAM policies"),
        ("GET", f"{BUCKET}/managedFolders", "managed folders"),
        ("POST", f"{BUCKET}/folders", "folders"),
        ("GET", f"{BUCKET}/anywhereCaches", "Anywhere Cache"),
        ("POST", f"{BUCKET}/lockRetentionPolicy", "retention"),
        ("POST", f"{BUCKET}/restore", "soft delete"),
        ("POST", f"{OBJECTS}/a/restore", "soft delete"),
        ("POST", f"{OBJECTS}/bulkRestore", "soft delete"),
        ("POST", f"{OBJECTS}/watch", "object change notification"),
        ("POST", "/storage/v1/channels/stop", "object change notification"),
        ("GET", f"{BUCKET}/operations", "long-running operations"),
        ("GET", f"{BUCKET}/storageLayout", "storage layouts"),
        ("POST", f"{BUCKET}/relocate", "bucket relocation"),
        ("GET", f"{PROJECT}/hmacKeys", "HMAC keys"),
        ("DELETE", f"{PROJECT}/hmacKeys/GOOG1", "HMAC keys"),
    ],
)
@pytest.mark.asyncio
async def test_endpoints(client: httpx.AsyncClient, put: Put, method: str, path: str, feature: str) -> None:
    await put("a")
    assert_error(await client.request(method, path), 501, "notImplemented", feature)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/storage/v1/nothing"),
        ("GET", f"{BUCKET}/nothing"),
        ("POST", f"{OBJECTS}/a/nothing"),
        ("GET", f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/b"),
        ("PATCH", "/storage/v1/b"),
        ("GET", "/upload/storage/v1/b/my-bucket/o"),
        ("POST", "/upload/storage/v1/b/my-bucket"),
        ("POST", "/download/storage/v1/b/my-bucket/o/a"),
    ],
)
@pytest.mark.asyncio
async def test_unknown_endpoints(client: httpx.AsyncClient, put: Put, method: str, path: str) -> None:
    await put("a")
    assert_error(await client.request(method, path), 404, "notFound")


@pytest.mark.parametrize(
    ("method", "path", "parameter", "feature"),
    [
        ("GET", OBJECTS, "softDeleted=true", "soft delete"),
        ("GET", OBJECTS, "filter=contexts.%22a%22:*", "object contexts"),
        ("GET", OBJECTS, "includeFoldersAsPrefixes=true", "folders"),
        ("GET", f"{OBJECTS}/a", "softDeleted=true", "soft delete"),
        ("GET", f"{OBJECTS}/a", "access_token=x", "access tokens in the query"),
        ("PATCH", f"{OBJECTS}/a", "predefinedAcl=publicRead", "access control lists"),
        ("PATCH", f"{OBJECTS}/a", "overrideUnlockedRetention=true", "retention"),
        ("POST", f"{OBJECTS}/a/copyTo/b/my-bucket/o/b", "destinationPredefinedAcl=private", "access control lists"),
        ("POST", UPLOADS, "uploadType=media&name=b&predefinedAcl=private", "access control lists"),
        ("POST", "/storage/v1/b", "project=p&enableObjectRetention=true", "retention"),
        ("POST", "/storage/v1/b", "project=p&predefinedDefaultObjectAcl=private", "access control lists"),
        ("GET", "/storage/v1/b", "project=p&softDeleted=true", "soft delete"),
    ],
)
@pytest.mark.asyncio
async def test_parameters(
    server: GCSServer, client: httpx.AsyncClient, put: Put, method: str, path: str, parameter: str, feature: str
) -> None:
    await put("a")
    answer = await client.request(method, f"{path}?{parameter}", json=None if method == "GET" else {"name": "other"})
    assert_error(answer, 501, "notImplemented", feature)
    assert [item.name for item in server.objects("my-bucket")] == ["a"]
    assert server.buckets() == ["my-bucket"]


@pytest.mark.parametrize(
    ("method", "path", "parameters"),
    [
        ("GET", OBJECTS, "prefx=a"),
        ("GET", OBJECTS, "generation=1"),
        ("GET", f"{OBJECTS}/a", "ifGenerationMatched=1"),
        ("GET", f"/download{OBJECTS}/a", "alt=media&ifGenerationMatched=1"),
        ("GET", f"{OBJECTS}/a", "projection=all"),
        ("GET", f"{OBJECTS}/a", "alt=proto"),
        ("DELETE", f"{OBJECTS}/a", "ifSourceGenerationMatch=1"),
        ("POST", UPLOADS, "uploadType=media&name=b&generation=1"),
        ("POST", f"{OBJECTS}/a/compose", "ifGenerationNotMatch=1"),
    ],
)
@pytest.mark.asyncio
async def test_unknown_parameters(
    server: GCSServer, client: httpx.AsyncClient, put: Put, method: str, path: str, parameters: str
) -> None:
    await put("a")
    answer = await client.request(method, f"{path}?{parameters}")
    assert answer.status_code == 400
    assert "arameter" in answer.text
    assert [item.name for item in server.objects("my-bucket")] == ["a"]


@pytest.mark.asyncio
async def test_switching_a_feature_off_is_accepted(client: httpx.AsyncClient, put: Put) -> None:
    await put("a")
    off = {"softDeleted": "false", "includeFoldersAsPrefixes": "false"}
    assert (await client.get(OBJECTS, params=off)).status_code == 200
    bucket: dict[str, Any] = {
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        "autoclass": {"enabled": False},
        "billing": {"requesterPays": False},
        "retentionPolicy": None,
        "cors": [],
        "rpo": "DEFAULT",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
    }
    assert (await client.patch(BUCKET, json=bucket)).status_code == 200
    assert (await client.patch(f"{OBJECTS}/a", json={"retention": None, "acl": []})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"retention": {"mode": "Locked", "retainUntilTime": "2100-01-01T00:00:00Z"}}, "retention"),
        ({"contexts": {"custom": {"a": {"value": "b"}}}}, "object contexts"),
        ({"acl": [{"entity": "allUsers", "role": "READER"}]}, "access control lists"),
        ({"customerEncryption": {"encryptionAlgorithm": "AES256"}}, "customer-supplied encryption keys"),
    ],
)
@pytest.mark.asyncio
async def test_fields_of_objects(
    server: GCSServer, client: httpx.AsyncClient, put: Put, fields: dict[str, Any], feature: str
) -> None:
    await put("a")
    body, headers = related({"name": "b", **fields}, b"x")
    for answer in (
        await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers),
        await client.post(f"{UPLOADS}?uploadType=resumable", json={"name": "b", **fields}),
        await client.patch(f"{OBJECTS}/a", json=fields),
        await client.put(f"{OBJECTS}/a", json=fields),
        await client.post(f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/b", json=fields),
        await client.post(f"{OBJECTS}/b/compose", json={"sourceObjects": [{"name": "a"}], "destination": fields}),
    ):
        assert_error(answer, 501, "notImplemented", feature)
    assert [(item.name, item.metageneration) for item in server.objects("my-bucket")] == [("a", 1)]
    assert server.open_uploads() == []


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"retentionPolicy": {"retentionPeriod": "60"}}, "retention"),
        ({"objectRetention": {"mode": "Enabled"}}, "retention"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}, "soft delete"),
        ({"encryption": {"defaultKmsKeyName": "projects/p"}}, "default encryption keys"),
        ({"autoclass": {"enabled": True}}, "Autoclass"),
        ({"hierarchicalNamespace": {"enabled": True}}, "hierarchical namespaces"),
        ({"billing": {"requesterPays": True}}, "Requester Pays"),
        ({"cors": [{"origin": ["*"]}]}, "CORS"),
        ({"website": {"mainPageSuffix": "index.html"}}, "static websites"),
        ({"logging": {"logBucket": "logs"}}, "usage logs"),
        ({"ipFilter": {"mode": "Enabled"}}, "IP filtering"),
        ({"acl": [{"entity": "allUsers"}]}, "access control lists"),
        ({"defaultObjectAcl": [{"entity": "allUsers"}]}, "access control lists"),
        ({"customPlacementConfig": {"dataLocations": ["A", "B"]}}, "dual-regions"),
        ({"rpo": "ASYNC_TURBO"}, "turbo replication"),
    ],
)
@pytest.mark.asyncio
async def test_fields_of_buckets(
    server: GCSServer, client: httpx.AsyncClient, bucket: str, fields: dict[str, Any], feature: str
) -> None:
    other = {"name": "other-bucket", **fields}
    for answer in (
        await client.post("/storage/v1/b", params={"project": "p"}, json=other),
        await client.patch(BUCKET, json=fields),
        await client.put(BUCKET, json=fields),
    ):
        assert_error(answer, 501, "notImplemented", feature)
    assert server.buckets() == [bucket]
    assert (await client.get(BUCKET)).json()["metageneration"] == "1"


@pytest.mark.asyncio
async def test_an_unknown_lifecycle_condition(client: httpx.AsyncClient, bucket: str) -> None:
    rule = {"action": {"type": "Delete"}, "condition": {"age": 1, "color": "blue"}}
    assert_error(await client.patch(BUCKET, json={"lifecycle": {"rule": [rule]}}), 400, "invalid", "lifecycle")


@pytest.mark.parametrize(
    ("headers", "feature"),
    [
        (KEY, "customer-supplied encryption keys"),
        ({f"x-goog-copy-source-{name[7:]}": value for name, value in KEY.items()}, "customer-supplied encryption keys"),
        ({"x-goog-acl": "public-read"}, "access control lists"),
        ({"x-goog-object-lock-mode": "COMPLIANCE"}, "retention"),
        ({"x-goog-bypass-governance-retention": "true"}, "retention"),
        ({"x-amz-acl": "public-read"}, "Amazon S3"),
    ],
)
@pytest.mark.asyncio
async def test_headers(
    server: GCSServer, client: httpx.AsyncClient, put: Put, headers: dict[str, str], feature: str
) -> None:
    await put("a")
    for path in (f"{UPLOADS}?uploadType=media&name=b", f"{OBJECTS}/a/copyTo/b/my-bucket/o/b"):
        assert_error(await client.post(path, headers=headers), 501, "notImplemented", feature)
    assert_error(await client.get(f"{OBJECTS}/a", headers=headers), 501, "notImplemented", feature)
    for method in ("GET", "PUT"):
        answer = await client.request(method, "/my-bucket/a", headers=headers)
        assert_xml_error(answer, 501, "NotImplemented")
        assert feature in answer.text
    assert [item.name for item in server.objects("my-bucket")] == ["a"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/my-bucket/a?acl", 501),
        ("/my-bucket/a?tagging", 501),
        ("/my-bucket/a?retention", 501),
        ("/my-bucket/a?GoogleAccessId=a&Expires=1&Signature=s", 501),
        ("/my-bucket?versioning", 501),
        ("/my-bucket?versions", 501),
        ("/my-bucket?list-type=2&fetch-owner=true", 501),
        ("/my-bucket?uploads&delimiter=/", 400),
        ("/my-bucket/a?genration=1", 400),
        ("/my-bucket?prefx=a", 400),
    ],
)
@pytest.mark.asyncio
async def test_parameters_of_the_xml_api(client: httpx.AsyncClient, put: Put, path: str, status: int) -> None:
    await put("a")
    assert_xml_error(await client.get(path), status, "NotImplemented" if status == 501 else "InvalidArgument")


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("PUT", "/new-bucket"), ("DELETE", "/my-bucket")])
@pytest.mark.asyncio
async def test_buckets_in_the_xml_api(client: httpx.AsyncClient, bucket: str, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert_xml_error(answer, 501, "NotImplemented")
    assert "buckets in the XML API" in answer.text


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"filter": 'attributes.a = "b"'}, "subscription filters"),
        ({"enableMessageOrdering": True}, "message ordering"),
        ({"deadLetterPolicy": {"deadLetterTopic": "t"}}, "dead letter topics"),
        ({"retryPolicy": {"minimumBackoff": "1s"}}, "retry policies"),
        ({"enableExactlyOnceDelivery": True}, "exactly-once delivery"),
        ({"pushConfig": {"pushEndpoint": "http://127.0.0.1:1", "oidcToken": {"audience": "a"}}}, "authenticated push"),
    ],
)
@pytest.mark.asyncio
async def test_fields_of_subscriptions(client: httpx.AsyncClient, fields: dict[str, Any], feature: str) -> None:
    await client.put("/v1/projects/p/topics/a-topic", json={})
    answer = await client.put(SUBSCRIPTION, json={"topic": "projects/p/topics/a-topic", **fields})
    assert (answer.status_code, answer.json()["error"]["status"]) == (501, "UNIMPLEMENTED")
    assert feature in answer.json()["error"]["message"]
    assert (await client.get(SUBSCRIPTION)).status_code == 404


@pytest.mark.asyncio
async def test_fields_of_topics(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/projects/p/topics/a-topic", json={"schemaSettings": {"schema": "s"}})
    assert answer.status_code == 501
    assert "schemas (schemaSettings)" in answer.json()["error"]["message"]
    assert (await client.get("/v1/projects/p/topics/a-topic")).status_code == 404
