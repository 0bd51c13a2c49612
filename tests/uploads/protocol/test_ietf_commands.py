"""Resumable Uploads for HTTP: what requests ask for, and every malformed header."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.errors import (
    ContentTooLargeError,
    InvalidArgumentError,
    TroveError,
    UploadLengthError,
    UploadRejectedError,
)
from trove_async.uploads.protocol.ietf import IETF, speaks_ietf
from trove_async.uploads.protocol.messages import (
    Append,
    Command,
    Create,
    Describe,
    Discover,
    Download,
    Request,
    Settings,
    Terminate,
)

SHA256 = hashlib.sha256(b"abc")
DIGEST = f"sha-256=:{b64encode(SHA256.digest()).decode()}:"
PARTIAL = {"content-type": "application/partial-upload"}
VERSIONS = [None, "3", "4", "5", "6", "7", "8", "9"]


def command(method: str, headers: dict[str, str], upload_id: str | None = None, **settings: Any) -> Command:
    return IETF(Request(method, headers, upload_id), Settings(**settings)).command()


def create(headers: dict[str, str], **settings: Any) -> Create:
    found = command("POST", headers, None, **settings)
    assert isinstance(found, Create)
    return found


def append(headers: dict[str, str], **settings: Any) -> Append:
    found = command("PATCH", headers, "a", **settings)
    assert isinstance(found, Append)
    return found


def asked(version: str | None, complete: bool, **headers: str) -> dict[str, str]:
    """Return the headers of a request in a version."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if version is not None:
        said["upload-draft-interop-version"] = version
    if version == "3":
        return said | {"upload-incomplete": f"?{not complete:d}"}
    return said | {"upload-complete": f"?{complete:d}"}


def not_last(version: str | None) -> bool | None:
    """Return what a body means that does not complete its upload: for tus-js-client, the size decides."""
    return None if version in ("5", "6") else False


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_creation_with_the_whole_content(version: str | None, method: str) -> None:
    found = command(method, asked(version, True, content_length="3"))
    assert found == Create(size=3, append=Append(offset=0, size=3, is_last=True, body_size=3))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_creation_with_the_first_bytes(version: str | None) -> None:
    found = create(asked(version, False, content_length="3", upload_length="5"))
    assert found == Create(size=5, append=Append(offset=0, size=5, is_last=not_last(version), body_size=3))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_creation_without_bytes(version: str | None) -> None:
    assert create(asked(version, False, content_length="0")) == Create()
    assert create(asked(version, False, content_length="0", upload_length="5")) == Create(size=5)


def test_a_creation_of_an_unknown_length() -> None:
    found = create(asked(None, True))
    assert found == Create(append=Append(offset=0, is_last=True))
    assert create(asked(None, True, upload_length="5")).size == 5
    with pytest.raises(UploadRejectedError, match="length") as caught:
        create(asked(None, True), defers=False)
    assert caught.value.status_code == 411
    assert create(asked(None, True, content_length="3"), defers=False).size == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_upload(version: str | None) -> None:
    whole = Create(size=0, append=Append(offset=0, size=0, is_last=True, body_size=0))
    assert create(asked(version, True, content_length="0")) == whole
    # tus-js-client, which speaks 5 and 6, does not complete an empty upload.
    incomplete = create(asked(version, False, content_length="0", upload_length="0"))
    assert incomplete == (whole if version in ("5", "6") else Create(size=0))


def test_what_is_said_about_the_content() -> None:
    headers = asked(None, True, content_length="3") | {
        "content-type": "text/plain; charset=utf-8",
        "content-disposition": 'inline; filename="a b.txt"',
        "content-encoding": "gzip",
        "content-language": "",
        "repr-digest": DIGEST,
    }
    found = create(headers)
    assert found.content_type == "text/plain; charset=utf-8"
    assert found.content_disposition == 'inline; filename="a b.txt"'
    assert (found.content_encoding, found.content_language) == ("gzip", None)
    assert found.digests == {"sha256": SHA256.hexdigest()}
    assert create(asked(None, False, content_type="Application/Partial-Upload; a=b")).content_type is None


