"""K: every valid key works in every operation and is returned unchanged.

A cloud service may forbid a key; the driver's `check_key` then refuses it before any I/O, which K7 and K12 accept
and the others do not.
"""

from __future__ import annotations

import random
import string
import unicodedata
from collections.abc import Sequence
from typing import Final

import pytest

from trove_async.driver import PresignDriver
from trove_async.errors import InvalidKeyError, ObjectNotFoundError
from trove_async.keys import MAX_KEY_BYTES
from trove_async.testing.conformance.context import Context, plainly
from trove_async.testing.conformance.counting import CallCounter

__all__ = ["KEYS", "KeyChecks", "random_keys"]

_NFC: Final = unicodedata.normalize("NFC", "é ñ å 각")
_NFD: Final = unicodedata.normalize("NFD", _NFC)
_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_MARKS: Final = [chr(code) for code in range(0x20, 0x7F) if chr(code) not in _ALPHANUMERIC]

KEYS: Final[dict[str, Sequence[str]]] = {
    "k01_spaces": ["a b", "a  b", "a b/c d"],
    "k02_spaces_at_the_ends": [" a", "a ", " a ", "dir /a", "dir/ a", " ", "\u00a0a\u00a0", "\u3000"],
    "k03_unicode": ["☺", "emoji-👩‍👩‍👧", "日本語/ファイル", "кирилл.txt", "עברית", "\uffff", "\U0010ffff", "\ufeff"],
    "k04_nfc_and_nfd_are_distinct": [_NFC, _NFD],
    "k05_escapes_are_not_decoded": ["%2F", "a%2Fb", "a/b", "%Q", "%48", "H", "100%", "%", "%%", "%252F", "a%00b"],
    "k06_each_ascii_character": [_ALPHANUMERIC, *(f"at-{c}-it" for c in _MARKS), *(c for c in _MARKS if c not in "./")],
    "k09_quotes": ['"', "'", "`", "&", "<", ">", "<'&\">", "&amp;", "&#65;", "]]>", "<Key>x</Key>", "{json: \"'}"],
    "k10_url_characters": [*"+=;:@,?#$~!*()", "a+b", "a?b=c&d#e", "a:b@c", "http://host/path?query#part", "~user"],
    "k11_backslashes": ["\\", "a\\b", "..\\", "..\\..\\x", "a\\", "\\\\server\\share", "C:\\x", "\\0", "\\n"],
    "k13_leading_slash": ["/", "/a", "//a", "///", "/a/b", "a"],
    "k14_trailing_slash": ["a/", "a", "a//", "b/c/", "b/c"],
    "k15_doubled_slash": ["a//b", "a/b", "a///b", "a/b//"],
    "k17_case_pairs_are_distinct": ["A", "a", "Dir/File", "dir/file", "DIR/FILE", "ß", "ẞ", "SS", "ı", "I", "i", "İ"],
    "k18_key_and_keys_below_it": ["a", "a/b", "a/b/c", "a/b/c/d", "a.b", "a-b", "ab", "x/y", "x"],
    "k19_windows_names": ["CON", "con.txt", "nul", "COM1", "LPT1/a", "dir/aux", "dot.", "dots...", "sp ", "a:b", "|*?"],
    "k20_names_like_the_drivers_own": [
        *("k", "k.meta", "k.meta.json", "k.attrs", "k.etag", "k.sha256", "k.tmp", "k.part", "k.part.1", "k.lock", "k~"),
        *(".k.swp", "#k#", ".trove-tmp-k", ".trove-tmp-", ".trove", ".trove/parts/k", ".trove/locks/0", ".nfs0001"),
        *("k%F", "k%D", "k%D/x", "k%", "%C", ".%k", "k.trove", "k/.meta", "k/.trove/x", "lost+found"),
    ],
}  # fmt: skip
"""The keys of each check; all keys of one check are in the bucket together."""

LITERAL_PATHS: Final = (
    *("..", ".", "../x", "../../x", "a/../b", "a/./b", "a/..", "a/.", "./a", "/..", "/../x", "/../../etc/passwd"),
    *("...", "a/.../b", "..a", "a..", "..\\x", "b", "a/b", "x"),
)
CONTROL_KEYS: Final = tuple(f"at-{chr(code)}-it" for code in range(0x01, 0x20))


def random_keys(count: int, seed: int) -> list[str]:
    """Return valid keys made of characters that have caused trouble, the same for the same seed."""
    source = random.Random(seed)
    trouble = "/.%\\ +&?#=~*'\"<>|:-_aAzZ09éß☺👍中\u0301\u200b\u202e\u00a0\u2028\ufffd\U0001f9ff"
    keys: set[str] = set()
    while len(keys) < count:
        plain = (chr(source.choice([source.randrange(0x20, 0x7F), source.randrange(0xA0, 0xD7FF)])) for _ in range(4))
        alphabet = trouble + "".join(plain)
        key = "".join(source.choices(alphabet, k=source.choice([1, 2, 3, 8, 40, 200])))
        if len(key.encode()) <= MAX_KEY_BYTES:
            keys.add(key)
    return sorted(keys)


