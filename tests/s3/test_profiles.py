"""Profiles, how they are selected, and the names that each accepts."""

from __future__ import annotations

import pytest

from trove_async.drivers.s3.names import check_bucket, check_key, check_new_bucket, dns_compatible
from trove_async.drivers.s3.profiles import (
    CHECKSUMS,
    CONDITIONS,
    PROFILES,
    Profile,
    adapt,
    parse_conditions,
    profile_for,
    region_of,
)
from trove_async.errors import InvalidBucketNameError, InvalidDSNError, InvalidKeyError

AWS, CEPH, MINIO, MOTO = (PROFILES[name] for name in ("aws", "ceph", "minio", "moto"))


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (None, "aws"),
        ("https://s3.eu-west-1.amazonaws.com", "aws"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "aws"),
        ("https://bucket.vpce-1a2b-5c6d.s3.us-east-1.vpce.amazonaws.com", "aws"),
        ("https://S3.EU-WEST-1.AMAZONAWS.COM", "aws"),
        ("https://0123abcd.r2.cloudflarestorage.com", "r2"),
        ("https://0123abcd.eu.r2.cloudflarestorage.com", "r2"),
        ("https://s3.us-west-004.backblazeb2.com", "b2"),
        ("https://storage.googleapis.com", "gcs"),
        ("https://evil-amazonaws.com", "generic"),
        ("https://amazonaws.com.example.org", "generic"),
        ("http://localhost:9000", "generic"),
        ("http://[::1]:9000", "generic"),
    ],
)
def test_the_endpoint_selects_the_profile(endpoint: str | None, name: str) -> None:
    assert profile_for(endpoint, None).name == name
    assert profile_for(endpoint, "ceph").name == "ceph"


def test_the_error_for_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(InvalidDSNError, match="unknown profile 'cepf'; use one of aws, ceph, minio"):
        profile_for(None, "cepf")


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://s3-fips.us-east-2.amazonaws.com", "us-east-2"),
        ("https://bucket.vpce-1a2b-5c6d.s3.us-east-1.vpce.amazonaws.com", "us-east-1"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://s3.amazonaws.com", None),
        ("https://s3.eu-west-1.example.com", None),
    ],
)
def test_the_region_in_an_endpoint(endpoint: str, region: str | None) -> None:
    assert region_of(endpoint) == region


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: str(profile.name))
def test_every_profile_is_consistent(profile: Profile) -> None:
    assert profile.conditions <= CONDITIONS
    assert "get" in profile.conditions
    assert profile.checksum in CHECKSUMS
    assert profile.min_part_size <= profile.max_part_size <= profile.max_put_size + profile.max_part_size
    assert PROFILES[profile.name] is profile


def test_an_unknown_server_has_no_conditional_writes() -> None:
    assert PROFILES["generic"].conditions == {"get"}


def test_the_user_can_override_the_profile() -> None:
    adapted = adapt(CEPH, conditions=parse_conditions("get,delete"), checksum="md5")
    assert adapted.conditions == {"get", "delete"}
    assert adapted.checksum == "md5"
    assert not adapted.quotes_etags
    assert adapt(CEPH, conditions=None, checksum=None) == CEPH
    assert adapt(CEPH, conditions=frozenset(), checksum=None).conditions == frozenset()


def test_conditions_as_text() -> None:
    assert parse_conditions("all") == CONDITIONS
    assert parse_conditions("none") == frozenset()
    assert parse_conditions("put_if_match, copy") == {"put_if_match", "copy"}
    for wrong in ("put", "", "get,,copy", "all,get"):
        with pytest.raises(InvalidDSNError, match="put_if_none_match"):
            parse_conditions(wrong)


@pytest.mark.parametrize(
    "name",
    ["abc", "a" * 63, "a.b-c", "0bucket9", "my.bucket.example", "1.2.3", "arn-alias-s3alias", "xn--old", "300.1.2.3.4"],
)
def test_valid_bucket_names(name: str) -> None:
    for profile in PROFILES.values():
        check_bucket(name, profile)


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "-abc", "abc-", ".abc", "abc.", "a..b", "Abc", "a_b", "192.168.5.4", "bücket", "a b", "abc\n"],
)
def test_names_of_new_buckets_that_amazon_refuses(name: str) -> None:
    with pytest.raises(InvalidBucketNameError) as raised:
        check_new_bucket(name, AWS)
    assert raised.value.bucket == name