def test_digests_of_a_body() -> None:
    headers = asked(None, False, upload_offset="2", content_digest=DIGEST) | PARTIAL
    assert append(headers).checksum == {"sha256": SHA256.hexdigest()}
    assert append(headers, verifies=False).checksum == {}
    headers = asked(None, True, content_length="3", content_digest=DIGEST)
    first = create(headers).append
    assert first is not None
    assert first.checksum == {"sha256": SHA256.hexdigest()}


@pytest.mark.parametrize(
    ("trailers", "verifies", "trailer", "expected"),
    [
        (True, True, "X-Other, Content-Digest", True),
        (True, True, "X-Other", False),
        (False, True, "Content-Digest", False),
        (True, False, "Content-Digest", False),
    ],
)
def test_a_digest_that_follows_the_body(trailers: bool, verifies: bool, trailer: str, expected: bool) -> None:
    headers = asked(None, True, trailer=trailer, upload_offset="0") | PARTIAL
    protocol = IETF(Request("PATCH", headers, "a", trailers=trailers), Settings(verifies=verifies))
    found = protocol.command()
    assert isinstance(found, Append)
    assert bool(found.trailing) is expected
    assert protocol.trailing_checksum({"content-digest": DIGEST}) == {"sha256": SHA256.hexdigest()}
    assert protocol.trailing_checksum({}) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_append(version: str | None) -> None:
    headers = asked(version, False, upload_offset="2", content_length="3") | PARTIAL
    assert append(headers) == Append(offset=2, is_last=not_last(version), body_size=3)
    headers = asked(version, True, upload_offset="2", content_length="3") | PARTIAL
    assert append(headers) == Append(offset=2, size=5, is_last=True, body_size=3)
    headers = asked(version, True, upload_offset="2") | PARTIAL
    assert append(headers) == Append(offset=2, is_last=True)
    headers = asked(version, False, upload_offset="2", upload_length="9") | PARTIAL
    assert append(headers) == Append(offset=2, size=9, is_last=not_last(version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/offset+octet-stream"])
def test_the_media_type_of_an_append(version: str | None, content_type: str | None) -> None:
    headers = asked(version, False, upload_offset="2") | (
        {} if content_type is None else {"content-type": content_type}
    )
    if version in ("3", "4", "5"):
        assert append(headers).offset == 2
        return
    with pytest.raises(UploadRejectedError) as caught:
        append(headers)
    assert caught.value.status_code == 415
    assert caught.value.headers == (("Accept-Patch", "application/partial-upload"),)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_append_has_no_content_encoding(version: str | None) -> None:
    headers = asked(version, False, upload_offset="2") | {
        "content-type": "application/partial-upload",
        "content-encoding": "gzip",
    }
    if version in ("3", "4", "5"):
        assert append(headers).offset == 2
        return
    with pytest.raises(UploadRejectedError) as caught:
        append(headers)
    assert caught.value.status_code == 415


@pytest.mark.parametrize("version", VERSIONS)
def test_an_append_that_does_not_say_whether_it_is_the_last(version: str | None) -> None:
    headers = {"upload-offset": "2", "content-length": "3"} | PARTIAL
    if version is not None:
        headers["upload-draft-interop-version"] = version
    if version in ("3", "4", "5", "6"):
        assert append(headers).is_last is True
    else:
        with pytest.raises(InvalidArgumentError, match="Upload-Complete"):
            append(headers)
    field = "upload-incomplete" if version == "3" else "upload-complete"
    with pytest.raises(InvalidArgumentError, match=r"Upload-(Complete|Incomplete)"):
        append(headers | {field: "yes"})


NO_BOOLEAN = ["", "1", "true", "?2", "?1, ?1", "?1 x", '"?1"', "?1;"]
NO_NUMBER = ["", "-1", "+2", "2.0", "2,3", "two", "?1", "0x2", "2;", "10000000000000000", "²"]


@pytest.mark.parametrize("value", NO_BOOLEAN)
def test_malformed_completeness_is_as_if_missing(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Upload-Complete"):
        create({"upload-complete": value, "content-length": "3"})
    with pytest.raises(InvalidArgumentError, match="Upload-Complete"):
        append({"upload-complete": value, "upload-offset": "2"} | PARTIAL)


@pytest.mark.parametrize("value", NO_NUMBER)
def test_malformed_offsets_are_as_if_missing(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Upload-Offset"):
        append(asked(None, True, upload_offset=value) | PARTIAL)
    with pytest.raises(InvalidArgumentError, match="Upload-Offset"):
        append(asked(None, True) | PARTIAL)


@pytest.mark.parametrize("value", NO_NUMBER)
def test_malformed_lengths_are_ignored(value: str) -> None:
    assert create(asked(None, True, content_length="3", upload_length=value)).size == 3
    assert create(asked(None, False, upload_length=value)).size is None


@pytest.mark.parametrize("value", [*NO_NUMBER, "2", "10", "99"])
def test_without_a_version_that_is_spoken_it_is_the_rfc(value: str) -> None:
    headers = asked(None, True, content_length="3", upload_draft_interop_version=value)
    protocol = IETF(Request("POST", headers), Settings())
    assert protocol.command() == create(asked(None, True, content_length="3"))
    assert protocol.terminated().headers == []


@pytest.mark.parametrize("value", ["", "-1", "+1", "1.5", "three", "1, 1", "9" * 21])
def test_malformed_content_lengths(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Content-Length"):
        create(asked(None, True, content_length=value))
    with pytest.raises(InvalidArgumentError, match="Content-Length"):
        append(asked(None, True, upload_offset="0", content_length=value) | PARTIAL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "nonsense"),
        ("content-type", "text/plain\n"),
        ("content-type", "tëxt/plain"),
        ("content-disposition", 'inline; filename="ü"'),
        ("content-disposition", "a\r\nX: y"),
        ("content-encoding", "ü"),
        ("content-language", "d\0e"),
        ("repr-digest", "sha-256=:YQ==:"),
        ("content-digest", "sha-512=:YQ==:"),
    ],
)
def test_what_is_malformed_about_the_content_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError):
        create(asked(None, True, content_length="3") | {name: value})


@pytest.mark.parametrize("name", ["repr-digest", "content-digest", "trailer", "content-type", "content-disposition"])
def test_empty_headers_are_as_if_missing(name: str) -> None:
    assert create(asked(None, True, content_length="3") | {name: ""}) == create(asked(None, True, content_length="3"))


@pytest.mark.parametrize(
    ("complete", "headers"),
    [
        (True, {"content-length": "3", "upload-length": "4"}),
        (True, {"content-length": "3", "upload-length": "2"}),
        (False, {"content-length": "3", "upload-length": "2"}),
    ],
)
def test_lengths_that_contradict_each_other(complete: bool, headers: dict[str, str]) -> None:
    with pytest.raises(UploadLengthError):
        create(asked(None, complete) | headers)
    later = asked(None, complete, upload_offset="10") | PARTIAL | headers
    later["upload-length"] = str(10 + int(headers["upload-length"]))
    with pytest.raises(UploadLengthError):
        append(later)


def test_an_offset_beyond_the_length() -> None:
    with pytest.raises(UploadLengthError):
        append(asked(None, False, upload_offset="10", upload_length="9") | PARTIAL)


@pytest.mark.parametrize(
    "headers",
    [
        asked(None, True, content_length="11"),
        asked(None, False, content_length="11"),
        asked(None, False, upload_length="11"),
        asked(None, False, content_length="11", upload_length="11"),
    ],
)
def test_what_is_too_large_is_refused_before_a_byte_is_read(headers: dict[str, str]) -> None:
    with pytest.raises(ContentTooLargeError):
        create(headers, max_size=10)
    create(headers, max_size=11)


def test_lengths_that_no_offset_could_say_are_too_large() -> None:
    with pytest.raises(ContentTooLargeError):
        create(asked(None, True, content_length="1000000000000000"))
    with pytest.raises(ContentTooLargeError):
        append(asked(None, False, upload_offset="999999999999999", content_length="1") | PARTIAL)


def test_other_methods() -> None:
    assert command("OPTIONS", {}) == Discover()
    assert command("OPTIONS", {}, "a") == Discover()
    assert command("HEAD", {}, "a") == Describe()
    assert command("GET", {}, "a") == Download()
    assert command("DELETE", {}, "a") == Terminate()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
def test_headers_that_old_versions_forbid(version: str | None, method: str) -> None:
    plain = {} if version is None else {"upload-draft-interop-version": version}
    expected = Describe() if method == "HEAD" else Terminate()
    assert command(method, plain, "a") == expected
    for headers in (asked(version, True), plain | {"upload-offset": "3"}):
        if version in ("3", "4", "5", "6"):
            with pytest.raises(InvalidArgumentError, match=method):
                command(method, headers, "a")
        else:
            assert command(method, headers, "a") == expected


def test_a_creation_in_version_3_need_not_say_that_it_is_complete() -> None:
    headers = {"upload-draft-interop-version": "3", "content-length": "3"}
    first = create(headers).append
    assert first is not None
    assert first.is_last is True
    with pytest.raises(InvalidArgumentError, match="Upload-Incomplete"):
        create(headers | {"upload-incomplete": "no"})


@pytest.mark.parametrize(
    ("method", "upload_id", "settings", "allowed"),
    [
        ("POST", "a", {}, "PATCH, HEAD, GET, DELETE, OPTIONS"),
        ("PUT", "a", {}, "PATCH, HEAD, GET, DELETE, OPTIONS"),
        ("DELETE", "a", {"terminates": False}, "PATCH, HEAD, GET, OPTIONS"),
        ("GET", "a", {"downloads": False}, "PATCH, HEAD, DELETE, OPTIONS"),
        ("HEAD", None, {}, "POST, PUT, PATCH, OPTIONS"),
        ("DELETE", None, {}, "POST, PUT, PATCH, OPTIONS"),
    ],
)
def test_methods_that_are_not_offered(
    method: str, upload_id: str | None, settings: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(UploadRejectedError) as caught:
        command(method, asked(None, True), upload_id, **settings)
    assert caught.value.status_code == 405
    assert caught.value.headers == (("Allow", allowed),)
    assert dict(IETF(Request("OPTIONS", {}, upload_id), Settings(**settings)).discovered().headers)["Allow"] == allowed


@pytest.mark.parametrize(
    ("headers", "speaks"),
    [
        ({"upload-complete": "?1"}, True),
        ({"upload-complete": "malformed"}, True),
        ({"upload-draft-interop-version": "8"}, True),
        (PARTIAL, True),
        ({"tus-resumable": "1.0.0", "upload-complete": "?1"}, False),
        ({"upload-offset": "0"}, False),
        ({}, False),
    ],
)
def test_which_protocol_it_is(headers: dict[str, str], speaks: bool) -> None:
    assert speaks_ietf(headers) is speaks


NAMES = [
    *("upload-complete", "upload-incomplete", "upload-offset", "upload-length", "upload-draft-interop-version"),
    *("content-length", "content-type", "content-disposition", "content-digest", "repr-digest", "trailer"),
]
VALUES = st.one_of(
    st.sampled_from(["?0", "?1", "0", "3", "8", "application/partial-upload", DIGEST]), st.text(max_size=20)
)


@given(
    st.sampled_from(["POST", "PUT", "PATCH", "HEAD", "GET", "DELETE", "OPTIONS", "TRACE"]),
    st.sampled_from([None, "a"]),
    st.dictionaries(st.sampled_from(NAMES), VALUES),
)
def test_every_request_is_a_command_or_a_refusal(method: str, upload_id: str | None, headers: dict[str, str]) -> None:
    protocol = IETF(Request(method, headers, upload_id), Settings(max_size=100))
    error: TroveError | None = None
    try:
        protocol.command()
    except TroveError as raised:
        error = raised
    assert error is None or 400 <= protocol.failed(error).status < 500