def _content(key: str) -> bytes:
    return b"[" + key.encode() + b"]"


async def _round_trip(ctx: Context, keys: Sequence[str]) -> None:
    """Use each key in every operation while all are in the bucket; the driver may refuse some of them."""
    store, bucket = ctx.store, ctx.bucket
    refused = [key for key in keys if ctx.refuses(key)]
    keys = ctx.held(keys)
    for key in keys:
        info = await store.put(bucket, key, _content(key), metadata={"of": key.encode().hex()[:200]})
        assert (info.key, info.size) == (key, len(_content(key)))
    listed = {found.key: found for found in await store.list(bucket).all()}
    assert [*listed] == sorted(keys, key=str.encode)
    for key in keys:
        content = _content(key)
        head = await store.head(bucket, key)
        assert (head.key, head.size, head.etag) == (key, listed[key].size, listed[key].etag)
        assert head.metadata == {"of": key.encode().hex()[:200]}
        assert await store.read(bucket, key) == content
        assert await store.read(bucket, key, (1, 2)) == content[1:3]
        assert key in [found.key for found in await store.list(bucket, prefix=key).all()]
    await _copy_each(ctx, keys)
    if store.supports(PresignDriver):
        async with ctx.harness.http(store.driver) as client:
            for key in keys:
                answer = await client.request("GET", await store.presign_get(bucket, key))
                assert (answer.status_code, answer.content) == (200, _content(key)), key
    for position, key in enumerate(keys, 1):
        await store.delete(bucket, key)
        with pytest.raises(ObjectNotFoundError):
            await store.head(bucket, key)
        if position == len(keys) // 2:
            left = [found.key for found in await store.list(bucket).all()]
            assert left == sorted(keys[position:], key=str.encode)
    assert await store.list(bucket).all() == []
    for key in refused:
        await _refused_before_io(ctx, key)


async def _copy_each(ctx: Context, keys: Sequence[str]) -> None:
    """Copy from and to each key, in another bucket, so that the bucket under test holds only these keys."""
    other = await ctx.new_bucket()
    for key in keys:
        await ctx.store.copy(ctx.bucket, key, other, "copied")
        assert await ctx.store.read(other, "copied") == _content(key)
        await ctx.store.copy(other, "copied", other, key)
        assert await ctx.store.read(other, key) == _content(key)
        await ctx.store.delete_many(other, ["copied", key])
        assert await ctx.store.list(other).all() == []


async def _refused_before_io(ctx: Context, key: str) -> None:
    """Assert that every operation refuses a key without a request to the backend."""
    counter = CallCounter()
    store = await ctx.reopen(counter)
    await ctx.store.put(ctx.bucket, "other", b"x")
    for operation in (
        lambda: store.put(ctx.bucket, key, b"x"),
        lambda: store.read(ctx.bucket, key),
        lambda: store.head(ctx.bucket, key),
        lambda: store.exists(ctx.bucket, key),
        lambda: store.delete(ctx.bucket, key),
        lambda: store.copy(ctx.bucket, key, ctx.bucket, "copy"),
        lambda: store.copy(ctx.bucket, "other", ctx.bucket, key),
        lambda: store.move(ctx.bucket, "other", ctx.bucket, key),
    ):
        with pytest.raises(InvalidKeyError):
            await operation()
    with pytest.raises(InvalidKeyError):
        await store.get(ctx.bucket, key)
    with pytest.raises(InvalidKeyError):
        store.writer(ctx.bucket, key)
    if store.supports(PresignDriver):
        with pytest.raises(InvalidKeyError):
            await store.presign_get(ctx.bucket, key)
    assert counter.calls == []
    assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == ["other"]
    await ctx.store.delete(ctx.bucket, "other")


