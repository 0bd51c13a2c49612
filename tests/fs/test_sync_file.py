"""Files for libraries that know nothing of asyncio."""

from __future__ import annotations

import csv
import gc
import io
import random
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import trove_async as trove
from tests.fs.conftest import BACKENDS
from tests.sync.processes import run
from trove_async import sync
from trove_async.errors import InvalidArgumentError, ObjectChangedError
from trove_async.fs import open_file, open_sync_file
from trove_async.fs.reading import BLOCK

LARGE = random.Random(1).randbytes(9 * BLOCK + 17)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sync.Trove]:
    with sync.open(f"local://{tmp_path}?fsync=0") as opened:
        opened.create_bucket("b")
        yield opened


@pytest.mark.parametrize("name", BACKENDS)
def test_bytes_on_every_backend(name: str) -> None:
    dsn = BACKENDS[name].dsn()
    assert dsn is not None
    bucket = f"fs-sync-{random.Random().getrandbits(40):x}"
    with sync.open(dsn) as t:
        t.create_bucket(bucket)
        with open_sync_file(t, bucket, "k", "wb", content_type="image/png") as f:
            assert f.write(LARGE) == len(LARGE)
            assert f.tell() == len(LARGE)
        assert f.info is not None
        assert t.head(bucket, "k").content_type == "image/png"
        with open_sync_file(t, bucket, "k", "rb") as r:
            assert (r.size, r.mode, r.info.etag) == (len(LARGE), "rb", f.info.etag)
            assert r.read(10) == LARGE[:10]
            assert r.seek(-5, io.SEEK_END) == len(LARGE) - 5
            assert r.read() == LARGE[-5:]
            r.seek(1)
            assert r.read() == LARGE[1:]
        assert r.closed
        t.empty_bucket(bucket)
        t.delete_bucket(bucket)


def test_it_reads_what_a_file_in_memory_reads(store: sync.Trove) -> None:
    store.put("b", "k", LARGE)
    expected, steps = io.BytesIO(LARGE), random.Random(2)
    with open_sync_file(store, "b", "k", "rb") as f:
        for _ in range(200):
            offset = steps.randrange(len(LARGE))
            assert f.seek(offset) == expected.seek(offset)
            size = steps.choice([1, steps.randrange(100_000), steps.randrange(3 * BLOCK)])
            step = steps.choice(["read", "readline"])
            same = getattr(f, step)(size) == getattr(expected, step)(size)
            assert same  # the difference would be shown byte by byte
            assert f.tell() == expected.tell()


def test_zip_files(store: sync.Trove) -> None:
    with open_sync_file(store, "b", "z.zip", "wb") as f, zipfile.ZipFile(f, "w") as archive:
        for number in range(8):
            archive.writestr(f"{number}.bin", LARGE[number * 1_000 :])
    with open_sync_file(store, "b", "z.zip", "rb") as r, zipfile.ZipFile(r) as archive:
        assert archive.testzip() is None
        assert archive.read("7.bin") == LARGE[7_000:]
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda number: archive.read(f"{number}.bin"), range(8))
            assert [*found] == [LARGE[number * 1_000 :] for number in range(8)]


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_tar_files(store: sync.Trove, mode: Any) -> None:
    with open_sync_file(store, "b", "t", "wb") as f, tarfile.open(fileobj=f, mode=mode) as archive:
        for number in range(3):
            member = tarfile.TarInfo(str(number))
            member.size = len(LARGE)
            archive.addfile(member, io.BytesIO(LARGE))
    with open_sync_file(store, "b", "t", "rb") as r, tarfile.open(fileobj=r) as archive:
        assert archive.getnames() == list("012")
        extracted = archive.extractfile("2")
        assert extracted is not None
        assert extracted.read() == LARGE


def test_csv(store: sync.Trove) -> None:
    rows = [[str(number), "line\nbreak, é"] for number in range(5_000)]
    with open_sync_file(store, "b", "t.csv", "w", newline="") as f:
        csv.writer(f).writerows(rows)
    assert f.info is not None
    with open_sync_file(store, "b", "t.csv", newline="") as r:
        assert [*csv.reader(r)] == rows


def test_images(store: sync.Trove) -> None:
    image = Image.new("RGB", (300, 200), "red")
    for format in ("png", "jpeg"):
        with open_sync_file(store, "b", "image", "wb") as f:
            image.save(f, format)
        with open_sync_file(store, "b", "image", "rb") as r, Image.open(r) as found:
            found.load()
            assert found.size == (300, 200)


