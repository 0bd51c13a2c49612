"""`probe` on real servers: its findings, its advice, and its clean-up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

import trove_async as trove
from tests.servers import running
from trove_async.driver import Condition
from trove_async.drivers.s3.driver import S3Driver
from trove_async.drivers.s3.probe import Probe, fit
from trove_async.drivers.s3.probing import Finding, Prober, _FailedError
from trove_async.drivers.s3.profiles import CONDITIONS, PROFILES, Profile
from trove_async.store import Trove

pytestmark = pytest.mark.asyncio

FEATURES = (
    "quotes_etags",
    "tags",
    "versioning",
    "bulk_delete",
    "multipart",
    "unequal_parts",
    "control_characters",
    "plain_writes",
)


def dsn_of(server: str, bucket: str, **parameters: str) -> str:
    handle = running(server)  # type: ignore[call-overload]
    more = "".join(f"&{name}={value}" for name, value in parameters.items())
    keys = f"{handle.access_key}:{handle.secret_key}@{handle.region}"
    return f"s3://{keys}/{bucket}?endpoint={handle.endpoint}&attempts=2{more}"


@asynccontextmanager
async def opened(server: str, *, versions: bool = False) -> AsyncIterator[Trove]:
    """Yield a store whose endpoint belongs to no known profile, and a bucket that must be empty at the end."""
    bucket = f"probe-{uuid.uuid4().hex[:12]}"
    async with trove.open(dsn_of(server, bucket)) as store:
        await store.create_bucket(bucket)
        if versions:
            await store.set_versioning(bucket, True)
        yield store
        assert await left_in(store) == []
        await store.delete_bucket(bucket)


def driver_of(store: Trove) -> S3Driver:
    return trove.unwrap(store.driver, S3Driver)


async def left_in(store: Trove) -> list[Any]:
    bucket = driver_of(store).default_bucket
    assert bucket is not None
    client = await driver_of(store).sdk_client()
    versions = await client.list_object_versions(Bucket=bucket)
    uploads = await store.list_multipart_uploads(bucket)
    return [*versions.get("Versions", ()), *versions.get("DeleteMarkers", ()), *uploads]


CEPH: frozenset[Condition] = frozenset({"put_if_none_match", "put_if_match", "get"})
MOTO: frozenset[Condition] = frozenset({"put_if_none_match", "put_if_match", "get", "delete"})


@pytest.mark.parametrize(("server", "conditions", "quotes"), [("ceph", CEPH, False), ("moto", MOTO, True)])
async def test_a_server_is_identified_by_its_behaviour(
    server: str, conditions: frozenset[Condition], quotes: bool
) -> None:
    async with opened(server) as store:
        seen = await driver_of(store).probe()
    assert seen.conditions == conditions
    assert seen.works("quotes_etags") is quotes
    assert all(seen.works(name) for name in ("tags", "versioning", "bulk_delete", "multipart", "unequal_parts"))
    assert seen.profile == seen.parameters["profile"] == server
    assert [finding.name for finding in seen.findings if finding.name not in CONDITIONS] == list(FEATURES)
    assert all(finding.detail for finding in seen.findings if not finding.works)


@pytest.mark.parametrize("server", ["ceph", "moto"])
async def test_conditions_hold_after_the_advice_is_followed(server: str) -> None:
    async with opened(server) as store:
        bucket = driver_of(store).default_bucket or ""
        with pytest.raises(trove.UnsupportedError):
            await store.put(bucket, "k", b"", if_none_match="*")
        seen = await driver_of(store).probe()
        async with trove.open(dsn_of(server, bucket, **seen.parameters)) as advised:
            assert advised.features.conditions == seen.conditions
            info = await advised.put(bucket, "k", b"old", if_none_match="*")
            with pytest.raises(trove.ObjectAlreadyExistsError):
                await advised.put(bucket, "k", b"lost", if_none_match="*")
            await advised.put(bucket, "k", b"new", if_match=info.etag)
            with pytest.raises(trove.PreconditionFailedError):
                await advised.put(bucket, "k", b"lost", if_match=info.etag)
            assert await advised.read(bucket, "k") == b"new"
            await advised.delete(bucket, "k")


@pytest.mark.parametrize("server", ["ceph", "moto"])
async def test_versions_are_removed_too(server: str) -> None:
    async with opened(server, versions=True) as store:
        bucket = driver_of(store).default_bucket or ""
        mine = await store.put(bucket, "trove-probe-mine", b"mine")
        seen = await driver_of(store).probe()
        assert seen.findings[FEATURES.index("versioning") + len(CONDITIONS)].detail == "the bucket is enabled"
        (left,) = await left_in(store)
        assert left["VersionId"] == mine.version_id
        await store.delete_version(bucket, "trove-probe-mine", str(mine.version_id))


async def test_ceph_ignores_conditions_in_versioned_buckets() -> None:
    async with opened("ceph", versions=True) as store:
        seen = await driver_of(store).probe()
    assert seen.conditions == {"get"}


@pytest.mark.parametrize("server", ["ceph", "moto"])
async def test_a_cancelled_probe_leaves_nothing(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = asyncio.Event()

    async def hang(prober: Prober) -> str:
        key = prober._key()
        await prober._begin(key, b"part")
        prober._unlistable[f"{key}\x01"] = None
        await prober._put(f"{key}\x01", b"odd")
        reached.set()
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(Prober, "_check_complete", hang)
    async with opened(server, versions=True) as store:
        task = asyncio.create_task(driver_of(store).probe())
        await reached.wait()
        assert await left_in_some(store)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def left_in_some(store: Trove) -> bool:
    return bool(await store.list_multipart_uploads(driver_of(store).default_bucket or ""))


async def test_a_race_with_more_than_one_winner_is_detected() -> None:
    async with opened("moto") as store:
        driver = driver_of(store)
        bucket = driver.default_bucket or ""
        prober = driver.prober(bucket, "race/")
        key = prober._key()
        bodies = [b"a", b"b", b"c"]
        with pytest.raises(_FailedError, match="3 of 3 concurrent writers succeeded"):
            await prober._race(key, {body: partial(prober._put, key, body) for body in bodies})
        await prober.clean()


async def test_errors_that_do_not_characterise_the_service_are_raised() -> None:
    async with trove.open(dsn_of("ceph", "")) as store:
        with pytest.raises(trove.InvalidArgumentError, match="s3://region/bucket"):
            await driver_of(store).probe()
        with pytest.raises(trove.BucketNotFoundError):
            await driver_of(store).probe(f"missing-{uuid.uuid4().hex[:12]}")
    async with opened("ceph") as store:
        bucket = driver_of(store).default_bucket or ""
        ceph = running("ceph")
        keys = f"{ceph.other_access_key}:{ceph.other_secret_key}@{ceph.region}"
        async with trove.open(f"s3://{keys}/{bucket}?endpoint={ceph.endpoint}") as other:
            with pytest.raises(trove.AccessDeniedError):
                await driver_of(other).probe()


# The choice of a profile; no server is used.

UNKNOWN = "https://objects.example.com"


def findings_of(profile: Profile, **changed: bool | None) -> tuple[Finding, ...]:
    """Return the findings of a probe of a service that behaves exactly as a profile says."""
    found: dict[str, bool | None] = {condition: condition in profile.conditions for condition in sorted(CONDITIONS)}
    found |= {"quotes_etags": profile.quotes_etags, "tags": profile.tags, "versioning": profile.versioning}
    found |= {"bulk_delete": profile.bulk_delete, "multipart": True, "unequal_parts": not profile.equal_parts}
    found |= {"control_characters": profile.control_characters} | changed
    return tuple(Finding(name, works) for name, works in found.items())


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"aws"}))
async def test_each_profile_matches_itself(name: str) -> None:
    seen = fit(findings_of(PROFILES[name]), UNKNOWN)
    assert seen == Probe(seen.findings, name, (), {} if name == "generic" else {"profile": name})


async def test_settings_that_are_the_default_are_omitted() -> None:
    r2 = fit(findings_of(PROFILES["r2"]), "https://account.r2.cloudflarestorage.com")
    assert (r2.profile, r2.parameters) == ("r2", {})
    aws = fit(findings_of(PROFILES["aws"]), None)
    assert (aws.profile, aws.parameters) == ("aws", {})


async def test_conditions_are_given_where_the_profile_has_others() -> None:
    seen = fit(findings_of(PROFILES["ceph"], delete=True), UNKNOWN)
    assert seen.parameters == {"profile": "ceph", "conditions": "delete,get,put_if_match,put_if_none_match"}
    none = dict.fromkeys(CONDITIONS, False)
    assert fit(findings_of(PROFILES["generic"], **none), UNKNOWN).parameters == {"conditions": "none"}


async def test_a_service_is_never_taken_for_amazon() -> None:
    assert fit(findings_of(PROFILES["aws"]), UNKNOWN).profile != "aws"


async def test_a_false_claim_weighs_more_than_a_missing_one() -> None:
    seen = fit(findings_of(PROFILES["generic"], tags=False, versioning=False), UNKNOWN)
    assert not {"tags", "versioning"} & {name for name in seen.differences if getattr(PROFILES[seen.profile], name)}


async def test_an_undetermined_finding_is_not_a_difference() -> None:
    assert fit(findings_of(PROFILES["generic"], tags=None, versioning=None), UNKNOWN).differences == ()


async def test_a_condition_that_the_profile_would_send_wrongly_is_not_declared() -> None:
    """Only Ceph accepts If-Match without quotes, and in all else this service is not Ceph."""
    seen = fit(findings_of(PROFILES["ceph"], bulk_delete=False, tags=False, versioning=False), UNKNOWN)
    assert seen.parameters == {"profile": "gcs", "conditions": "get,put_if_none_match"}
    assert "quotes_etags" in seen.differences


async def test_a_probe_writes_below_the_prefix_of_the_dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes: list[str] = []

    def prober(driver: S3Driver, bucket: str, prefix: str) -> Prober:
        prefixes.append(prefix)
        raise ZeroDivisionError

    monkeypatch.setattr(S3Driver, "prober", prober)
    async with trove.open("s3://us-east-1/bucket/quiet/corner?endpoint=http://127.0.0.1:1&anonymous=1") as store:
        with pytest.raises(ZeroDivisionError):
            await driver_of(store).probe()
    [prefix] = prefixes
    assert prefix.startswith("quiet/corner/trove-probe-")
