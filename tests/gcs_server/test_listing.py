from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_error
from trove_async.testing.gcs.listing import Position, Selection, page, position_of, token_of
from trove_async.testing.gcs.state import Content, Storage

NAMES = ["a", "a/", "a/b", "a/b/c", "a/z", "a0", "b", "b/1", "ü", "\U0010ffff", "￿"]


async def listed(client: httpx.AsyncClient, **parameters: Any) -> tuple[list[str], list[str]]:
    """Return all items and prefixes, over all pages."""
    items: list[str] = []
    prefixes: list[str] = []
    token: str | None = ""
    while token is not None:
        asked = {**parameters, **({"pageToken": token} if token else {})}
        answer = await client.get(OBJECTS, params=asked)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert len(found.get("items", [])) + len(found.get("prefixes", [])) <= int(parameters.get("maxResults", 1000))
        items += [item["name"] for item in found.get("items", [])]
        prefixes += found.get("prefixes", [])
        token = found.get("nextPageToken")
    return items, prefixes


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("parameters", "items", "prefixes"),
    [
        ({}, sorted(NAMES, key=str.encode), []),
        ({"prefix": "a/"}, ["a/", "a/b", "a/b/c", "a/z"], []),
        ({"delimiter": "/"}, ["a", "a0", "b", "ü", "￿", "\U0010ffff"], ["a/", "b/"]),
        ({"delimiter": "/", "prefix": "a/"}, ["a/", "a/b", "a/z"], ["a/b/"]),
        (
            {"delimiter": "/", "includeTrailingDelimiter": "true"},
            ["a", "a/", "a0", "b", "ü", "￿", "\U0010ffff"],
            ["a/", "b/"],
        ),
        ({"startOffset": "a/b", "endOffset": "b"}, ["a/b", "a/b/c", "a/z", "a0"], []),
        ({"startOffset": "a/b", "delimiter": "/", "endOffset": "b"}, ["a0"], ["a/"]),
        ({"matchGlob": "a/*"}, ["a/", "a/b", "a/z"], []),
        ({"matchGlob": "**/{b,z}"}, ["a/b", "a/z", "b"], []),
        ({"matchGlob": "?[0-9]"}, ["a0"], []),
        ({"prefix": "none"}, [], []),
    ],
)
@pytest.mark.asyncio
async def test_lists_of_objects(
    client: httpx.AsyncClient, put: Put, parameters: dict[str, str], items: list[str], prefixes: list[str], size: int
) -> None:
    for name in NAMES:
        await put(name)
    found = await listed(client, maxResults=size, **parameters)
    assert found == (items, prefixes)


@pytest.mark.asyncio
async def test_lists_that_are_refused(client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await client.get(OBJECTS, params={"pageToken": "nonsense"}), 400, "invalid")
    assert_error(await client.get(OBJECTS, params={"maxResults": "-1"}), 400, "invalidParameter")
    assert_error(await client.get("/storage/v1/b/none/o"), 404, "notFound", "bucket")


@pytest.mark.asyncio
async def test_a_page_has_at_most_1000(client: httpx.AsyncClient, put: Put) -> None:
    for number in range(1001):
        await put(f"{number:04}")
    first = (await client.get(OBJECTS, params={"maxResults": "5000", "fields": "items/name,nextPageToken"})).json()
    assert len(first["items"]) == 1000
    rest = (await client.get(OBJECTS, params={"pageToken": first["nextPageToken"]})).json()
    assert [item["name"] for item in rest["items"]] == ["1000"]


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.asyncio
async def test_generations_are_listed_oldest_first(client: httpx.AsyncClient, put: Put, size: int) -> None:
    await client.patch("/storage/v1/b/my-bucket", json={"versioning": {"enabled": True}})
    made = [await put(name, bytes([number])) for name in ("a", "b") for number in range(3)]
    await client.delete(f"{OBJECTS}/b")
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        asked: dict[str, str | int] = {
            "versions": "true",
            "maxResults": size,
            **({"pageToken": token} if token else {}),
        }
        document = (await client.get(OBJECTS, params=asked)).json()
        found += [item["generation"] for item in document["items"]]
        token = document.get("nextPageToken")
    assert found == [resource["generation"] for resource in made]
    assert await listed(client, maxResults=size, delimiter="/") == (["a"], [])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.sets(st.text(alphabet="ab/\U0010ffff", min_size=1, max_size=5), max_size=12),
    prefix=st.text(alphabet="ab/", max_size=2),
    delimiter=st.sampled_from(["", "/", "b", "\U0010ffff"]),
    size=st.integers(1, 4),
    trailing=st.booleans(),
)
def test_pages_join_to_the_whole(names: set[str], prefix: str, delimiter: str, size: int, trailing: bool) -> None:
    storage = Storage("p")
    bucket = storage.create_bucket("my-bucket", {})
    for name in names:
        storage.store(bucket, name, Content(b"", "", None), {})
    items: list[str] = []
    prefixes: list[str] = []
    after: Position | None = None
    for _ in range(len(names) * 2 + 2):
        selection = Selection(prefix, delimiter, size=size, trailing=trailing, after=after)
        found = page(bucket, selection)
        assert len(found) <= size
        items += [item.name for item in found.items]
        prefixes += found.prefixes
        if found.end is None:
            break
        after = position_of(token_of(found.end))
    below = sorted(name for name in names if name.startswith(prefix))
    cut = {name: name.find(delimiter, len(prefix)) if delimiter else -1 for name in below}
    expected = {name[: cut[name] + len(delimiter)] for name in below if cut[name] != -1}
    assert prefixes == sorted(expected)
    assert items == [name for name in below if cut[name] == -1 or (trailing and name in expected)]
