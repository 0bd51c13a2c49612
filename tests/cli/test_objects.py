"""``cat``, ``put``, ``stat``, ``ls``, ``mb``, ``rb`` and ``ping``."""

from __future__ import annotations

import os
from dataclasses import fields

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import Shell
from trove_async.types import ObjectInfo

BINARY = bytes(range(256)) * 5000  # more than a pipe buffers
OBJECT_FIELDS = {"type", "bucket"} | {field.name for field in fields(ObjectInfo)}


def test_bytes_piped_into_put_are_piped_out_by_cat(shell: Shell) -> None:
    shell.ok("mb", "assets")
    put = shell.ok("put", "-", "assets/größe 日本.bin", "--json", stdin=BINARY)
    assert [record["size"] for record in put.records] == [len(BINARY)]
    assert shell.ok("cat", "assets/größe 日本.bin").out == BINARY
    assert shell.ok("ls", "assets").lines == ["assets/größe 日本.bin"]
    named = shell.run("cat", f"local://{shell.root}/assets/gr%C3%B6%C3%9Fe%20%E6%97%A5%E6%9C%AC.bin", TROVE_DSN=None)
    assert named.out == BINARY


def test_put_sets_every_property_of_an_object(shell: Shell, trove: Run) -> None:
    shell.write("photo", b"not really")
    trove("mb", "assets")
    options = [
        *("--content-type", "image/jpeg", "--metadata", "camera=X100", "--metadata", "n=1", "--tag", "a=b"),
        *("--cache-control", "no-store", "--content-disposition", "inline", "--content-encoding", "identity"),
        *("--content-language", "de", "--storage-class", "COLD", "--checksum", "sha256"),
    ]
    assert trove("put", "photo", "assets/", *options).code == 0
    (found,) = trove("stat", "assets/photo", "--json").records
    assert found.keys() == OBJECT_FIELDS
    assert found["metadata"] == {"camera": "X100", "n": "1"}
    assert (found["content_type"], found["storage_class"], found["cache_control"]) == ("image/jpeg", "COLD", "no-store")
    assert found["content_language"] == "de"
    assert found["checksums"].keys() == {"sha256"}
    assert found["last_modified"].endswith("+00:00")
    text = trove("stat", "assets/photo").lines
    assert "metadata.camera: X100" in text
    assert "content_type: image/jpeg" in text
    assert trove("tag", "ls", "assets/photo").lines == ["a=b"]


def test_put_under_conditions(shell: Shell, trove: Run) -> None:
    shell.write("one", b"1")
    shell.write("two", b"2")
    trove("mb", "b")
    (info,) = trove("put", "one", "b/k", "--no-clobber", "--json").records
    again = trove("put", "two", "b/k", "--no-clobber")
    assert (again.code, again.err.count("\n")) == (4, 1)
    assert trove("put", "two", "b/k", "--if-match", "other").code == 4
    assert trove("cat", "b/k").out == b"1"
    assert trove("put", "two", "b/k", "--if-match", info["etag"]).code == 0
    assert trove("cat", "b/k").out == b"2"
    assert trove("put", "two", "b/k", "--if-match", info["etag"], "--no-clobber").code == 2
    wrong = trove("put", "one", "b/k", "--checksum", f"sha256:{'0' * 64}")
    assert wrong.code == 1
    assert trove("cat", "b/k").out == b"2"


def test_put_into_a_folder_names_the_object_after_the_file(shell: Shell, trove: Run) -> None:
    shell.write("dir/a.txt", b"")
    trove("mb", "b")
    assert trove("put", "dir/a.txt", "b").code == 0
    assert trove("put", "dir/a.txt", "b/x/").code == 0
    assert trove("put", "-", "b/x/").code == 2
    assert trove("ls", "-r", "b").lines == ["b/a.txt", "b/x/a.txt"]


@pytest.mark.parametrize(
    ("text", "expected"), [("0-2", b"012"), ("7-", b"789"), ("-4", b"6789"), ("5-100", b"56789"), ("4-4", b"4")]
)
def test_ranges(shell: Shell, trove: Run, text: str, expected: bytes) -> None:
    shell.write("digits", b"0123456789")
    trove("mb", "b")
    trove("put", "digits", "b/digits")
    done = trove("cat", "b/digits", f"--range={text}")
    assert (done.code, done.out) == (0, expected)


def test_cat_continues_after_a_missing_object(shell: Shell, trove: Run) -> None:
    shell.write("a", b"a")
    trove("mb", "b")
    trove("put", "a", "b/1")
    trove("put", "a", "b/2")
    done = trove("cat", "b/1", "b/missing", "b/2")
    assert (done.code, done.out) == (3, b"aa")
    assert done.err.startswith("trove: get 'b/missing': ")
    assert done.err.count("\n") == 1


