"""Signed URLs in the browsers of pages from other origins."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import trove_async as trove
from trove_async.errors import InvalidArgumentError
from trove_async.web import CORS, signed_urls

pytestmark = pytest.mark.asyncio

PAGE = "https://app.example.com"
OTHER = "https://evil.example.com"


def client_of(store: trove.Trove, cors: CORS | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(signed_urls(store, cors=cors)))


def asking(origin: str, method: str = "PUT", headers: str | None = "content-type,if-none-match") -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return asked if headers is None else {**asked, "Access-Control-Request-Headers": headers}


@pytest.mark.parametrize(("origins", "allowed"), [((PAGE,), PAGE), ((OTHER, PAGE), PAGE), (("*",), "*")])
async def test_a_preflight_allows_what_signed_urls_are_for(
    store: trove.Trove, origins: tuple[str, ...], allowed: str
) -> None:
    async with client_of(store, CORS(origins, max_age=60)) as client:
        url = await store.presign_put("b", "k")
        answer = await client.options(url, headers=asking(PAGE))
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == allowed
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD, PUT, DELETE"
        assert answer.headers["access-control-allow-headers"] == "content-type,if-none-match"
        assert answer.headers["access-control-max-age"] == "60"
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
        plain = await client.options(url, headers=asking(PAGE, headers=None))
        assert "access-control-allow-headers" not in plain.headers
    assert not await store.exists("b", "k")


async def test_a_page_may_send_cookies_if_the_application_says_so(store: trove.Trove) -> None:
    await store.put("b", "k", b"data")
    async with client_of(store, CORS((PAGE,), credentials=True)) as client:
        url = await store.presign_get("b", "k")
        for answer in (
            await client.options(url, headers=asking(PAGE)),
            await client.get(url, headers={"Origin": PAGE}),
        ):
            assert answer.headers["access-control-allow-credentials"] == "true"
        other = await client.get(url, headers={"Origin": OTHER})
        assert "access-control-allow-credentials" not in other.headers


async def test_another_origin_is_allowed_nothing(store: trove.Trove) -> None:
    await store.put("b", "k", b"data")
    async with client_of(store, CORS((PAGE,))) as client:
        url = await store.presign_get("b", "k")
        for answer in (
            await client.options(url, headers=asking(OTHER)),
            await client.get(url, headers={"Origin": OTHER}),
        ):
            assert "access-control-allow-origin" not in answer.headers
            assert "Origin" in answer.headers["vary"]


async def test_a_page_uploads_and_reads_what_it_needs(store: trove.Trove) -> None:
    async with client_of(store, CORS((PAGE,))) as client:
        put = await client.put(
            await store.presign_put("b", "k"), content=b"data", headers={"Origin": PAGE, "If-None-Match": "*"}
        )
        await store.put("b", "k", b"data", metadata={"a": "b"})
        url = await store.presign_get("b", "k")
        got = await client.get(url, headers={"Origin": PAGE, "Range": "bytes=0-1"})
        same = await client.get(url, headers={"Origin": PAGE, "If-None-Match": got.headers["etag"]})
        head = await client.head(await store.presign_head("b", "k"), headers={"Origin": PAGE})
        refused = await client.get(url[:-1], headers={"Origin": PAGE})
        gone = await client.delete(await store.presign_delete("b", "k"), headers={"Origin": PAGE})
    answers = (put, got, same, head, refused, gone)
    assert [answer.status_code for answer in answers] == [200, 206, 304, 200, 403, 204]
    assert {answer.headers.get("access-control-allow-origin") for answer in answers} == {PAGE}
    exposed = got.headers["access-control-expose-headers"]
    assert {"ETag", "Content-Range", "X-Trove-Meta-a", "X-Trove-Version-Id"} <= set(exposed.split(", "))
    assert refused.json()["code"] == "AccessDenied"


async def test_without_cors_an_app_answers_as_for_its_own_origin(store: trove.Trove) -> None:
    async with client_of(store, None) as client:
        url = await store.presign_put("b", "k")
        assert (await client.options(url, headers=asking(PAGE))).status_code == 405
        put = await client.put(url, content=b"data", headers={"Origin": PAGE})
        assert (put.status_code, "access-control-allow-origin" in put.headers) == (200, False)


@pytest.mark.parametrize("names", ["a\x7fb", "a;b", "n" * 2000])
async def test_names_of_headers_that_are_none_are_not_repeated(store: trove.Trove, names: str) -> None:
    async with client_of(store, CORS((PAGE,))) as client:
        answer = await client.options(await store.presign_put("b", "k"), headers=asking(PAGE, headers=names))
    assert answer.status_code == 204
    assert "access-control-allow-headers" not in answer.headers


async def test_an_options_request_that_is_no_preflight_is_refused(store: trove.Trove) -> None:
    async with client_of(store, CORS((PAGE,))) as client:
        assert (await client.options(await store.presign_put("b", "k"), headers={"Origin": PAGE})).status_code == 405


@pytest.mark.parametrize(
    "origins",
    [
        (),
        "*",
        PAGE,
        ("app.example.com",),
        (PAGE + "/",),
        (PAGE + "/a",),
        ("https://a@b",),
        ("https://*.a",),
        ("HTTPS://A",),
        (7,),
    ],
)
async def test_what_is_no_origin_is_refused(origins: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="origin"):
        CORS(origins)


@pytest.mark.parametrize("max_age", [-1, 86_401, 1.5, True])
async def test_a_max_age_out_of_bounds_is_refused(max_age: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="max_age"):
        CORS((PAGE,), max_age)


async def test_credentials_need_named_origins() -> None:
    with pytest.raises(InvalidArgumentError, match="name the origins"):
        CORS(("*",), credentials=True)
