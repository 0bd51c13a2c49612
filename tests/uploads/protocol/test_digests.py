"""Digest fields to digests, and back."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from trove_async import checksums
from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.uploads.protocol.digests import format_digests, parse_digests

SHA256 = hashlib.sha256(b"a")
SHA512 = hashlib.sha512(b"a")


def member(key: str, digest: bytes) -> str:
    return f"{key}=:{b64encode(digest).decode()}:"


def test_all_known_digests_are_found() -> None:
    sha1, md5 = hashlib.sha1(b"a", usedforsecurity=False), hashlib.md5(b"a", usedforsecurity=False)
    crc32c = checksums.new_hasher("crc32c")
    crc32c.update(b"a")
    text = ", ".join(
        [
            member("sha-256", SHA256.digest()),
            member("sha-512", SHA512.digest()),
            member("sha", sha1.digest()),
            member("md5", md5.digest()),
            member("crc32c", bytes.fromhex(crc32c.hexdigest())),
            member("sha-1024", b"x"),
        ]
    )
    assert parse_digests({"repr-digest": text}, "repr-digest") == {
        "sha256": SHA256.hexdigest(),
        "sha512": SHA512.hexdigest(),
        "sha1": sha1.hexdigest(),
        "md5": md5.hexdigest(),
        "crc32c": crc32c.hexdigest(),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense nonsense",
        "sha-256=abc",
        "sha-256=1",
        "sha-256",
        member("sha-256", SHA256.digest()) + ", other=1",
        member("SHA-256", SHA256.digest()),
        member("sha-256", SHA256.digest())[:-1],
    ],
)
def test_malformed_fields_are_ignored(text: str) -> None:
    assert parse_digests({"content-digest": text}, "content-digest") == {}


def test_a_digest_that_cannot_match_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="2 bytes are no sha-256"):
        parse_digests({"content-digest": member("sha-256", b"ab")}, "content-digest")


def test_crc32c_without_its_package_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> checksums.Hasher:
        raise MissingDependencyError

    monkeypatch.setitem(checksums._HASHERS, "crc32c", missing)
    text = member("crc32c", b"abcd") + ", " + member("sha-256", SHA256.digest())
    assert parse_digests({"content-digest": text}, "content-digest") == {"sha256": SHA256.hexdigest()}


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (None, ["sha-512", "sha-256"]),
        ("sha-256=10, sha-512=3", ["sha-256", "sha-512"]),
        ("sha-256=1, sha-512=0", ["sha-256"]),
        ("sha-256=1", ["sha-256"]),
        ("md5=10", []),
        ("malformed=", ["sha-512", "sha-256"]),
        ("sha-256=:YQ==:", []),
    ],
)
def test_preferences(wanted: str | None, keys: list[str]) -> None:
    digests = {"sha256": SHA256.hexdigest(), "sha512": SHA512.hexdigest(), "blake2b": "00"}
    headers = {} if wanted is None else {"want-repr-digest": wanted}
    text = format_digests(digests, headers, "want-repr-digest")
    assert [part.partition("=")[0] for part in (text or "").split(", ") if part] == keys
    assert text is None or parse_digests({"repr-digest": text}, "repr-digest").keys() <= digests.keys()