def test_a_listing_shows_one_level_or_all(shell: Shell, trove: Run) -> None:
    trove("mb", "assets", "other")
    shell.write("f", b"12345")
    for key in ("a.txt", "photos", "photos/1.jpg", "photos/2024/2.jpg", "photosynthesis"):
        assert trove("put", "f", f"assets/{key}").code == 0
    assert trove("ls").lines == ["assets", "other"]
    assert trove("ls", f"local://{shell.root}").lines == ["assets", "other"]
    assert trove("ls", "assets").lines == [
        "assets/a.txt", "assets/photos", "assets/photos/", "assets/photosynthesis",
    ]  # fmt: skip
    assert trove("ls", "assets/photos").lines == ["assets/photos", "assets/photos/1.jpg", "assets/photos/2024/"]
    assert trove("ls", "assets/photos/").lines == ["assets/photos/1.jpg", "assets/photos/2024/"]
    assert trove("ls", "-r", "assets/photos/").lines == ["assets/photos/1.jpg", "assets/photos/2024/2.jpg"]
    assert trove("ls", "assets/*.txt", "assets/photos/**").lines == [
        "assets/a.txt", "assets/photos/1.jpg", "assets/photos/2024/2.jpg",
    ]  # fmt: skip
    assert trove("ls", "assets/photos/20??").lines == ["assets/photos/2024/"]
    assert trove("ls", "other").lines == []
    assert trove("ls", "assets/phot").code == 3
    assert trove("ls", "assets/*.png").code == 3
    (line,) = trove("ls", "-l", "assets/a.txt").lines
    time, size, name = line.split()
    assert (time[-1], size, name) == ("Z", "5", "assets/a.txt")


def test_list_output_for_machines(shell: Shell, trove: Run) -> None:
    trove("mb", "assets")
    shell.write("f", b"12345")
    trove("put", "f", "assets/x\ny")
    trove("put", "f", "assets/z/")
    (bucket,) = trove("ls", "--json").records
    assert (bucket["type"], bucket["name"]) == ("bucket", "assets")
    found, prefix = trove("ls", "assets", "--json").records
    assert found.keys() == OBJECT_FIELDS
    assert (found["key"], found["size"]) == ("x\ny", 5)
    assert prefix == {"type": "prefix", "bucket": "assets", "prefix": "z/"}
    assert trove("ls", "assets").lines[0] == "assets/x\\ny"


def test_literal_disables_patterns(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    shell.write("f", b"")
    trove("put", "f", "b/what?")
    trove("put", "f", "b/whats")
    assert trove("ls", "b/what?").lines == ["b/what?", "b/whats"]
    assert trove("ls", "b/what?", "--literal").lines == ["b/what?"]
    assert trove("rm", "b/what?", "--literal").code == 0
    assert trove("ls", "b").lines == ["b/whats"]


def test_buckets_are_created_and_removed(shell: Shell, trove: Run) -> None:
    assert trove("mb", "one", "two", "--json").records == [
        {"type": "bucket", "name": "one"},
        {"type": "bucket", "name": "two"},
    ]
    taken = trove("mb", "one", "three")
    assert (taken.code, taken.err.count("\n")) == (4, 1)
    assert trove("mb", "one", "--exist-ok").code == 0
    trove("put", "-", "one/k")
    full = trove("rb", "one")
    assert full.code == 4
    assert "trove rm -r empties it" in full.err
    assert trove("rb", f"local://{shell.root}/two", "missing").code == 3
    assert trove("ls").lines == ["one", "three"]
    assert trove("rb", "one/k").code == 2


def test_ping(shell: Shell, trove: Run) -> None:
    done = trove("ping", "--count", "2", "--json")
    assert [record["driver"] for record in done.records] == ["local", "local"]
    assert all(record["rtt_ms"] >= 0 for record in done.records)
    secret = trove("ping", f"local://{shell.root}?presign_url=http://x&presign_key=0123456789abcdefgh")
    assert secret.code == 0
    assert "0123456789" not in secret.text
    assert trove("ping", "local:///no/such/root").code == 3


def test_a_download_onto_a_link_or_a_pipe_leaves_it_in_place(trove: Run, shell: Shell) -> None:
    trove("mb", "assets")
    trove("put", "-", "assets/a", stdin=b"content")
    link, real, pipe = (shell.folder / name for name in ("link", "real", "pipe"))
    shell.write("real", b"old")
    real.chmod(0o600)
    link.symlink_to("real")
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    for target in ("./link", "./pipe"):
        assert trove("cp", "assets/a", target).code == 0
    assert (link.is_symlink(), real.read_bytes(), real.stat().st_mode & 0o777) == (True, b"content", 0o600)
    assert os.read(held, 100) == b"content"
    assert pipe.is_fifo()
    os.close(held)
    trove("versions", "on", "assets")
    trove("put", "-", "assets/a", stdin=b"newer")
    version = trove("versions", "ls", "assets/a", "--json").records[0]["version_id"]
    assert trove("versions", "get", "assets/a", version, "-o", "link").code == 0
    assert (link.is_symlink(), real.read_bytes()) == (True, b"newer")
