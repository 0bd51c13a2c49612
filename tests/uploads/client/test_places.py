"""Where requests go, and where credentials go: redirects, locations, origins."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.client.serving import HOST, Peer, client_of
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.uploads import FileInfo
from trove_async.uploads.client.places import Place, Places

SECRET = {"Authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://example.com", "http://example.com/"),
        ("https://example.com:443/files/", "https://example.com/files/"),
        ("http://[::1]:8080/a?b=c#d", "http://[::1]:8080/a?b=c"),
        ("http://user:pass@example.com/a b/ä%20", "http://example.com/a%20b/%C3%A4%20"),
    ],
)
def test_urls(url: str, found: str) -> None:
    assert str(Place.parse(url)) == found


@pytest.mark.parametrize("url", ["", "files", "ftp://example.com/", "http:///x", "http://a:b:c/", "https://x:99999/"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(trove.InvalidArgumentError, match="URL"):
        Places(url)


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("/files/1", "http://example.com/files/1"),
        ("1", "http://example.com/files/1"),
        ("http://example.com:80/files/1?token=x", "http://example.com/files/1?token=x"),
        ("//other.example/1", None),
        ("https://example.com/files/1", None),
        ("http://example.com:81/files/1", None),
        ("javascript:alert(1)", None),
    ],
)
def test_locations(location: str, found: str | None) -> None:
    places = Places("http://example.com/files/")
    if found is None:
        with pytest.raises(trove.UnavailableError) as caught:
            places.find(places.endpoint, location)
        assert not caught.value.retryable
    else:
        assert str(places.find(places.endpoint, location)) == found


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [307, 308])
async def test_redirects_within_the_origin_are_followed(
    peer: Peer, file: Path, data: bytes, protocol: str, status: int
) -> None:
    for method in ("OPTIONS", "POST"):
        peer.proxy.answer(Answer(status, {"Location": "/files/?moved=1"}), method=method)
    async with client_of(peer, protocol=protocol, headers=SECRET) as client:
        found = await client.upload(file)
        path = found.url.removeprefix(peer.proxy.url())
        peer.proxy.answer(Answer(status, {"Location": f"{path}?moved=2"}), method="HEAD")
        await client.info(found.url)
    assert peer.only == data
    assert all(request.header("authorization") == "Bearer secret" for request in peer.proxy.requests)


@pytest.mark.asyncio
async def test_a_body_is_sent_again_to_where_it_is_redirected(
    peer: Peer, file: Path, data: bytes, protocol: str
) -> None:
    async with client_of(peer, protocol=protocol, chunk_size=1_000_000) as client:

        def redirect(done: int, size: int | None) -> None:
            if len(peer.sent("PATCH")) == 1:
                path = peer.sent("PATCH")[0].path
                peer.proxy.answer(Answer(307, {"Location": f"{path}?moved=1"}), method="PATCH")

        await client.upload(file, on_progress=redirect)
    assert peer.only == data


@pytest.mark.asyncio
async def test_redirects_without_end(peer: Peer) -> None:
    peer.proxy.answer(Answer(307, {"Location": "/files/"}), times=None)
    async with client_of(peer) as client:
        with pytest.raises(trove.BackendError, match="redirects more than 5 times"):
            await client.upload(b"x")


@pytest.mark.asyncio
async def test_other_redirects_are_errors(peer: Peer) -> None:
    peer.proxy.answer(Answer(302, {"Location": "/login"}), method="POST")
    async with client_of(peer) as client:
        with pytest.raises(trove.BackendError, match="only the redirects 307 and 308 are followed"):
            await client.upload(b"x")


@pytest.mark.asyncio
@pytest.mark.parametrize("moves", ["location", "redirect"])
async def test_another_origin_gets_nothing_unless_it_is_allowed_and_never_the_credentials(
    peer: Peer, file: Path, data: bytes, moves: str
) -> None:
    async with AnsweringProxy(HOST, peer.proxy.server[1]) as other:
        target = f"{other.url()}/files/"
        for times in (1, 1):
            if moves == "redirect":
                peer.proxy.answer(Answer(307, {"Location": target}), method="POST", times=times)
            else:
                created = await peer.store.new_upload(FileInfo(size=len(data)))
                peer.proxy.answer(Answer(201, {"Location": target + created}), method="POST", times=times)
        async with client_of(peer, protocol="tus", headers=SECRET) as client:
            with pytest.raises(trove.UnavailableError, match=f"allow_origins=.'{other.url()}'"):
                await client.upload(file)
        assert other.requests == []
        async with client_of(peer, protocol="tus", headers=SECRET, allow_origins=[other.url()]) as client:
            found = await client.upload(file)
        assert peer.data(found.url) == data
        assert other.requests
        assert all(request.header("authorization") is None for request in other.requests)
        assert all(request.header("authorization") for request in peer.proxy.requests)


@pytest.mark.asyncio
async def test_credentials_in_the_url(peer: Peer) -> None:
    url = peer.url.replace("http://", "http://me:p%40ss@")
    async with client_of(peer, url=url) as client:
        found = await client.upload(b"x")
    expected = "Basic " + b64encode(b"me:p@ss").decode()
    assert {request.header("authorization") for request in peer.proxy.requests} == {expected}
    assert "p@ss" not in found.url
    assert "p%40ss" not in found.url


@pytest.mark.asyncio
async def test_headers_are_made_for_every_request_and_renewed_after_401(peer: Peer, file: Path, data: bytes) -> None:
    made = 0

    async def headers() -> dict[str, str]:
        nonlocal made
        made += 1
        return {"Authorization": f"Bearer {made}"}

    peer.proxy.answer(Answer(401), method="PATCH")
    async with client_of(peer, headers=headers) as client:
        await client.upload(file)
        assert [request.header("authorization") for request in peer.proxy.requests] == [
            f"Bearer {number}" for number in range(1, 5)
        ]
        assert peer.methods == ["OPTIONS", "POST", "PATCH", "PATCH"]
        peer.proxy.answer(Answer(401), method="PATCH", times=2)
        with pytest.raises(trove.UnauthenticatedError, match="other credentials"):
            await client.upload(file)
    assert peer.data(next(iter(peer.store.uploads))) == data
