"""``cp`` and ``mv``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

import pytest

import trove_async
from tests.cli.conftest import Run
from tests.cli.shell import Shell

NAMES = ["a.txt", "a/b.txt", "größe/日本.txt", "x/y/z"]


def content(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest() * 100


@pytest.fixture
def tree(shell: Shell) -> Path:
    for name in NAMES:
        shell.write(f"tree/{name}", content(name))
    return shell.folder / "tree"


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_tree_goes_to_a_store_and_to_another_and_back(shell: Shell, tree: Path) -> None:
    other = shell.folder / "other"
    other.mkdir()
    shell.ok("mb", "b")
    shell.ok("mb", "c", "--store", f"local://{other}")
    up = shell.ok("cp", "-r", "./tree", "b/t", "--json")
    assert sorted((r["target"], r["outcome"], r["size"]) for r in up.records) == sorted(
        (f"b/t/{name}", "copied", 3200) for name in NAMES
    )
    shell.ok("cp", "-r", "b/t", f"local://{other}/c/u")
    shell.ok("cp", "-r", f"local://{other}/c/u", "./back")
    assert files(shell.folder / "back") == {name: content(name) for name in NAMES}
    for name in NAMES:
        assert (shell.folder / "back" / name).stat().st_mtime_ns == (tree / name).stat().st_mtime_ns


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("./tree", "b/t", "b/t/a.txt"),
        ("./tree/", "b/t", "b/t/a.txt"),
        ("./tree", "b/t/", "b/t/tree/a.txt"),
        ("./tree/", "b/t/", "b/t/tree/a.txt"),
        ("./tree", "b", "b/a.txt"),
        ("./tree", "b/", "b/tree/a.txt"),
    ],
)
def test_a_trailing_slash_makes_the_target_a_folder(
    trove: Run, tree: Path, source: str, target: str, expected: str
) -> None:
    trove("mb", "b")
    for _ in range(2):  # unchanged files change nothing
        assert trove("cp", "-r", source, target).code == 0
        assert expected in trove("ls", "-r", "b").lines
        assert len(trove("ls", "-r", "b").lines) == len(NAMES)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("b/new", "b/new"), ("b/x/", "b/x/a.txt"), ("b", "b/a.txt"), ("b/", "b/a.txt")],
)
def test_the_target_of_one_file(trove: Run, tree: Path, target: str, expected: str) -> None:
    trove("mb", "b")
    assert trove("cp", "./tree/a.txt", target).code == 0
    assert trove("ls", "-r", "b").lines == [expected]


@pytest.mark.parametrize(
    ("target", "expected"), [("./new", "new"), ("./made/", "made/a.txt"), ("./there", "there/a.txt"), (".", "a.txt")]
)
def test_the_target_of_one_object(shell: Shell, trove: Run, tree: Path, target: str, expected: str) -> None:
    trove("mb", "b")
    trove("cp", "./tree/a.txt", "b/k/a.txt")
    (shell.folder / "there").mkdir()
    assert trove("cp", "b/k/a.txt", target).code == 0
    assert (shell.folder / expected).read_bytes() == content("a.txt")


def test_several_sources_are_copied_into_a_folder(shell: Shell, trove: Run, tree: Path) -> None:
    trove("mb", "b")
    assert trove("cp", "./tree/a.txt", "./tree/a/b.txt", "b/x").code == 2
    assert trove("cp", "./tree/a.txt", "./tree/a/b.txt", "b/x/").code == 0
    assert trove("cp", "-r", "./tree/a", "./tree/x", "b").code == 2
    assert trove("cp", "-r", "./tree/a", "./tree/x", "b/y/").code == 0
    assert trove("ls", "-r", "b").lines == ["b/x/a.txt", "b/x/b.txt", "b/y/a/b.txt", "b/y/x/y/z"]
    assert trove("cp", "./tree/a.txt", "b/x/a.txt", "b/z/").code == 2  # both would be named a.txt


def test_patterns_keep_the_names_after_their_fixed_part(shell: Shell, trove: Run, tree: Path) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    assert trove("cp", "b/t/**/*.txt", "./out/").code == 0
    assert sorted(files(shell.folder / "out")) == ["a.txt", "a/b.txt", "größe/日本.txt"]
    assert trove("cp", "b/t/*", "./flat").code == 0
    assert sorted(files(shell.folder / "flat")) == ["a.txt"]
    assert trove("cp", "-r", "b/t/?", "./deep").code == 0
    assert sorted(files(shell.folder / "deep")) == ["a/b.txt", "x/y/z"]
    assert trove("cp", "b/none*", "./deep").code == 3


def outcomes(done: list[dict[str, str]]) -> dict[str, str]:
    return {record["target"].rpartition("b/t/")[2]: record["outcome"] for record in done}


def test_only_changed_files_are_copied_again(shell: Shell, trove: Run, tree: Path) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    assert set(outcomes(trove("cp", "-r", "./tree", "b/t", "--json").records).values()) == {"unchanged"}
    # The same size and another time; another size and the same time; an object that someone else has stored.
    (tree / "a.txt").write_bytes(bytes(3200))
    status = (tree / "a" / "b.txt").stat()
    (tree / "a" / "b.txt").write_bytes(b"short")
    os.utime(tree / "a" / "b.txt", ns=(status.st_mtime_ns, status.st_mtime_ns))
    shell.write("theirs", bytes(3200))
    trove("put", "theirs", "b/t/x/y/z")
    again = outcomes(trove("cp", "-r", "./tree", "b/t", "--json").records)
    assert again == {"a.txt": "copied", "a/b.txt": "copied", "größe/日本.txt": "unchanged", "x/y/z": "copied"}
    assert trove("cat", "b/t/x/y/z").out == content("x/y/z")


def test_checksum_ignores_times(shell: Shell, trove: Run, tree: Path) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    status = (tree / "a.txt").stat()
    (tree / "a.txt").write_bytes(bytes(3200))
    os.utime(tree / "a.txt", ns=(status.st_mtime_ns, status.st_mtime_ns))
    (tree / "x" / "y" / "z").touch()
    assert outcomes(trove("cp", "-r", "./tree", "b/t", "--json").records)["a.txt"] == "unchanged"
    again = outcomes(trove("cp", "-r", "./tree", "b/t", "--checksum", "--json").records)
    assert again == {"a.txt": "copied", "a/b.txt": "unchanged", "größe/日本.txt": "unchanged", "x/y/z": "unchanged"}
    (info,) = trove("stat", "b/t/a.txt", "--json").records
    assert info["checksums"] == {"sha256": hashlib.sha256(bytes(3200)).hexdigest()}


def test_objects_keep_their_metadata(shell: Shell, trove: Run) -> None:
    shell.write("f", b"12345")
    trove("mb", "b", "c")
    trove(
        "put", "f", "b/t/k", "--content-type", "x/y", "--metadata", "a=1", "--tag", "t=v", "--cache-control", "no-store"
    )
    for command in (["cp", "b/t/k", "c/one"], ["cp", "-r", "b/t", "c/two"], ["cp", "-r", "c/two", "c/three"]):
        assert trove(*command).code == 0
    for key in ("one", "two/k", "three/k"):
        (info,) = trove("stat", f"c/{key}", "--json").records
        assert (info["content_type"], info["metadata"]["a"], info["cache_control"]) == ("x/y", "1", "no-store"), key
        assert trove("tag", "ls", f"c/{key}").lines == ["t=v"]
    assert "0 copied, 1 unchanged" in trove("cp", "-r", "b/t", "c/two").err
    (one,) = trove("stat", "c/one", "--json").records
    assert one["metadata"] == {"a": "1"}  # one object is copied without a check


@pytest.mark.parametrize("key", ["../up", "a/../../up", "/etc/x", "a//b", "./a"])
def test_no_key_leads_out_of_the_folder(shell: Shell, trove: Run, key: str) -> None:
    shell.write("f", b"")
    trove("mb", "b")
    trove("put", "f", f"b/t/{key}")
    trove("put", "f", "b/t/good")
    done = trove("cp", "-r", "b/t", "./out/into")
    assert (done.code, done.err.count("is not the name of a file below")) == (1, 1)
    assert sorted(files(shell.folder / "out")) == ["into/good"]


def test_folder_markers_are_not_files(shell: Shell, trove: Run) -> None:
    shell.write("f", b"")
    trove("mb", "b")
    trove("put", "f", "b/t/f")
    store_marker(shell, "t/sub/")
    done = trove("cp", "-r", "b/t", "./out")
    assert (done.code, "stands for a folder" in done.err) == (0, True)
    assert sorted(files(shell.folder / "out")) == ["f"]
    assert trove("cp", "-r", "b/t", "b/u").code == 0
    assert trove("ls", "-r", "b/u/").lines == ["b/u/f", "b/u/sub/"]


def store_marker(shell: Shell, key: str, metadata: dict[str, str] | None = None) -> None:
    async def put() -> None:
        async with trove_async.open(shell.dsn) as store:
            await store.put("b", key, b"", metadata=metadata)

    asyncio.run(put())


STUB = {"hdi_isfolder": "true"}


def test_directory_stubs_are_not_files(shell: Shell, trove: Run) -> None:
    """Azure Data Lake stores an empty object for each directory, whose metadata listings do not show."""
    shell.write("f", b"data")
    trove("mb", "b")
    trove("put", "f", "b/t/sub/f")
    for key in ("t/sub", "t/empty"):
        store_marker(shell, key, STUB)
    store_marker(shell, "t/no-stub", {"hdi_isfolder": "false"})
    preview = trove("cp", "-r", "-n", "b/t", "./out")
    assert [line.partition(" -> ")[0] for line in preview.lines] == ["would copy: b/t/no-stub", "would copy: b/t/sub/f"]
    for command, target in (("cp", "./out"), ("cp", "b/u"), ("mv", "b/v")):
        done = trove(command, "-r", "b/t", target)
        assert (done.code, done.err.count("stands for a folder")) == (0, 2), done.err
    assert files(shell.folder / "out") == {"no-stub": b"", "sub/f": b"data"}
    for copied in ("u", "v"):
        assert trove("ls", "-r", f"b/{copied}/").lines == [f"b/{copied}/no-stub", f"b/{copied}/sub/f"]
    assert trove("ls", "-r", "b/t/").lines == ["b/t/empty", "b/t/sub"]


def test_a_directory_stub_given_by_name_is_copied(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    store_marker(shell, "stub", STUB)
    assert trove("cp", "b/stub", "b/copy").code == 0
    assert trove("stat", "b/copy", "--json").records[0]["metadata"] == STUB


def test_links_and_pipes_are_skipped(shell: Shell, trove: Run, tree: Path) -> None:
    (tree / "loop").symlink_to(tree)
    (tree / "link").symlink_to(tree / "a.txt")
    os.mkfifo(tree / "pipe")
    trove("mb", "b")
    done = trove("cp", "-r", "./tree", "b/t")
    assert (done.code, done.err.count("skipped")) == (0, 3)
    assert len(trove("ls", "-r", "b").lines) == len(NAMES)
    assert trove("cp", "./tree/link", "b/linked").code == 0  # given by name, it is followed
    assert trove("cat", "b/linked").out == content("a.txt")


def test_a_name_that_is_not_a_valid_key_fails_alone(shell: Shell, trove: Run, tree: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).write_bytes(b"")
    trove("mb", "b")
    done = trove("cp", "-r", "./tree", "b/t")
    assert done.code == 2
    assert "\\udcff" in done.err
    assert len(trove("ls", "-r", "b").lines) == len(NAMES)


def test_a_copy_into_itself_is_refused(trove: Run, tree: Path) -> None:
    trove("mb", "b", "c")
    trove("cp", "-r", "./tree", "b/t")
    before = trove("ls", "-r", "b").lines
    for source, target in [
        ("b/t", "b/t/x"), ("b/t", "b/t"), ("b/t", "b/"), ("b", "b/x"), ("b/t/", "b/t/"), ("b/**", "b/x/"),
    ]:  # fmt: skip
        assert trove("cp", "-r", source, target).code == 2, (source, target)
    assert trove("cp", "b/t/a.txt", "b/t/a.txt").code == 2
    assert trove("ls", "-r", "b").lines == before
    assert trove("cp", "-r", "b/t", "b/t2").code == 0
    assert trove("cp", "-r", "b", "c/b").code == 0


def test_a_missing_bucket_is_reported_once(trove: Run, tree: Path) -> None:
    done = trove("cp", "-r", "./tree", "missing/t")
    assert (done.code, done.err.count("\n")) == (3, 1)


def test_moves_leave_nothing_behind(shell: Shell, trove: Run, tree: Path) -> None:
    trove("mb", "b", "c")
    assert trove("mv", "-r", "./tree", "b/t").code == 0
    assert not tree.exists()
    assert trove("mv", "-r", "b/t", "c/u").code == 0
    assert trove("ls", "-r", "b").lines == []
    assert trove("mv", "c/u/a.txt", "c/renamed").code == 0
    assert trove("mv", "-r", "c/u", "./back").code == 0
    assert trove("ls", "-r", "c").lines == ["c/renamed"]
    assert files(shell.folder / "back") == {name: content(name) for name in NAMES if name != "a.txt"}
    assert trove("mv", "c/renamed", "c/renamed").code == 2
    assert trove("cat", "c/renamed").out == content("a.txt")


def test_an_interrupted_move_continues_after_its_copy(trove: Run, tree: Path) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    moved = trove("mv", "-r", "./tree", "b/t", "--json")
    assert set(outcomes(moved.records).values()) == {"unchanged"}
    assert not tree.exists()
    assert len(trove("ls", "-r", "b").lines) == len(NAMES)


def test_a_dry_run_does_nothing(trove: Run, tree: Path) -> None:
    trove("mb", "b")
    trove("cp", "./tree/a.txt", "b/t/a.txt")
    shown = trove("cp", "-r", "./tree", "b/t", "--dry-run")
    assert shown.lines[0] == "unchanged: ./tree/a.txt -> b/t/a.txt"
    assert shown.lines[1] == "would copy: ./tree/a/b.txt -> b/t/a/b.txt"
    assert trove("mv", "-r", "./tree", "b/t", "-n").code == 0
    assert trove("ls", "-r", "b").lines == ["b/t/a.txt"]
    assert len(files(tree)) == len(NAMES)


def test_standard_input_and_output(trove: Run) -> None:
    trove("mb", "b")
    assert trove("cp", "-", "b/in", stdin=b"data").code == 0
    assert trove("cp", "b/in", "b/in", "-").out == b"datadata"
    for arguments in (
        ["-", "b/"],
        ["-", "-"],
        ["./f", "-"],
        ["-", "b/k", "b/l"],
        ["-r", "-", "b/k"],
        ["-n", "-", "b/k"],
    ):
        done = trove("cp", *arguments)
        assert (done.code, done.out) == (2, b""), arguments
    assert trove("mv", "b/in", "-").code == 2
    assert trove("ls", "b").lines == ["b/in"]


def test_patterns_of_local_files(trove: Run, tree: Path) -> None:
    trove("mb", "b")
    assert trove("cp", "./tree/*.txt", "b/one").code == 0
    assert trove("cp", "./tree/*/*.txt", "b/two").code == 0
    assert trove("cp", f"{tree}/**/z", "b/all").code == 0
    assert trove("cp", "-r", "./tree/?", "b/below").code == 0
    assert trove("ls", "-r", "b").lines == [
        "b/all/x/y/z", "b/below/a/b.txt", "b/below/x/y/z", "b/one/a.txt", "b/two/a/b.txt", "b/two/größe/日本.txt",
    ]  # fmt: skip
    done = trove("cp", "./tree/*.md", "b/none")
    assert (done.code, done.err) == (3, "trove: no file matches './tree/*.md'\n")
    (tree / "*.md").write_bytes(b"its name")
    assert trove("cp", "./tree/*.md", "b/star").code == 0
    assert trove("cat", "--", "b/star").out == b"its name"


def test_patterns_of_buckets(trove: Run, shell: Shell) -> None:
    for bucket in ("log-1", "log-2", "other"):
        trove("mb", bucket)
        trove("put", "-", f"{bucket}/a/x", stdin=bucket.encode())
    assert trove("ls", "log-*/a").lines == ["log-1/a/x", "log-2/a/x"]
    assert trove("ls", "-r", "log-?").lines == ["log-1/a/x", "log-2/a/x"]
    assert trove("ls", "none-*").code == 3
    assert trove("cp", "log-*/a/x", "./out").code == 0
    assert files(shell.folder / "out") == {"log-1/x": b"log-1", "log-2/x": b"log-2"}
    assert trove("cp", "-r", "*", "./all").code == 0
    assert sorted(files(shell.folder / "all")) == ["log-1/a/x", "log-2/a/x", "other/a/x"]
    assert trove("rm", "log-*/a/x").code == 2  # it asks first
    assert trove("rm", "--yes", "log-*/a/x").code == 0
    assert trove("ls", "-r", "*").lines == ["other/a/x"]


def test_modes_and_owners_are_kept_when_asked(trove: Run, shell: Shell) -> None:
    trove("mb", "b")
    script = shell.write("tree/run", b"#!")
    script.chmod(0o4750)
    assert trove("cp", "-r", "--preserve", "./tree", "b/t").code == 0
    assert trove("cp", "-r", "b/t", "./plain").code == 0
    assert trove("cp", "-r", "--preserve", "b/t", "./kept").code == 0
    modes = {name: (shell.folder / name / "run").stat().st_mode & 0o7777 for name in ("plain", "kept")}
    assert modes["kept"] == 0o750  # never the bit that runs a program as its owner
    assert modes["plain"] != 0o750
    metadata = trove("stat", "b/t/run", "--json").records[0]["metadata"]
    assert (metadata["mode"], metadata["uid"]) == ("104750", str(os.getuid()))


def test_a_tree_is_not_written_through_a_link(trove: Run, tree: Path, shell: Shell) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    outside = shell.folder / "outside"
    outside.mkdir()
    target = shell.folder / "out"
    target.mkdir()
    (target / "x").symlink_to(outside, target_is_directory=True)
    done = trove("cp", "-r", "b/t", "./out")
    assert done.code == 1
    assert "symbolic link" in done.err
    assert list(outside.iterdir()) == []
    assert set(files(target)) == set(NAMES) - {"x/y/z"}
    (shell.folder / "link").symlink_to(target, target_is_directory=True)
    (target / "x").unlink()
    assert trove("cp", "-r", "b/t", "./link").code == 0  # the target itself may be one


def test_a_dry_run_goes_on_as_the_run_does(trove: Run, tree: Path, shell: Shell) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    target = shell.folder / "out"
    (target / "a.txt").mkdir(parents=True)  # a directory where a file should go
    dry = trove("cp", "-r", "--dry-run", "b/t", "./out")
    real = trove("cp", "-r", "b/t", "./out")
    assert (dry.code, real.code) == (1, 1)
    assert [line for line in dry.err.splitlines() if "a.txt" in line] == [
        line for line in real.err.splitlines() if "a.txt" in line
    ]
    assert len(dry.lines) == len(NAMES) - 1
    shutil.rmtree(target)
    target.mkdir()
    (target / "x").symlink_to(shell.folder)  # a link on the way to a file
    dry = trove("cp", "-r", "--dry-run", "b/t", "./out")
    assert "trees are not written through links" in dry.err
    assert dry.err.splitlines() == trove("cp", "-r", "b/t", "./out").err.splitlines()[:-1]
    assert trove("cp", "-r", "-n", "./tree", "missing/t").err.count("\n") == 1


@pytest.mark.parametrize("command", ["cp", "mv"])
def test_a_target_that_is_no_bucket_may_be_a_local_folder(trove: Run, tree: Path, command: str) -> None:
    assert trove("mb", "b").code == 0
    assert trove("cp", "-r", str(tree), "b/t").code == 0
    done = trove(command, "-r", "b/t", "back")
    assert (done.code, done.err.count("for a local file or folder write ./back")) == (3, 1)
    missing = trove(command, "b/none", "./x")
    assert missing.err == f"trove: {command} 'b/none': the object does not exist\n"


def test_a_local_file_of_the_name_is_hinted_at(trove: Run, tree: Path) -> None:
    trove("mb", "assets")
    for arguments in (["-r", "tree", "assets/x"], ["tree", "assets/x"], ["-r", "tree/a", "assets/x"]):
        done = trove("cp", *arguments)
        assert done.code in (2, 3)
        assert f"write ./{arguments[-2]}" in done.err
    assert "./" not in trove("cp", "-r", "nothing", "assets/x").err