@pytest.mark.parametrize("mode", ["wb", "xb", "w", "x"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_body_that_raises_publishes_nothing(store: sync.Trove, mode: str, error: type[BaseException]) -> None:
    with pytest.raises(error), open_sync_file(store, "b", "k", mode) as f:  # noqa: PT012 - the block is under test
        f.write(LARGE if "b" in mode else LARGE.hex())
        f.write(b"x" if "b" in mode else "x")
        raise error
    assert f.closed
    assert [*store.list("b")] == []
    with (  # noqa: PT012
        pytest.raises(RuntimeError),
        open_sync_file(store, "b", "k", "wb") as raw,
        zipfile.ZipFile(raw, "w") as archive,
    ):
        archive.writestr("a", LARGE)
        raise RuntimeError
    assert [*store.list("b")] == []


def test_a_write_that_is_interrupted_stores_nothing(store: sync.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the buffer flushes it, and closes the file whatever happens."""
    f = open_sync_file(store, "b", "k", "wb")
    f.write(LARGE)
    f.write(b"in the buffer")
    real = store._portal.call

    def interrupted(function: object, *args: object) -> object:
        monkeypatch.setattr(store._portal, "call", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(store._portal, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        f.close()
    assert f.closed
    assert not store.exists("b", "k")


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_closing_raises_an_error_of_a_write_that_was_swallowed(store: sync.Trove, mode: str) -> None:
    def write_on(name: str) -> Any:
        file = open_sync_file(store, "none", name, mode)
        data: Any = "x" * 3_000_000 if mode == "w" else b"x" * 3_000_000
        for _ in range(3):
            with suppress(trove.BucketNotFoundError):
                file.write(data)
        return file

    with pytest.raises(trove.BucketNotFoundError), write_on("closed"):
        pass
    file = write_on("closed twice")
    with pytest.raises(trove.BucketNotFoundError):
        file.close()
    file.close()
    write_on("aborted").abort()


def test_aborting_and_losing_store_nothing(store: sync.Trove) -> None:
    for mode in ("wb", "w"):
        f = open_sync_file(store, "b", "k", mode)
        f.write(LARGE if mode == "wb" else LARGE.hex())
        f.abort()  # type: ignore[attr-defined]
        f.close()
        lost = open_sync_file(store, "b", "k", mode)
        lost.write(LARGE if mode == "wb" else LARGE.hex())
        with pytest.warns(ResourceWarning, match=r"unclosed .*test_sync_file"):  # noqa: PT031
            del lost
            gc.collect()
    assert not store.exists("b", "k")


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_a_file_that_is_lost_gives_its_connection_back_in_the_thread_of_the_loop(store: sync.Trove, mode: str) -> None:
    store.put("b", "k", LARGE)
    lost = open_sync_file(store, "b", "k", mode, errors=None if mode == "rb" else "replace")
    assert lost.read(1)
    with pytest.warns(ResourceWarning, match=r"unclosed .*test_sync_file"):  # noqa: PT031
        del lost
        gc.collect()
        store._portal.run(gc.collect)  # after what was posted there


def test_a_file_belongs_to_its_process(tmp_path: Path) -> None:
    done = run(
        """
        import os, sys
        import trove_async as trove
        from trove_async.fs import open_sync_file

        data = bytes(1_000_000)
        with trove.sync.open(f"local://{sys.argv[1]}") as t:
            t.create_bucket("b")
            t.put("b", "read", data)
            with open_sync_file(t, "b", "read", "rb") as r, open_sync_file(t, "b", "written", "wb") as w:
                w.write(data)
                child = os.fork()
                if child == 0:
                    for use in (r.read, w.close):
                        try:
                            use()
                        except trove.ForkedError:
                            print("refused")
                    r.close()
                    sys.stdout.flush()
                    os._exit(0)
                os.waitpid(child, 0)
                assert r.read() == data
            assert t.read("b", "written") == data
        """,
        str(tmp_path),
        options=["-W", "ignore::DeprecationWarning"],  # Python 3.12 and later: threads are lost in the child
    )
    assert (done.stdout, done.stderr) == ("refused\nrefused\n", "")


def test_errors(store: sync.Trove) -> None:
    with pytest.raises(FileNotFoundError):
        open_sync_file(store, "b", "missing")
    store.put("b", "k", LARGE)
    with pytest.raises(FileExistsError):
        open_sync_file(store, "b", "k", "xb")
    with pytest.raises(ValueError, match="anew"):
        open_sync_file(store, "b", "k", "ab")
    with open_sync_file(store, "b", "k", "rb") as f:
        assert f.read(1) == LARGE[:1]
        with pytest.raises(io.UnsupportedOperation):
            f.write(b"")
        f.seek(-1, io.SEEK_END)
        assert f.read() == LARGE[-1:]
        store.put("b", "k", b"new")
        f.seek(5 * BLOCK)
        with pytest.raises(ObjectChangedError):
            f.read(1)
    with pytest.raises(ValueError, match="closed"):
        f.read(1)


def test_threads_share_a_file(store: sync.Trove) -> None:
    store.put("b", "k", LARGE)
    with open_sync_file(store, "b", "k", "rb") as f:
        lock, found = threading.Lock(), bytearray(len(LARGE))

        def work(_: int) -> None:
            while True:
                with lock:
                    at = f.tell()
                    data = f.read(10_007)
                    found[at : at + len(data)] = data
                if not data:
                    return

        with ThreadPoolExecutor(4) as pool:
            [*pool.map(work, range(4))]
        assert found == LARGE


def types_as_checked(t: sync.Trove) -> None:
    """Use files as a type checker sees them; nothing runs this."""
    line: str = open_sync_file(t, "b", "k").readline()
    with open_sync_file(t, "b", "k", "xb", metadata={"a": "b"}) as f:
        f.write(line.encode())
    info: trove.ObjectInfo | None = f.info
    assert info


@pytest.mark.asyncio
async def test_a_store_of_the_other_kind_is_refused_with_the_function_to_use(store: sync.Trove) -> None:
    without_asyncio: Any = store
    with pytest.raises(InvalidArgumentError, match="use open_sync_file"):
        open_file(without_asyncio, "b", "k")
    async with trove.open("memory://") as t:
        with_asyncio: Any = t
        with pytest.raises(InvalidArgumentError, match="use open_file"):
            open_sync_file(with_asyncio, "b", "k")
