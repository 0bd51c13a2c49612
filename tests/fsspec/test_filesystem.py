"""What the users of file systems rely on, and what other file systems of fsspec lose."""

from __future__ import annotations

import array
import asyncio
import errno
import gc
import gzip
import io
import pickle
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import fsspec
import pytest
from fsspec.callbacks import Callback
from fsspec.compression import compr

import trove_async as trove
from tests.sync.processes import run, start
from trove_async import portal
from trove_async.fs import open_sync_file
from trove_async.fs.fsspec import TroveFileSystem
from trove_async.fs.fsspec_urls import PROTOCOLS
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

OLD: Final = b"x" * 700_000


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"local://{tmp_path}/root?create=1&fsync=0"


@pytest.fixture
def fs(dsn: str) -> TroveFileSystem:
    made = TroveFileSystem(dsn)
    made.mkdir("b")
    return made


@pytest.fixture
def memory() -> TroveFileSystem:
    made = TroveFileSystem(f"memory://{uuid4().hex}")
    made.mkdir("b")
    return made


def test_every_protocol_is_registered() -> None:
    assert {fsspec.get_filesystem_class(protocol) for protocol in PROTOCOLS} == {TroveFileSystem}


class BodyError(Exception):
    pass


@pytest.mark.parametrize("mode", ["wb", "w", "xb"])
def test_a_body_that_raises_publishes_nothing(fs: TroveFileSystem, mode: str) -> None:
    data: Any = "x" * 1_000_000 if mode == "w" else b"x" * 1_000_000
    with pytest.raises(BodyError), fs.open("b/k", mode) as file:  # noqa: PT012 - the block is what is tested
        file.write(data)
        raise BodyError
    assert file.closed
    assert fs.find("b") == []


def test_a_body_that_raises_keeps_the_old_object(fs: TroveFileSystem) -> None:
    fs.pipe("b/k", b"old")
    for mode in ("wb", "ab"):
        with pytest.raises(BodyError), fs.open("b/k", mode) as file:  # noqa: PT012 - the block is what is tested
            file.write(b"new")
            raise BodyError
        assert fs.cat("b/k") == b"old"


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_writer_that_is_dropped_publishes_nothing(fs: TroveFileSystem, mode: str) -> None:
    file = fs.open("b/k", mode)
    file.write("half" if mode == "w" else b"half")
    with pytest.warns(ResourceWarning, match=r"unclosed .*opened at .*test_filesystem"):  # noqa: PT031 - the block is what is tested
        del file
        gc.collect()
    assert fs.find("b") == []


