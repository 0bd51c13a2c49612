"""W: signed URLs, used by a client without the library."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from trove_async.driver import PresignDriver
from trove_async.errors import InvalidArgumentError, UnsupportedError
from trove_async.testing.conformance.context import Context, plainly, requires
from trove_async.testing.conformance.keys import KEYS

__all__ = ["PresignChecks"]

_EXPIRED = 1.0
_REFUSED = (400, 403)


class PresignChecks:
    """What a URL permits, and for how long."""

    @requires(PresignDriver)
    async def test_w01_each_declared_method_works(self, ctx: Context) -> None:
        """PUT stores, GET and HEAD answer, and DELETE deletes; the client has only the URL.

        Each driver signs GET and PUT, of which a layer may take PUT away.
        """
        store, bucket = ctx.store, ctx.bucket
        methods = store.features.presign_methods
        assert {"GET", "PUT"} <= methods | store.features.dropped.keys()
        async with ctx.harness.http(store.driver) as client:
            if "PUT" in methods:
                answer = await client.request("PUT", await store.presign_put(bucket, "key.txt"), content=b"by url")
                assert answer.status_code in (200, 201, 204)
                assert await store.read(bucket, "key.txt") == b"by url"
            await store.put(bucket, "key.txt", b"by url")
            answer = await client.request("GET", await store.presign_get(bucket, "key.txt"))
            assert (answer.status_code, answer.content) == (200, b"by url")
            if "HEAD" in methods:
                answer = await client.request("HEAD", await store.presign_head(bucket, "key.txt"))
                assert (answer.status_code, answer.content) == (200, b"")
                assert answer.headers["content-length"] == "6"
            if "DELETE" in methods:
                answer = await client.request("DELETE", await store.presign_delete(bucket, "key.txt"))
                assert answer.status_code in (200, 202, 204)
                assert not await store.exists(bucket, "key.txt")

    @requires(PresignDriver)
    async def test_w01_undeclared_methods_are_refused(self, ctx: Context) -> None:
        """A method that the store cannot sign raises an error."""
        for method in ("HEAD", "DELETE"):
            if method not in ctx.store.features.presign_methods:
                with pytest.raises(UnsupportedError):
                    await getattr(ctx.store, f"presign_{method.lower()}")(ctx.bucket, "key")
        if "POST" not in ctx.store.features.presign_methods:
            with pytest.raises(UnsupportedError):
                await ctx.store.presign_post(ctx.bucket, "key", max_size=1)

    @requires(PresignDriver)
    async def test_w01_object_need_not_exist(self, ctx: Context) -> None:
        """A URL of a missing object can be signed; a request to it answers that the object is missing."""
        async with ctx.harness.http(ctx.store.driver) as client:
            answer = await client.request("GET", await ctx.store.presign_get(ctx.bucket, "missing"))
            assert answer.status_code == 404

    @requires(PresignDriver)
    async def test_w01_answer_says_what_the_url_says(self, ctx: Context) -> None:
        """The signer can set the content type and the disposition of the answer."""
        await ctx.store.put(ctx.bucket, "key.txt", b"data")
        url = await ctx.store.presign_get(
            ctx.bucket,
            "key.txt",
            response_content_type="application/x-signed",
            response_content_disposition='attachment; filename="signed.bin"',
        )
        async with ctx.harness.http(ctx.store.driver) as client:
            answer = await client.request("GET", url)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/x-signed")
        assert answer.headers["content-disposition"] == 'attachment; filename="signed.bin"'

    @plainly
    @requires(PresignDriver)
    async def test_w02_url_expires(self, ctx: Context) -> None:
        """A URL works until it expires and not afterwards; lifetimes outside the limits are refused."""
        await ctx.store.put(ctx.bucket, "key", b"data")
        lasting = await ctx.store.presign_get(ctx.bucket, "key", expires=3600)
        short = await ctx.store.presign_get(ctx.bucket, "key", expires=1)
        async with ctx.harness.http(ctx.store.driver) as client:
            await asyncio.sleep(_EXPIRED + 1.2)  # services count whole seconds
            assert (await client.request("GET", short)).status_code in _REFUSED
            assert (await client.request("GET", lasting)).status_code == 200
        for wrong in (0, -1, ctx.store.features.limits.max_presign_seconds + 1):
            with pytest.raises(InvalidArgumentError):
                await ctx.store.presign_get(ctx.bucket, "key", expires=wrong)

    @requires(PresignDriver)
    async def test_w03_url_is_for_one_method(self, ctx: Context) -> None:
        """A URL for reading does not permit writing or deleting; a URL for writing does not permit reading."""
        await ctx.store.put(ctx.bucket, "key", b"data")
        reading = await ctx.store.presign_get(ctx.bucket, "key")
        attempts = [("PUT", reading), ("DELETE", reading)]
        if ctx.store.supports("presign_put"):
            writing = await ctx.store.presign_put(ctx.bucket, "key")
            attempts += [("DELETE", writing), ("GET", writing)]
        async with ctx.harness.http(ctx.store.driver) as client:
            for method, url in attempts:
                answer = await client.request(method, url, content=b"forged" if method == "PUT" else None)
                assert answer.status_code == 403, method
        assert await ctx.store.read(ctx.bucket, "key") == b"data"

    @requires(PresignDriver)
    async def test_w03_changed_url_is_refused(self, ctx: Context) -> None:
        """A URL with any significant change is refused."""
        await ctx.store.put(ctx.bucket, "key", b"data")
        await ctx.store.put(ctx.bucket, "other", b"secret")
        mine = urlsplit(await ctx.store.presign_get(ctx.bucket, "key"))
        other = urlsplit(await ctx.store.presign_get(ctx.bucket, "other"))
        forged = [mine._replace(path=other.path).geturl()] if mine.path != other.path else []
        forged += [mine._replace(query=mine.query[:-2] + ("AA" if mine.query[-2:] != "AA" else "BB")).geturl()]
        forged += [mine._replace(query="").geturl()] if mine.query else []
        async with ctx.harness.http(ctx.store.driver) as client:
            for url in forged:
                answer = await client.request("GET", url)
                assert 400 <= answer.status_code < 500, url
                assert answer.content not in (b"data", b"secret")

    @requires(PresignDriver, "presign_put")
    async def test_w03_bound_content_is_enforced(self, ctx: Context) -> None:
        """A put whose type or length differs from the signed one is refused, and stores nothing."""
        url = await ctx.store.presign_put(ctx.bucket, "key", content_type="text/x-signed", content_length=4)
        signed = {"content-type": "text/x-signed"}
        async with ctx.harness.http(ctx.store.driver) as client:
            for headers, content in (
                ({"content-type": "text/html"}, b"data"),
                (signed, b"longer than signed"),
                (signed, b"s"),
            ):
                answer = await client.request("PUT", url, headers=headers, content=content)
                assert answer.status_code in _REFUSED
                assert not await ctx.store.exists(ctx.bucket, "key")
            answer = await client.request("PUT", url, headers=signed, content=b"data")
            assert answer.status_code in (200, 201, 204)
        head = await ctx.store.head(ctx.bucket, "key")
        assert (head.size, head.content_type) == (4, "text/x-signed")

    @requires(PresignDriver)
    async def test_w04_special_keys(self, ctx: Context) -> None:
        """Keys that a client or a proxy would normalise reach their object, for reading and for writing."""
        special = [*KEYS["k05_escapes_are_not_decoded"], *KEYS["k10_url_characters"], *KEYS["k15_doubled_slash"]]
        special += ["☺", " a b ", "/leading", "trailing/", "a\\b", "../up", "a/../b", ".", "k" * 1024]
        special = ctx.held(special)
        async with ctx.harness.http(ctx.store.driver) as client:
            for key in special:
                content = key.encode()
                if ctx.store.supports("presign_put"):
                    answer = await client.request("PUT", await ctx.store.presign_put(ctx.bucket, key), content=content)
                    assert answer.status_code in (200, 201, 204), key
                else:
                    await ctx.store.put(ctx.bucket, key, content)
                answer = await client.request("GET", await ctx.store.presign_get(ctx.bucket, key))
                assert (answer.status_code, answer.content) == (200, content), key
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == sorted({*special}, key=str.encode)