class KeyChecks:
    """Each key with put, head, get, range, list, copy, presign (if declared) and delete."""

    @plainly
    async def test_k01_spaces(self, ctx: Context) -> None:
        """Spaces within a key."""
        await _round_trip(ctx, KEYS["k01_spaces"])

    @plainly
    async def test_k02_spaces_at_the_ends(self, ctx: Context) -> None:
        """Leading and trailing spaces are not trimmed."""
        await _round_trip(ctx, KEYS["k02_spaces_at_the_ends"])

    @plainly
    async def test_k03_unicode(self, ctx: Context) -> None:
        """Keys in every script, and characters beyond the Basic Multilingual Plane."""
        await _round_trip(ctx, KEYS["k03_unicode"])

    @plainly
    async def test_k04_nfc_and_nfd_are_distinct(self, ctx: Context) -> None:
        """Keys are not normalised: two keys that look the same are two keys."""
        await _round_trip(ctx, KEYS["k04_nfc_and_nfd_are_distinct"])

    @plainly
    async def test_k05_escapes_are_not_decoded(self, ctx: Context) -> None:
        """Percent escapes in a key are kept literally."""
        await _round_trip(ctx, KEYS["k05_escapes_are_not_decoded"])

    @plainly
    async def test_k06_each_ascii_character(self, ctx: Context) -> None:
        """Every printable character; those that are no letters and digits alone and in the middle of a key."""
        await _round_trip(ctx, KEYS["k06_each_ascii_character"])

    @plainly
    async def test_k07_control_characters(self, ctx: Context) -> None:
        """They round-trip, or the driver's rule refuses them before I/O."""
        await _round_trip(ctx, CONTROL_KEYS)

    async def test_k08_nul_is_rejected(self, ctx: Context) -> None:
        """No backend stores a key with NUL."""
        for key in ("\0", "a\0", "\0a", "a\0b"):
            await _refused_before_io(ctx, key)

    @plainly
    async def test_k09_quotes(self, ctx: Context) -> None:
        """Characters that XML, JSON and HTML escape."""
        await _round_trip(ctx, KEYS["k09_quotes"])

    @plainly
    async def test_k10_url_characters(self, ctx: Context) -> None:
        """Characters with a meaning in URLs."""
        await _round_trip(ctx, KEYS["k10_url_characters"])

    @plainly
    async def test_k11_backslashes(self, ctx: Context) -> None:
        """A backslash is not a separator."""
        await _round_trip(ctx, KEYS["k11_backslashes"])

    @plainly
    async def test_k12_dots_are_literal(self, ctx: Context) -> None:
        """Keys that look like relative paths are ordinary keys, and never leave their bucket."""
        neighbour = await ctx.new_bucket()
        await ctx.store.put(neighbour, "x", b"neighbour")
        keys = [*LITERAL_PATHS, f"../{neighbour}/x", f"../{neighbour}/new", f"/{neighbour}/x", f"a/../../{neighbour}/x"]
        for key in ctx.held(keys):
            await ctx.store.put(ctx.bucket, key, _content(key))
        assert [found.key for found in await ctx.store.list(neighbour).all()] == ["x"]
        assert await ctx.store.read(neighbour, "x") == b"neighbour"
        assert {ctx.bucket, neighbour} <= {bucket.name for bucket in await ctx.store.list_buckets()}
        await _round_trip(ctx, keys)
        assert [found.key for found in await ctx.store.list(neighbour).all()] == ["x"]

    @plainly
    async def test_k13_leading_slash(self, ctx: Context) -> None:
        """A leading slash is part of the key."""
        await _round_trip(ctx, KEYS["k13_leading_slash"])

    @plainly
    async def test_k14_trailing_slash(self, ctx: Context) -> None:
        """A trailing slash makes another key, which is an ordinary object."""
        await _round_trip(ctx, KEYS["k14_trailing_slash"])

    @plainly
    async def test_k15_doubled_slash(self, ctx: Context) -> None:
        """Repeated slashes are not merged."""
        await _round_trip(ctx, KEYS["k15_doubled_slash"])

    async def test_k16_longest_key(self, ctx: Context) -> None:
        """Keys of 1,024 bytes are stored, with few components and with many; keys of 1,025 bytes are refused."""
        longest = ["k" * 1024, "é" * 512, "d/" * 511 + "kk", "👍" * 256, "/".join(["n" * 255] * 4)]
        assert {len(key.encode()) for key in longest} == {1023, 1024}
        await _round_trip(ctx, longest)
        for key in ("k" * 1025, "é" * 512 + "k", "👍" * 257):
            await _refused_before_io(ctx, key)

    @plainly
    async def test_k17_case_pairs_are_distinct(self, ctx: Context) -> None:
        """Keys that differ only in case are distinct, whatever the file system does."""
        await _round_trip(ctx, KEYS["k17_case_pairs_are_distinct"])

    @plainly
    async def test_k18_key_and_keys_below_it(self, ctx: Context) -> None:
        """``a`` and ``a/b`` are two objects, in whichever order they are stored."""
        keys = KEYS["k18_key_and_keys_below_it"]
        await _round_trip(ctx, keys)
        await _round_trip(ctx, keys[::-1])

    @plainly
    async def test_k19_windows_names(self, ctx: Context) -> None:
        """Names that Windows reserves."""
        await _round_trip(ctx, KEYS["k19_windows_names"])

    @plainly
    async def test_k20_names_like_the_drivers_own(self, ctx: Context) -> None:
        """No key collides with a sidecar, a temporary or a folder of the driver."""
        await _round_trip(ctx, KEYS["k20_names_like_the_drivers_own"])

    async def test_k21_lone_surrogate_is_rejected(self, ctx: Context) -> None:
        """Text without a UTF-8 encoding is not a valid key."""
        for key in ("\ud800", "a\udfffb", "\udc80"):
            await _refused_before_io(ctx, key)

    @plainly
    async def test_k22_generated_keys(self, ctx: Context) -> None:
        """Fifty generated keys, the same in every run."""
        await _round_trip(ctx, random_keys(50, seed=22))