def test_an_interruption_while_a_file_is_opened_keeps_the_old_object(
    fs: TroveFileSystem, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.pipe("b/k", b"old")
    wait = portal._Call.wait

    def interrupted(call: portal._Call[object]) -> None:
        monkeypatch.setattr(portal._Call, "wait", wait)
        wait(call)
        raise KeyboardInterrupt

    with trove.sync.open(dsn) as store:
        for opening in (lambda: fs.open("b/k", "wb"), lambda: open_sync_file(store, "b", "k", "wb")):
            monkeypatch.setattr(portal._Call, "wait", interrupted)
            with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031 - the block is what is tested
                with pytest.raises(KeyboardInterrupt):
                    opening()
                assert fs.cat("b/k") == b"old"  # by then the portal has let go of the call
                gc.collect()


def test_writes_of_others_are_seen_at_once(fs: TroveFileSystem, dsn: str) -> None:
    assert fs.ls("b") == []
    with trove.sync.open(dsn) as other:
        other.put("b", "d/k", b"1")
        assert fs.ls("b", detail=False) == ["b/d"]
        assert fs.glob("b/*/k") == ["b/d/k"]
        assert fs.info("b/d/k")["size"] == 1
        other.delete("b", "d/k")
    assert not fs.exists("b/d/k")
    assert not fs.exists("b/d")


CASES = [None, 0, 1, 3, 9, 10, 11, 20, -1, -3, -10, -11, -20]


def test_ranges_of_every_form(fs: TroveFileSystem) -> None:
    data = b"0123456789"
    fs.pipe({"b/k": data, "b/empty": b""})
    for start_ in CASES:
        for end in CASES:
            assert fs.cat_file("b/k", start_, end) == data[start_:end], (start_, end)
            assert fs.cat_file("b/empty", start_, end) == b"", (start_, end)
    starts = [start_ for start_ in CASES for _ in CASES]
    ends = CASES * len(CASES)
    found = fs.cat_ranges(["b/k"] * len(starts), starts, ends)
    assert found == [data[start_:end] for start_, end in zip(starts, ends, strict=True)]
    assert fs.cat_ranges(["b/k", "b/k", "b/empty"], [0, 5, 0], [2, 7, 4]) == [b"01", b"56", b""]
    (missing,) = fs.cat_ranges(["b/missing"], 0, 1)
    assert isinstance(missing, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["b/missing"], 0, 1, on_error="raise")
    with pytest.raises(FileNotFoundError):
        fs.cat_file("b/missing", 5, 5)


def test_a_thousand_small_files(fs: TroveFileSystem) -> None:
    files = {f"b/many/{number:04}": b"%d" % number for number in range(1000)}
    fs.pipe(files)
    assert fs.find("b/many") == sorted(files)
    assert fs.cat("b/many", recursive=True) == files
    assert fs.du("b/many") == sum(map(len, files.values()))
    fs.rm("b/many", recursive=True)
    assert fs.ls("b") == []


def test_names(memory: TroveFileSystem) -> None:
    memory.pipe({"b/a/1": b"1", "b/a/c/2": b"22", "b/top": b""})
    assert memory.find("b") == ["b/a/1", "b/a/c/2", "b/top"]
    assert memory.find("b", withdirs=True) == ["b", "b/a", "b/a/1", "b/a/c", "b/a/c/2", "b/top"]
    assert memory.find("b", maxdepth=1) == ["b/top"]
    assert memory.find("b/top") == ["b/top"]
    assert memory.find("b/none") == []
    assert [*memory.walk("b")] == [("b", ["a"], ["top"]), ("b/a", ["c"], ["1"]), ("b/a/c", [], ["2"])]
    assert memory.glob("b/**/2") == ["b/a/c/2"]
    assert memory.glob("b/a/*") == ["b/a/1", "b/a/c"]
    assert memory.glob("b/t*") == ["b/top"]
    assert memory.glob("*/top") == ["b/top"]
    assert memory.ls("", detail=False) == ["b"]
    assert (memory.isdir(""), memory.isdir("b"), memory.isdir("b/a"), memory.isfile("b/a/1")) == (True,) * 4
    assert (memory.isdir("b/top"), memory.isfile("b/a"), memory.exists("none"), memory.exists("b/none")) == (False,) * 4
    assert memory.du("b", total=False) == {"b/a/1": 1, "b/a/c/2": 2, "b/top": 0}
    assert memory.ls("b/top", detail=False) == ["b/top"]
    with pytest.raises(trove.ObjectNotFoundError):
        memory.ls("b/none")
    with pytest.raises(trove.BucketNotFoundError):
        memory.ls("none")
    info = memory.info("b/a/1")
    assert (info["type"], info["size"], info["LastModified"]) == ("file", 1, memory.modified("b/a/1"))
    assert memory.created("b/a/1") == memory.modified("b/a/1")
    ukey, checksum = memory.ukey("b/a/1"), memory.checksum("b/a/1")
    memory.pipe("b/a/1", b"2")
    assert memory.ukey("b/a/1") != ukey
    assert memory.checksum("b/a/1") != checksum


def test_only_not_found_means_that_nothing_exists(tmp_path: Path) -> None:
    broken = TroveFileSystem(f"local://{tmp_path}/no/root")
    assert not broken.exists("b/k")
    unreachable = TroveFileSystem("s3://k:s@us-east-1?endpoint=http://127.0.0.1:9&attempts=1")
    for look in (unreachable.exists, unreachable.isfile, unreachable.isdir):
        with pytest.raises(trove.UnavailableError):
            look("b/k")


def test_buckets_are_the_directories_at_the_top(fs: TroveFileSystem) -> None:
    with pytest.raises(FileExistsError):
        fs.mkdir("b")
    fs.makedirs("b", exist_ok=True)
    fs.mkdir("b/dir")
    assert not fs.exists("b/dir")
    fs.pipe("b/dir/k", b"")
    for full in ("b", "b/dir"):
        with pytest.raises(OSError, match="not empty") as caught:
            fs.rmdir(full)
        assert caught.value.errno == errno.ENOTEMPTY
    with pytest.raises(NotADirectoryError):
        fs.rmdir("b/dir/k")
    with pytest.raises(FileNotFoundError):
        fs.rmdir("b/none")
    assert fs.find("b") == ["b/dir/k"]
    fs.rm("b/dir/k")
    fs.rmdir("b")
    assert fs.ls("") == []


def test_removing(fs: TroveFileSystem) -> None:
    fs.pipe({"b/d/1": b"", "b/d/2": b"", "b/d2": b""})
    with pytest.raises(FileNotFoundError):
        fs.rm("b/none")
    with pytest.raises(IsADirectoryError):
        fs.rm("b/d")
    with pytest.raises(trove.InvalidArgumentError):
        fs.rm("", recursive=True)
    fs.rm("b/d", recursive=True)
    assert fs.find("b") == ["b/d2"]
    fs.rm("b", recursive=True)
    assert not fs.exists("b")


def test_paths_that_cannot_be(fs: TroveFileSystem) -> None:
    for call in (fs.cat_file, fs.open, fs.touch, fs.rm_file):
        with pytest.raises(IsADirectoryError, match="bucket/key"):
            call("b")
    with pytest.raises(trove.InvalidArgumentError, match="mode 'r\\+b'"):
        fs.open("b/k", "r+b")
    with pytest.raises(trove.InvalidArgumentError, match="give the store"):
        TroveFileSystem()
    with pytest.raises(trove.InvalidArgumentError, match="'overwrite' or 'create'"):
        fs.pipe_file("b/k", b"", mode="other")


def test_files(fs: TroveFileSystem) -> None:
    with fs.open("b/k", "wb", content_type="text/x") as file:
        file.write(memoryview(array.array("d", [1.0, 2.0])))
        assert file.tell() == 16
        assert not fs.exists("b/k")
    assert fs.info("b/k")["ContentType"] == "text/x"
    with fs.open("b/k", "ab") as file:
        file.write(b"end\n")
    with fs.open("b/new", "a") as file:
        file.write("first\n")
    assert fs.cat("b/new") == b"first\n"
    with fs.open("b/k", "rb", block_size=4, cache_type="none") as file:
        assert (file.size, file.readable(), file.path) == (20, True, "b/k")
        file.seek(-4, 2)
        copy = pickle.loads(pickle.dumps(file))
        assert file.readline() == copy.read() == b"end\n"
        copy.close()
    with fs.open("b/new", "r") as text:
        assert [*text] == ["first\n"]
    for mode, data in (("wb", b"packed"), ("w", "packed")):
        with fs.open("b/packed.gz", mode, compression="infer") as file:
            file.write(data)
        assert gzip.decompress(fs.cat("b/packed.gz")) == b"packed"
        with pytest.raises(BodyError), fs.open("b/unpacked", mode, compression="gzip") as file:  # noqa: PT012 - the block is what is tested
            file.write(data)
            raise BodyError
        assert not fs.exists("b/unpacked")
    with fs.open("b/packed.gz", "r", compression="infer") as text:
        assert text.read() == "packed"
    with pytest.raises(FileExistsError):
        fs.open("b/k", "xb")


def test_an_append_does_not_lose_what_another_writes_meanwhile(fs: TroveFileSystem) -> None:
    fs.pipe("b/k", b"old")
    with pytest.raises(trove.PreconditionFailedError), fs.open("b/k", "ab") as file:  # noqa: PT012 - the block is what is tested
        file.write(b"more")
        fs.pipe("b/k", b"other")
    assert fs.cat("b/k") == b"other"


def test_an_append_keeps_the_headers(dsn: str, fs: TroveFileSystem) -> None:
    fs.pipe("b/k", b"old", content_type="text/plain", cache_control="no-store", metadata={"a": "b"})
    with fs.open("b/k", "ab") as file:
        file.write(b", new")
    with trove.sync.open(dsn) as store:
        info = store.head("b", "k")
    assert fs.cat("b/k") == b"old, new"
    assert (info.content_type, info.cache_control, info.metadata) == ("text/plain", "no-store", {"a": "b"})


def test_create_only(fs: TroveFileSystem) -> None:
    fs.pipe_file("b/k", b"1", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file("b/k", b"2", mode="create")
    assert fs.cat("b/k") == b"1"
    with pytest.raises(FileExistsError), fs.open("b/race", "xb") as file:  # noqa: PT012 - the block is what is tested
        file.write(b"late")
        fs.pipe("b/race", b"early")
    assert fs.cat("b/race") == b"early"


def test_transactions(fs: TroveFileSystem) -> None:
    with fs.transaction:
        for name in "12":
            with fs.open(f"b/{name}", "wb") as file:
                file.write(b"x" * 100_000)
        with fs.open("b/3", "w") as file:
            file.write("text")
        assert fs.find("b") == []
    assert fs.find("b") == ["b/1", "b/2", "b/3"]
    assert fs.cat("b/3") == b"text"
    with pytest.raises(BodyError), fs.transaction:  # noqa: PT012 - the block is what is tested
        with fs.open("b/4", "wb") as file:
            file.write(b"x")
        raise BodyError
    assert fs.find("b") == ["b/1", "b/2", "b/3"]
    with fs.open("b/5", "wb") as file:
        file.write(b"x")
    assert fs.exists("b/5")


def test_what_is_not_closed_before_the_end_of_a_transaction_is_stored_whole(fs: TroveFileSystem) -> None:
    with fs.transaction:
        fs.open("b/bytes", "wb").write(b"x")
        fs.open("b/text", "w").write("text")
        fs.open("b/packed.gz", "w", compression="gzip").write("packed")
        with pytest.raises(BodyError), fs.open("b/failed.gz", "w", compression="gzip") as file:  # noqa: PT012 - the block is what is tested
            file.write("half")
            raise BodyError
    assert fs.cat("b/bytes") == b"x"
    assert fs.cat("b/text") == b"text"
    assert gzip.decompress(fs.cat("b/packed.gz")) == b"packed"
    assert not fs.exists("b/failed.gz")


def test_local_files(fs: TroveFileSystem, tmp_path: Path) -> None:
    class Counting(Callback):  # type: ignore[misc]
        pass

    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(bytes(600_000))
    for copy, arguments in ((fs.put_file, (source, "b/k")), (fs.get_file, ("b/k", target))):
        counting = Counting()
        copy(*map(str, arguments), callback=counting)
        assert (counting.size, counting.value) == (600_000, 600_000)
    assert target.read_bytes() == bytes(600_000)
    with pytest.raises(FileNotFoundError):
        fs.get_file("b/none", str(target))
    assert target.stat().st_size == 600_000
    assert [*target.parent.iterdir()] == [target]


def test_copies_and_moves(fs: TroveFileSystem) -> None:
    fs.pipe({"b/d/1": b"1", "b/d/e/2": b"2"})
    fs.copy("b/d", "b/copy", recursive=True)
    fs.mv("b/d", "b/moved", recursive=True)
    fs.mv("b/moved", "b/moved", recursive=True)
    assert fs.find("b") == ["b/copy/1", "b/copy/e/2", "b/moved/1", "b/moved/e/2"]
    with pytest.raises(FileNotFoundError):
        fs.mv("b/none", "b/x")
    fs.touch("b/copy/1", truncate=False)
    assert fs.cat("b/copy/1") == b"1"
    fs.touch("b/copy/1")
    assert fs.cat("b/copy/1") == b""


@pytest.mark.parametrize(
    ("source", "target", "recursive"),
    [
        ("b/d/k", "/b/d/k", False),
        ("b/d/k", "b/d", False),
        ("b/d/sub", "b/d", True),
        ("b/d", "trove://b/d/", True),
    ],
)
def test_what_is_moved_onto_itself_stays(fs: TroveFileSystem, source: str, target: str, recursive: bool) -> None:
    fs.pipe({"b/d/k": b"1", "b/d/sub/l": b"2"})
    if target.endswith("/"):
        source = f"{source}/"
    fs.mv(source, target, recursive=recursive)
    assert fs.find("b") == ["b/d/k", "b/d/sub/l"]


def test_a_move_in_which_objects_would_replace_each_other_is_refused(fs: TroveFileSystem) -> None:
    fs.pipe({"b/d/k": b"1", "b/d/d/k": b"2"})
    with pytest.raises(ValueError, match="one object would replace another that is moved"):
        fs.mv("b/d/", "b/d/d", recursive=True)
    with pytest.raises(ValueError, match="one object would replace another that is moved"):
        fs.mv(["b/d/k", "b/d/d/k"], "b/other/")
    assert fs.cat("b", recursive=True) == {"b/d/k": b"1", "b/d/d/k": b"2"}


def test_a_bucket_is_copied_whole_to_a_new_one(fs: TroveFileSystem) -> None:
    fs.pipe({f"b/{number}": b"1" for number in range(50)})
    fs.copy("b", "new", recursive=True)
    assert len(fs.find("new")) == 50
    with pytest.raises(trove.BucketNotFoundError):
        fs.copy("b/", "none/d", recursive=True)
    with pytest.raises(ValueError, match="one object would replace another"):
        fs.mv(["b/1", "b/1"], ["b/x", "b/y"])


def test_a_tree_is_moved_with_all_its_keys(memory: TroveFileSystem) -> None:
    memory.pipe({"b/d/k": b"1", "b/d//l": b"2", "b/d/sub/../m": b"3", "b/other": b"4"})
    memory.mv("b/d", "b/e", recursive=True)
    assert memory.find("b") == ["b/e//l", "b/e/k", "b/e/sub/../m", "b/other"]
    memory.mv("b", "new", recursive=True)
    assert memory.ls("") == [{**memory.info("new"), "created": memory.ls("")[0]["created"]}]
    assert len(memory.find("new")) == 4
    memory.mv("new/e/", "newer", recursive=True)
    assert memory.find("newer") == ["newer//l", "newer/k", "newer/sub/../m"]
    with pytest.raises(IsADirectoryError):
        memory.mv("newer/k", "none", recursive=True)
    with pytest.raises(IsADirectoryError):
        memory.mv("newer/sub", "newer/x")


def test_marks_of_directories_go_with_a_tree_unless_they_hold_bytes(dsn: str, fs: TroveFileSystem) -> None:
    with trove.sync.open(dsn) as store:
        store.put("b", "d/", b"")
        store.put("b", "d/sub/", b"bytes")
        store.put("b", "d/k", b"1")
        fs.mv("b/d", "b/e", recursive=True)
        assert [each.key for each in store.list("b")] == ["d/sub/", "e/k"]
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("b/d/sub")


def test_removing_trees_one_in_the_other(fs: TroveFileSystem) -> None:
    fs.pipe({"b/d/k": b"1", "b/d/sub/l": b"2", "b/d.txt": b"3"})
    fs.rm(["b/d/sub", "b/d", "b/d/sub/l"], recursive=True)
    assert fs.find("b") == ["b/d.txt"]


def test_a_packer_that_closes_its_file_publishes_nothing_after_an_error(
    fs: TroveFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closing(io.BytesIO):
        """Closes the file beneath, as the writer of zstandard does."""

        def __init__(self, file: Any, mode: str) -> None:
            super().__init__()
            self._file = file

        def close(self) -> None:
            self._file.write(self.getvalue())
            self._file.close()

    monkeypatch.setitem(compr, "closing", Closing)
    with pytest.raises(BodyError), fs.open("b/k", "wb", compression="closing") as file:  # noqa: PT012 - the block is what is tested
        file.write(b"half")
        raise BodyError
    assert fs.find("b") == []
    with fs.open("b/k", "wb", compression="closing") as file:
        file.write(b"whole")
    assert fs.cat("b/k") == b"whole"


def test_signing() -> None:
    fs = TroveFileSystem("memory://?presign_url=http://objects.test")
    fs.mkdir("b")
    fs.pipe("b/k", b"")
    assert fs.sign("b/k", expiration=60).startswith("http://objects.test/")


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = uuid4().hex
    with trove.sync.open(f"memory://{name}") as t:
        t.create_bucket("b").put("d/k", b"in memory")
    with trove.sync.open(f"local://{tmp_path}/root?create=1") as t:
        t.create_bucket("b").put("d/k", b"in a file")
    with fsspec.open(f"trove+memory://{name}/b/d/k") as file:
        assert file.read() == b"in memory"
    for scheme in ("local", "file"):
        with fsspec.open(f"trove+{scheme}://{tmp_path}/root/b/d/k") as file:
            assert file.read() == b"in a file"
    with fsspec.open("trove://b/d/k", dsn=f"memory://{name}") as file:
        assert file.read() == b"in memory"
    config = tmp_path / "trove.toml"
    config.write_text(f'[stores.media]\ndsn = "local://{tmp_path}/root"\n')
    config.chmod(0o600)
    monkeypatch.setenv("TROVE_CONFIG", str(config))
    with fsspec.open("trove://media/b/d/k") as file:
        assert file.read() == b"in a file"
    fs, path = fsspec.url_to_fs("trove://media/b/d")
    assert fs.find(path) == ["b/d/k"]
    assert fs.unstrip_protocol("b/d/k") == "trove://media/b/d/k"
    assert fs.cat("trove://media/b/d/k") == fs.cat("/b/d/k/") == b"in a file"
    assert pickle.loads(pickle.dumps(fs)).cat("b/d/k") == b"in a file"
    other = fsspec.filesystem("trove", dsn=f"memory://{name}")
    assert other.cat(f"trove+memory://{name}/b/d/k") == b"in memory"
    assert TroveFileSystem._get_kwargs_from_urls("trove+s3://us-east-1/b/k?endpoint=http://h") == {
        "dsn": "s3://us-east-1?endpoint=http%3A%2F%2Fh"
    }
    assert TroveFileSystem._strip_protocol("trove+azure://account@b/d/k") == "b/d/k"


@pytest.mark.parametrize(
    ("dsn", "settings", "message"),
    [
        ("s3://key:secret@us-east-1", {}, "trove.toml"),
        ("s3://us-east-1", {"secret": "hidden"}, "trove.toml"),
        ("memory://", {}, "memory://NAME"),
    ],
)
def test_secrets_do_not_travel(dsn: str, settings: dict[str, Any], message: str) -> None:
    fs = TroveFileSystem(dsn, **settings)
    for export in (pickle.dumps, TroveFileSystem.to_dict, TroveFileSystem.to_json):
        with pytest.raises(trove.UnpicklableError, match=message):
            export(fs)
    assert "secret" not in repr(fs)
    assert "hidden" not in repr(fs)
    assert "secret" not in fs._fs_token


def test_secrets_of_a_configuration_do_not_travel() -> None:
    config = {"stores": {"media": {"dsn": "s3://key:hidden@us-east-1"}}}
    for fs in (TroveFileSystem("media", config=config), TroveFileSystem(name="media", config=config)):
        with pytest.raises(trove.UnpicklableError, match="configuration holds a secret"):
            pickle.dumps(fs)
    with pytest.raises(trove.UnpicklableError, match="'secret'"):
        pickle.dumps(TroveFileSystem("media", secret="hidden"))


def test_pickling(fs: TroveFileSystem) -> None:
    fs.pipe("b/k", b"1")
    assert pickle.loads(pickle.dumps(fs)).cat("b/k") == b"1"


def test_two_loops_and_the_blocking_half(dsn: str, fs: TroveFileSystem) -> None:
    alone = TroveFileSystem(dsn, asynchronous=True)

    async def use(number: int, chosen: TroveFileSystem) -> bytes:
        await chosen._pipe_file(f"b/{number}", b"%d" % number)
        async with await chosen.open_async(f"b/{number}", "rb") as file:
            assert (file.size, file.closed, await file.tell()) == (1, False, 0)
        stream = await chosen.open_async(f"b/{number}", "ab")
        await stream.write(b"!")
        await stream.close()
        found: bytes = (await asyncio.gather(*[chosen._cat_file(f"b/{number}") for _ in range(10)]))[0]
        return found

    for chosen in (alone, fs):
        for number in range(3):
            assert asyncio.run(use(number, chosen)) == b"%d!" % number
    assert len(alone._stores._entries) == 1  # those of loops that have ended are forgotten
    threads = [threading.Thread(target=lambda: fs.pipe(f"b/{threading.get_ident()}", b"")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(trove.LifetimeError, match="asynchronous=True"):
        alone.cat("b/1")


@pytest.mark.asyncio
async def test_a_body_that_raises_in_a_coroutine(dsn: str) -> None:
    fs = TroveFileSystem(dsn, asynchronous=True)
    await fs._mkdir("b")
    with pytest.raises(BodyError):  # noqa: PT012 - the block is what is tested
        async with await fs.open_async("b/k", "wb") as file:
            await file.write(b"x")
            raise BodyError
    assert await fs._find("b") == []


WRITES: dict[str, Callable[[TroveFileSystem], Awaitable[object]]] = {
    "append": lambda fs: _appended(fs),
    "create": lambda fs: fs._pipe_file("b/new", b"new", mode="create"),
    "copy": lambda fs: fs._copy("b/old", "b/new"),
    "move": lambda fs: fs._mv("b/old", "b/new"),
    "pipe": lambda fs: fs._pipe({"b/new": OLD}),
    "remove": lambda fs: fs._rm("b", recursive=True),
}


async def _appended(fs: TroveFileSystem) -> None:
    async with await fs.open_async("b/old", "ab") as file:
        await file.write(b"new")


@pytest.mark.asyncio
@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_cancelled_at_every_await_point(
    write: Callable[[TroveFileSystem], Awaitable[object]], delivery: Delivery
) -> None:
    fs = TroveFileSystem(f"memory://{uuid4().hex}", asynchronous=True)

    async def prepare() -> None:
        await fs._makedirs("b", exist_ok=True)
        await fs._pipe({"b/old": OLD})
        if await fs._exists("b/new"):
            await fs._rm_file("b/new")

    async def check(outcome: Outcome[object]) -> None:
        assert outcome.left_running == frozenset()
        assert outcome.error is None
        found = {name: info["size"] for name, info in (await fs._find("b", detail=True)).items()}
        assert set(found.items()) <= {("b/old", len(OLD)), ("b/old", len(OLD) + 3), ("b/new", 3), ("b/new", len(OLD))}
        assert found or write is WRITES["remove"]

    assert await cancel_everywhere(lambda: write(fs), delivery, prepare=prepare, check=check) >= 1


@pytest.mark.asyncio
async def test_cancelling_an_operation_on_many_paths_ends_all_of_it() -> None:
    fs = TroveFileSystem(f"memory://{uuid4().hex}", asynchronous=True)
    await fs._makedirs("b")
    begun, ended = asyncio.Semaphore(0), 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal ended
        begun.release()
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended += 1

    writing = asyncio.create_task(fs._pipe({f"b/{number}": body() for number in range(10)}, batch_size=4))
    for _ in range(4):
        await begun.acquire()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (ended, asyncio.all_tasks()) == (4, {asyncio.current_task()})
    assert await fs._find("b") == []


def test_other_file_systems_of_fsspec_can_use_it(memory: TroveFileSystem, tmp_path: Path) -> None:
    mapper = memory.get_mapper("b/m")
    mapper["a/b"] = b"1"
    assert ([*mapper], mapper["a/b"], "none" in mapper) == (["a/b"], b"1", False)
    assert mapper.getitems(["a/b", "none"], on_error="omit") == {"a/b": b"1"}
    del mapper["a/b"]
    with pytest.raises(KeyError):
        mapper["a/b"]
    within = fsspec.filesystem("dir", path="b/m", fs=memory)
    with within.open("x", "wb") as file:
        file.write(b"2")
    assert (within.ls("", detail=False), memory.cat("b/m/x")) == (["x"], b"2")
    url = f"filecache::trove+{memory._dsn}/b/m/x"
    for content in (b"2", b"3"):
        memory.pipe("b/m/x", content)
        with fsspec.open(url, filecache={"cache_storage": str(tmp_path), "check_files": True}) as file:
            assert file.read() == content


def test_a_fork_after_use(dsn: str) -> None:
    code = """
    import os, sys
    from trove_async.fs.fsspec import TroveFileSystem

    fs = TroveFileSystem(sys.argv[1])
    fs.mkdir("b")
    fs.pipe("b/parent", b"1")
    for number in range(3):
        child = os.fork()
        if not child:
            fs.pipe(f"b/child-{number}", b"2")
            assert TroveFileSystem(sys.argv[1]).cat("b/parent") == b"1"
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        fs.pipe("b/after", b"3")
    print(fs.find("b"))
    """
    ended = run(code, dsn)
    assert (ended.stdout, ended.stderr) == ("['b/after', 'b/child-0', 'b/child-1', 'b/child-2', 'b/parent']\n", "")


def test_an_interruption_aborts_a_transfer(dsn: str, tmp_path: Path) -> None:
    code = """
    import asyncio, sys
    from trove_async.fs.fsspec import TroveFileSystem

    fs = TroveFileSystem(sys.argv[1])
    fs.mkdir("b")

    async def body():
        try:
            yield bytes(4_000_000)
            print("under way", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

    try:
        fs.pipe_file("b/k", body())
    except KeyboardInterrupt:
        print("interrupted", fs.find("b"))
    """
    with start(code, dsn) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "cancelled\ninterrupted []\n"
    assert process.returncode == 0
