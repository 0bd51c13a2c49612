"""Pages of listings: the fast parser and the XML parser give the same result for every service."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from trove_async.drivers.s3.pages import parse_page
from trove_async.listing import ListPage
from trove_async.wire.sigv4 import encode_path

pytestmark = pytest.mark.asyncio

MODIFIED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# An object of three bytes with the key `a/b c`, as these services write it.
OBJECTS = {
    "AWS": "<Key>a/b+c</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;abc-2&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    "<Size>3</Size><StorageClass>STANDARD</StorageClass>",
    "Ceph": "<Key>a%2Fb%20c</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;abc-2&quot;</ETag>"
    "<Size>3</Size><StorageClass>STANDARD</StorageClass><Type>Normal</Type>",
    "MinIO": "<Key>a/b+c</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&#34;abc-2&#34;</ETag>"
    "<Size>3</Size><StorageClass>STANDARD</StorageClass>",
    "with an owner": "<Key>a/b+c</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>"
    "<ETag>abc-2</ETag><Size>3</Size><Owner><ID>id</ID></Owner><StorageClass>STANDARD</StorageClass>",
    "in another order": "<Size>3</Size><ETag>W/&quot;abc-2&quot;</ETag><Key>a/b+c</Key>"
    "<LastModified>2026-01-02T03:04:05Z</LastModified>",
}


def page_of(*contents: str, encoded: bool = True, more: str = "") -> bytes:
    entries = "".join(f"<Contents>{content}</Contents>" for content in contents)
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{head}<Name>b</Name>{encoding}<IsTruncated>false</IsTruncated>{entries}{more}</ListBucketResult>".encode()


async def both_ways(page: bytes) -> ListPage:
    """Read a page with both parsers; a comment in it rules out the fast one."""
    found = await parse_page(page)
    assert found == await parse_page(page.replace(b"</ListBucketResult>", b"<!-- - --></ListBucketResult>"))
    return found


@pytest.mark.parametrize("service", OBJECTS)
async def test_objects_of_services(service: str) -> None:
    page = await both_ways(page_of(OBJECTS[service]))
    assert page == ListPage([trove.ObjectInfo("a/b c", 3, "abc-2", MODIFIED)], [], None)


async def test_the_order_is_kept_for_every_form_of_a_page() -> None:
    contents = [text.replace("<Size>3", f"<Size>{size}") for size, text in enumerate(OBJECTS.values())]
    page = await both_ways(page_of(*contents))
    assert [found.size for found in page.objects] == list(range(len(OBJECTS)))


async def test_class_prefixes_and_cursor() -> None:
    more = (
        "<CommonPrefixes><Prefix>x%2F</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>a&amp;b</NextContinuationToken>"
    )
    content = OBJECTS["AWS"].replace("STANDARD", "STANDARD_IA")
    page = await both_ways(page_of(content, more=more).replace(b"<IsTruncated>false</IsTruncated>", b""))
    assert page.objects[0].storage_class == "STANDARD_IA"
    assert (page.prefixes, page.cursor) == ([trove.Prefix("x/")], "a&b")


async def test_prefixes_in_one_element_or_in_many() -> None:
    more = "<CommonPrefixes><Prefix>a%2F</Prefix><Prefix>b%2F</Prefix></CommonPrefixes>"
    more += "<CommonPrefixes><Prefix>c%2F</Prefix></CommonPrefixes>"
    page = await both_ways(page_of(more=more))
    assert page.prefixes == [trove.Prefix("a/"), trove.Prefix("b/"), trove.Prefix("c/")]


@given(keys=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)))
@pytest.mark.parametrize("encoded", [True, False])
async def test_keys(keys: list[str], encoded: bool) -> None:
    keys = [key for key in keys if not {"\ufffe", "\uffff"} & set(key)]
    names = [encode_path(key) if encoded else escape(key) for key in keys]
    contents = [f"{OBJECTS['AWS'].replace('a/b+c', name)}" for name in names]
    page = await both_ways(page_of(*contents, encoded=encoded))
    assert [found.key for found in page.objects] == keys


@pytest.mark.parametrize(
    "content",
    [
        "<Key>a</Key>",
        "<Size>1</Size>",
        OBJECTS["AWS"].replace("a/b+c", ""),
        OBJECTS["AWS"].replace("<Size>3</Size>", ""),
    ],
)
async def test_entries_without_a_required_element_are_an_error(content: str) -> None:
    for page in (page_of(content), page_of(OBJECTS["AWS"], content)):
        with pytest.raises(trove.BackendError, match="without a key or a size"):
            await parse_page(page)


@pytest.mark.parametrize("page", [b"<a/>", b"", b"\xff", b"<ListBucketResult>", page_of("<Key>a")])
async def test_an_answer_that_is_not_a_listing_is_an_error(page: bytes) -> None:
    with pytest.raises(trove.BackendError):
        await parse_page(page)


async def test_entries_in_a_comment_are_ignored() -> None:
    hidden = f"<!-- <Contents>{OBJECTS['AWS']}</Contents> -->"
    assert (await parse_page(page_of(more=hidden))).objects == []
