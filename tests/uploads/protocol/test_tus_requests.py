"""tus 1.0 from requests to commands: every malformed header, and what each method asks for."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1, sha256

import pytest

from trove_async.errors import ContentTooLargeError, InvalidArgumentError, TroveError, UploadRejectedError
from trove_async.uploads import MetaData, Request
from trove_async.uploads.protocol.messages import (
    Append,
    Create,
    Describe,
    Discover,
    Download,
    Settings,
    Terminate,
)
from trove_async.uploads.protocol.tus import MAX_PARTIALS, Tus
from trove_async.web.http import join_headers

BYTES = "application/offset+octet-stream"
SETTINGS = Settings(max_size=1000, expires=60)


def tus(
    method: str,
    upload_id: str | None = None,
    settings: Settings = SETTINGS,
    trailers: bool = False,
    /,
    **headers: str | None,
) -> Tus:
    """Return the protocol for a request; underscores in names of headers stand for dashes, None leaves one out."""
    said = {"tus_resumable": "1.0.0", **headers}
    pairs = [(name.replace("_", "-"), value) for name, value in said.items() if value is not None]
    request = Request(method, join_headers(pairs), upload_id, "/files/", trailers=trailers)
    return Tus(request, settings)


def refused(protocol: Tus) -> int:
    """Return the status with which a request is refused."""
    with pytest.raises(TroveError) as caught:
        protocol.command()
    answer = protocol.failed(caught.value)
    assert dict(answer.headers)["Tus-Resumable"] == "1.0.0"
    return answer.status


NUMBERS = ["", "+0", "-1", "1e3", "1_0", "0x1", "1.0", "1, 1", "١", "²", "\x001", "1\x00", "nan", "9" * 65]


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_are_plain_digits(value: str) -> None:
    assert refused(tus("POST", upload_length=value)) == 400
    assert refused(tus("PATCH", "a", content_type=BYTES, upload_offset=value)) == 400
    assert refused(tus("PATCH", "a", content_type=BYTES, upload_offset="0", upload_length=value)) == 400
    if value:
        assert refused(tus("PATCH", "a", content_type=BYTES, upload_offset="0", content_length=value)) == 400


def test_spaces_around_a_value_are_no_part_of_it() -> None:
    assert tus("POST", upload_length=" 5 ").command() == Create(size=5)


@pytest.mark.parametrize("size", [1001, 2**63, 10**60])
def test_a_size_above_the_limit_is_too_large(size: int) -> None:
    assert refused(tus("POST", upload_length=str(size))) == 413
    assert refused(tus("PATCH", "a", content_type=BYTES, upload_offset="0", upload_length=str(size))) == 413
    if size > 1001:
        assert refused(tus("POST", None, Settings(), upload_length=str(size))) == 413


def test_creation() -> None:
    assert tus("POST", upload_length="0").command() == Create(size=0)
    assert tus("POST", upload_defer_length="1").command() == Create()
    metadata = MetaData([("filename", "a.txt"), ("empty", "")])
    assert tus("POST", upload_length="1000", upload_metadata=metadata.header).command() == Create(
        size=1000, metadata=metadata
    )
    assert tus("POST", upload_length="7", upload_concat="partial").command() == Create(size=7, is_partial=True)
    # Some clients send a media type with every POST.
    assert tus("POST", upload_length="7", content_type="application/json", content_length="0").command() == Create(
        size=7
    )


def test_creation_with_upload() -> None:
    command = tus("POST", upload_length="7", content_type=BYTES, content_length="3").command()
    assert command == Create(size=7, append=Append(offset=0, body_size=3))
    command = tus("POST", upload_defer_length="1", content_type=f"{BYTES.upper()}; a=b").command()
    assert command == Create(append=Append(offset=0))


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (400, {}),
        (400, {"upload_length": "1", "upload_defer_length": "1"}),
        (400, {"upload_defer_length": "0"}),
        (400, {"upload_defer_length": "2"}),
        (400, {"upload_defer_length": "1, 1"}),
        (400, {"upload_defer_length": ""}),
        (400, {"upload_length": "1", "upload_metadata": "a !"}),
        (400, {"upload_length": "1", "upload_metadata": "a YQ"}),
        (400, {"upload_length": "1", "upload_metadata": "a YQ==,a Yg=="}),
        (400, {"upload_length": "1", "upload_metadata": "ä YQ=="}),
        (400, {"upload_length": "1", "upload_metadata": ","}),
        (400, {"upload_length": "1", "upload_metadata": "a YQ==,"}),
        (400, {"upload_length": "1", "upload_metadata": "a\x00 YQ=="}),
        (400, {"upload_length": "1", "upload_metadata": "a" * 20_000}),
        (400, {"upload_length": "1", "upload_concat": ""}),
        (400, {"upload_length": "1", "upload_concat": "Partial"}),
        (400, {"upload_length": "1", "upload_concat": "partial, partial"}),
        (400, {"upload_length": "1", "upload_concat": "final"}),
        (400, {"upload_concat": "final;"}),
        (400, {"upload_concat": "final;   "}),
        (400, {"upload_concat": "final;/files/a", "upload_length": "1"}),
        (400, {"upload_concat": "final;/files/a", "upload_defer_length": "1"}),
        (403, {"upload_concat": "final;/files/a", "content_type": BYTES, "content_length": "1"}),
        (415, {"upload_length": "1", "content_type": "text/plain", "content_length": "1"}),
        (415, {"upload_length": "1", "content_length": "1"}),
        (415, {"upload_length": "1", "transfer_encoding": "chunked"}),
    ],
)
def test_malformed_creations(status: int, headers: dict[str, str]) -> None:
    assert refused(tus("POST", **headers)) == status


@pytest.mark.parametrize(
    "url",
    [
        "/files/abc",
        "abc",
        "./abc",
        "../files/abc",
        "/files/%61bc",
        "/%66iles/abc",
        "http://testserver/files/abc",
        "https://other.example:8443/files/abc",  # the server behind a proxy does not know its name
        "//testserver/files/abc",
    ],
)
def test_urls_of_partial_uploads(url: str) -> None:
    command = tus("POST", upload_concat=f"final;{url} {url}").command()
    assert command == Create(partial_ids=("abc", "abc"))


@pytest.mark.parametrize(
    "url",
    [
        "/other/abc",
        "/abc",
        "/files/",
        "/files",
        "/files/a/abc",
        "/files/../abc",
        "/files/a%2Fb",
        "/files/a%00b",
        "/files/%ff",
        "/files/a.b",
        "/files/ä",
        f"/files/{'a' * 129}",
        "/files/abc?x",
        "/files/abc#x",
        "ftp://testserver/files/abc",
        "javascript:abc",
        "http://[::1/files/abc",
        "/files/abc,/files/abc",
    ],
)
def test_urls_that_name_no_upload(url: str) -> None:
    assert refused(tus("POST", upload_concat=f"final;{url}")) == 400
    assert refused(tus("POST", upload_concat=f"final;/files/a {url}")) == 400


def test_the_number_of_parts_is_limited() -> None:
    def final(count: int) -> Tus:
        return tus("POST", upload_concat="final;" + " ".join(["/files/a"] * count))

    assert final(MAX_PARTIALS).command() == Create(partial_ids=("a",) * MAX_PARTIALS)
    assert refused(final(MAX_PARTIALS + 1)) == 400


def test_patch() -> None:
    command = tus("PATCH", "a", content_type=BYTES, upload_offset="5", content_length="3").command()
    assert command == Append(offset=5, body_size=3)
    command = tus("PATCH", "a", content_type=BYTES, upload_offset="5", upload_length="9").command()
    assert command == Append(offset=5, size=9)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/octet-stream", BYTES + "x"])
def test_a_patch_of_another_type_is_refused(content_type: str | None) -> None:
    assert refused(tus("PATCH", "a", content_type=content_type, upload_offset="0")) == 415


@pytest.mark.parametrize(
    ("encoding", "taken"), [("gzip", False), ("GZIP", False), ("br, identity", False), ("", True), ("Identity", True)]
)
def test_bytes_have_no_content_encoding(encoding: str, taken: bool) -> None:
    asked = [
        tus("PATCH", "a", content_type=BYTES, upload_offset="0", content_encoding=encoding),
        tus("POST", content_type=BYTES, upload_length="1", content_length="1", content_encoding=encoding),
    ]
    for each in asked:
        if taken:
            each.command()
        else:
            assert refused(each) == 415


def test_a_patch_needs_an_offset() -> None:
    assert refused(tus("PATCH", "a", content_type=BYTES)) == 400


def test_checksums() -> None:
    digest = sha1(b"hello", usedforsecurity=False)
    said = f"sha1 {b64encode(digest.digest()).decode()}"
    command = tus("PATCH", "a", content_type=BYTES, upload_offset="0", upload_checksum=said).command()
    assert command == Append(offset=0, checksum={"sha1": digest.hexdigest()})
    command = tus("POST", upload_length="5", content_type=BYTES, upload_checksum=said).command()
    assert command == Create(size=5, append=Append(offset=0, checksum={"sha1": digest.hexdigest()}))
    assert tus("PATCH").trailing_checksum({"upload-checksum": said}) == {"sha1": digest.hexdigest()}
    with pytest.raises(InvalidArgumentError):
        tus("PATCH").trailing_checksum({})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha1",
        "sha1 ",
        "sha1 AAAA",
        "sha1 !!!!",
        "sha1 ä",
        f"sha1  {b64encode(bytes(20)).decode()}",
        f"SHA1 {b64encode(bytes(20)).decode()}",
        f"sha512 {b64encode(bytes(64)).decode()}",
        f"sha1 {b64encode(bytes(20)).decode()}, sha1 {b64encode(bytes(20)).decode()}",
        f"sha1 {b64encode(sha256().digest()).decode()}",
        f"crc32 {b64encode(bytes(20)).decode()}",
    ],
)
def test_malformed_checksums(value: str) -> None:
    assert refused(tus("PATCH", "a", content_type=BYTES, upload_offset="0", upload_checksum=value)) == 400


def test_a_trailer_is_awaited_only_from_servers_that_deliver_it() -> None:
    headers = {"content_type": BYTES, "upload_offset": "0", "trailer": "X-Other, Upload-Checksum"}
    assert tus("PATCH", "a", SETTINGS, True, **headers).command() == Append(
        offset=0, trailing=("sha1", "md5", "sha256", "crc32", "crc32c")
    )
    assert refused(tus("PATCH", "a", **headers)) == 400


def test_other_methods() -> None:
    assert tus("HEAD", "a").command() == Describe()
    assert tus("GET", "a", tus_resumable=None).command() == Download()
    assert tus("DELETE", "a").command() == Terminate()
    assert tus("OPTIONS", tus_resumable=None).command() == Discover()
    assert tus("OPTIONS", "a", tus_resumable="0.2.2").command() == Discover()


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1", "1.0.0, 1.0.0", "2.0.0"])
@pytest.mark.parametrize(("method", "upload_id"), [("POST", None), ("HEAD", "a"), ("PATCH", "a"), ("DELETE", "a")])
def test_other_versions_are_refused_with_the_one_that_is_spoken(
    method: str, upload_id: str | None, version: str | None
) -> None:
    protocol = tus(method, upload_id, tus_resumable=version, upload_length="x")
    with pytest.raises(UploadRejectedError) as caught:
        protocol.command()
    answer = protocol.failed(caught.value)
    assert answer.status == 412
    assert dict(answer.headers)["Tus-Version"] == "1.0.0"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_a_header_replaces_any_method(method: str) -> None:
    assert tus(method, "a", x_http_method_override="HEAD").command() == Describe()
    assert tus(method, "a", x_http_method_override="delete").command() == Terminate()
    assert refused(tus(method, "a", x_http_method_override="PATCH")) == 415
    assert refused(tus(method, "a", x_http_method_override="NONE")) == 405


@pytest.mark.parametrize(
    ("method", "upload_id", "allowed"),
    [
        ("PUT", None, "POST, OPTIONS"),
        ("HEAD", None, "POST, OPTIONS"),
        ("PATCH", None, "POST, OPTIONS"),
        ("DELETE", None, "POST, OPTIONS"),
        ("GET", None, "POST, OPTIONS"),
        ("POST", "a", "HEAD, PATCH, GET, DELETE, OPTIONS"),
        ("TRACE", "a", "HEAD, PATCH, GET, DELETE, OPTIONS"),
    ],
)
def test_methods_that_are_not_offered(method: str, upload_id: str | None, allowed: str) -> None:
    protocol = tus(method, upload_id)
    with pytest.raises(UploadRejectedError) as caught:
        protocol.command()
    answer = protocol.failed(caught.value)
    assert answer.status == 405
    assert dict(answer.headers)["Allow"] == allowed


def test_what_is_not_offered_is_refused() -> None:
    bare = Settings(terminates=False, defers=False, concatenates=False, verifies=False, downloads=False)
    assert refused(tus("DELETE", "a", bare)) == 405
    assert refused(tus("GET", "a", bare)) == 405
    assert refused(tus("POST", None, bare, upload_defer_length="1")) == 400
    assert refused(tus("POST", None, bare, upload_concat="partial", upload_length="1")) == 400
    assert refused(tus("POST", None, bare, upload_concat="final;/files/a")) == 400
    said = f"crc32 {b64encode(bytes(4)).decode()}"
    assert refused(tus("PATCH", "a", bare, content_type=BYTES, upload_offset="0", upload_checksum=said)) == 400


def test_errors_of_size_have_their_class() -> None:
    with pytest.raises(ContentTooLargeError):
        tus("POST", upload_length="1001").command()