@pytest.mark.parametrize("name", ["My_Bucket", "UPPER", "a" * 255, "a..b"])
def test_names_of_buckets_that_amazon_formerly_allowed(name: str) -> None:
    check_bucket(name, AWS)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("logs--use1-az4--x-s3", "a directory bucket"),
        ("mfzwi23gnjvgw.mrap", "a multi-region access point"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/ap", "the ARN of an access point"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint:ap", "the ARN of an access point"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "the ARN of a multi-region access point"),
        ("arn:aws:s3:::assets", "give the bucket's name"),
        ("arn:aws-cn:s3-outposts:cn-north-1:1:outpost/op-1/bucket/b", "Outposts"),
        ("arn:aws:s3-object-lambda:us-east-1:1:accesspoint/ap", "Object Lambda"),
    ],
)
@pytest.mark.parametrize("profile", ["aws", "generic", "ceph"])
def test_other_kinds_of_names_are_recognised(name: str, form: str, profile: str) -> None:
    with pytest.raises(InvalidBucketNameError, match=form):
        check_bucket(name, PROFILES[profile])


def test_a_newline_in_a_key_is_named() -> None:
    with pytest.raises(InvalidKeyError, match=r"a newline \(U\+000A\)"):
        check_key("a\nb", CEPH)


@pytest.mark.parametrize("name", ["a_b", "UPPER", "a" * 255, "Mixed.Case_1"])
@pytest.mark.parametrize("profile", ["ceph", "generic"])
def test_bucket_names_that_other_services_accept(name: str, profile: str) -> None:
    check_bucket(name, PROFILES[profile])
    with pytest.raises(InvalidBucketNameError):
        check_bucket(name, MINIO)


@pytest.mark.parametrize("name", ["ab", "a" * 256, "a/b", "a b", "_ab", "192.168.5.4", "é" * 5])
def test_bucket_names_that_no_service_accepts(name: str) -> None:
    for profile in PROFILES.values():
        with pytest.raises(InvalidBucketNameError):
            check_bucket(name, profile)


@pytest.mark.parametrize(
    ("name", "expected_message"),
    [
        ("data--use1-az4--x-s3", "directory bucket"),
        ("point.mrap", "multi-region"),
        ("t--table-s3", "table bucket"),
    ],
)
def test_kinds_that_are_not_used_as_buckets_are_refused(name: str, expected_message: str) -> None:
    with pytest.raises(InvalidBucketNameError, match=expected_message):
        check_bucket(name, AWS)


@pytest.mark.parametrize("name", ["xn--bucket", "sthree-x", "amzn-s3-demo-x", "alias-s3alias", "alias--ol-s3", "a_b"])
def test_names_that_a_new_bucket_cannot_have(name: str) -> None:
    with pytest.raises(InvalidBucketNameError):
        check_new_bucket(name, AWS)


def test_names_that_amazon_reserves_are_valid_elsewhere() -> None:
    check_new_bucket("sthree-x", CEPH)
    check_new_bucket("plain", AWS)


@pytest.mark.parametrize("key", ["a", "a//b", "/a/", "../a", ".", "é\u2028", "a" * 1024, "\U0001f600", "\x7f"])
def test_valid_keys(key: str) -> None:
    check_key(key, AWS)
    check_key(key, CEPH)


def test_control_characters_are_refused_if_they_would_break_a_listing() -> None:
    check_key("a\x01b\n", AWS)
    for profile in (CEPH, MOTO):
        with pytest.raises(InvalidKeyError, match=r"U\+0001"):
            check_key("a\x01b", profile)


@pytest.mark.parametrize("key", ["a/../b", ".", "a/.", "a//b", "/a"])
def test_keys_that_the_service_treats_as_paths(key: str) -> None:
    with pytest.raises(InvalidKeyError, match="'minio'"):
        check_key(key, MINIO)
    check_key("a/.b/..c/", MINIO)


@pytest.mark.parametrize(
    ("name", "compatible"),
    [("bucket", True), ("a-b-9", True), ("a.b", False), ("a_b", False), ("Abc", False), ("-ab", False), ("ab", False)],
)
def test_names_that_can_be_part_of_a_host_name(name: str, compatible: bool) -> None:
    assert dns_compatible(name) is compatible
