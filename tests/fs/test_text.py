"""Files of text: what the built-in ``open`` reads and writes."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.fs.conftest import Place
from trove_async.fs import open_file, text
from trove_async.fs.base import AsyncFile

pytestmark = pytest.mark.asyncio

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "latin-1", "shift_jis", "iso2022_jp"]
LINES = st.text(st.sampled_from("a\r\n\r\néあ𝒳\u2028"), max_size=40)
NEWLINES = st.sampled_from([None, "", "\n", "\r", "\r\n"])


@pytest.fixture(scope="module")
def short_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_CHUNK", 5)
        yield


async def test_lines_on_every_backend(place: Place) -> None:
    lines = [f"{number} あ𝒳é\n" for number in range(60_000)]
    async with open_file(place.store, place.bucket, "t", "w") as f:
        await f.writelines(lines)
    async with open_file(place.store, place.bucket, "t") as read:
        assert [line async for line in read] == lines


@settings(max_examples=300)
@given(
    content=LINES, encoding=st.sampled_from(ENCODINGS), newline=NEWLINES,
    steps=st.lists(st.tuples(st.sampled_from(["read", "readline", "tell", "seek"]), st.integers(-1, 12)), max_size=12),
)  # fmt: skip
async def test_it_reads_what_a_text_wrapper_reads(
    short_chunks: None, content: str, encoding: str, newline: str | None, steps: list[tuple[str, int]]
) -> None:
    data = content.encode(encoding, "replace")
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        await store.put("b", "k", data)
        expected = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=newline)
        places = [(0, 0)]
        async with open_file(store, "b", "k", encoding=encoding, newline=newline) as f:
            for step, size in steps:
                if step == "tell":
                    places.append((await f.tell(), expected.tell()))
                elif step == "seek":
                    ours, theirs = places[size % len(places)]
                    await f.seek(ours)
                    assert await f.tell() == ours
                    expected.seek(theirs)
                else:
                    assert await getattr(f, step)(size) == getattr(expected, step)(size)
            assert await f.readlines() == expected.readlines()


@given(content=LINES, encoding=st.sampled_from(ENCODINGS), newline=NEWLINES)
async def test_it_writes_what_a_text_wrapper_writes(content: str, encoding: str, newline: str | None) -> None:
    data = io.BytesIO()
    expected = io.TextIOWrapper(data, encoding=encoding, newline=newline, errors="replace")
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        async with open_file(store, "b", "k", "w", encoding=encoding, newline=newline, errors="replace") as f:
            for piece in (content, content[::-1]):
                assert await f.write(piece) == expected.write(piece)
        expected.flush()
        assert await store.read("b", "k") == data.getvalue()


async def test_what_is_no_text_is_an_error_where_it_is_read(store: trove.Trove) -> None:
    await store.put("b", "k", b"good\n\xff\nmore\n")
    async with open_file(store, "b", "k") as f:
        with pytest.raises(UnicodeDecodeError):
            await f.read()
    async with open_file(store, "b", "k", errors="replace") as f:
        assert await f.readlines() == ["good\n", "\N{REPLACEMENT CHARACTER}\n", "more\n"]
    with pytest.raises(UnicodeEncodeError):  # noqa: PT012
        async with open_file(store, "b", "k", "w", encoding="ascii") as f:
            await f.write("fine")
            await f.write("é")
    assert (await store.read("b", "k")).startswith(b"good")


async def test_positions_of_text(store: trove.Trove) -> None:
    await store.put("b", "k", "あい\nうえ\n".encode())
    async with open_file(store, "b", "k") as f:
        assert await f.tell() == 0
        await f.readline()
        place = await f.tell()
        assert await f.read() == "うえ\n"
        assert await f.seek(place) == place
        assert await f.read(1) == "う"
        assert await f.seek(0, 2) == 14
        assert await f.read() == ""
        await f.seek(0)
        assert await f.readlines(3) == ["あい\n"]
        for whence in (1, 2):
            with pytest.raises(io.UnsupportedOperation):
                await f.seek(1, whence)
        with pytest.raises(ValueError, match="before the beginning"):
            await f.seek(-1)


async def test_one_long_line_is_read_once(store: trove.Trove, short_chunks: None) -> None:
    """Each chunk is searched once, and not again with every chunk that follows."""
    await store.put("b", "k", b"x" * 20_000 + b"\nend")
    async with open_file(store, "b", "k") as f:
        assert len(await f.readline()) == 20_001
        assert len(f._text) <= 5
        assert await f.readline() == "end"


async def types_as_checked(store: trove.Trove, mode: str) -> None:
    """Use files as a type checker sees them; nothing runs this."""
    async with open_file(store, "b", "k") as reading:
        line: str = await reading.readline()
    async with open_file(store, "b", "k", "wb", content_type="text/plain") as writing:
        await writing.write(line.encode())
    async with open_file(store, "b", "k", mode) as either:
        file: AsyncFile[str] = either
        await file.read()
