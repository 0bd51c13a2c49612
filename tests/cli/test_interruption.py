"""Ctrl-C and other signals, at any moment."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import PATIENCE, Shell, until
from tests.drivers.local_residue import residue_of

COUNT = 300


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def tree(shell: Shell) -> Path:
    random_bytes = random.Random(1).randbytes
    for number in range(COUNT):
        shell.write(f"tree/{number % 5}/{number}", random_bytes(4096 if number % 10 else 2 * 1024 * 1024))
    return shell.folder / "tree"


def interrupted(shell: Shell, arguments: list[str], number: signal.Signals) -> int:
    """Send a signal after a random number of copies was reported, and return that number.

    The pipe is small: the command cannot finish before the signal arrives, however late this process runs.
    """
    after = random.Random().randint(1, COUNT // 2)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with shell.start(*arguments, "--json", "-q", stdout=writing) as process, os.fdopen(reading, "rb") as reports:
        os.close(writing)
        for position, _ in enumerate(reports, 1):
            if position == after:
                process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (128 + number, b"")
    return after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_upload_is_continued(shell: Shell, trove: Run, tree: Path, number: signal.Signals) -> None:
    trove("mb", "b")
    whole = digests(tree)
    command = ["cp", "-r", "./tree", "b/t", "-j", "4"]
    after = interrupted(shell, command, number)
    there = digests(shell.root / "b")
    assert after <= len(there) < COUNT, f"interrupted after {after}"
    assert there == {f"t/{name}": whole[name] for name in whole if f"t/{name}" in there}
    assert residue_of(shell.root) == []
    again = trove(*command, "--json")
    assert again.code == 0
    outcomes = [record["outcome"] for record in again.records]
    assert outcomes.count("unchanged") == len(there)
    assert digests(shell.root / "b") == {f"t/{name}": digest for name, digest in whole.items()}


def test_an_interrupted_download_is_continued(shell: Shell, trove: Run, tree: Path) -> None:
    trove("mb", "b")
    trove("cp", "-r", "./tree", "b/t")
    whole = digests(tree)
    command = ["cp", "-r", "b/t", "./back", "-j", "4"]
    interrupted(shell, command, signal.SIGINT)
    there = digests(shell.folder / "back")
    assert there == {name: whole[name] for name in there}
    assert len(there) < COUNT
    again = trove(*command, "--json")
    assert (again.code, len(again.records)) == (0, COUNT)
    assert digests(shell.folder / "back") == whole


def _wait_until_read(pipe: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has read all bytes in the pipe: then it waits for more."""
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]:
        assert process.poll() is None, "the process ended first"
        time.sleep(0.01)


def waiting_in(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_put_that_waits_for_its_input_can_be_interrupted(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    reading, writing = os.pipe()
    with shell.start("put", "-", "b/k", stdin=reading) as process:
        os.write(writing, bytes(50_000))
        until(lambda: waiting_in(reading) == 0, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    os.close(writing)
    os.close(reading)
    assert (process.returncode, err) == (130, b"trove: interrupted\n")
    assert trove("ls", "b").lines == []
    assert residue_of(shell.root) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("written", [b"", bytes(50_000)], ids=["no writer", "a silent writer"])
def test_a_put_of_a_fifo_can_be_interrupted(shell: Shell, trove: Run, number: signal.Signals, written: bytes) -> None:
    trove("mb", "b")
    fifo = shell.folder / "fifo"
    os.mkfifo(fifo)
    with shell.start("put", "fifo", "b/k") as process, ExitStack() as stack:
        opened = Path(f"/proc/{process.pid}/fd")
        until(lambda: any(_leads_to(path, fifo) for path in opened.iterdir()), process)
        if written:
            writer = stack.enter_context(fifo.open("wb", buffering=0))
            writer.write(written)
            until(lambda: waiting_in(writer.fileno()) == 0, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (128 + number, b"trove: interrupted\n")
    assert trove("ls", "b").lines == []
    assert residue_of(shell.root) == []


def _leads_to(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.readlink() == file
    except FileNotFoundError:
        return False  # it was closed meanwhile


def test_a_cat_whose_output_is_not_read_can_be_interrupted(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    trove("put", "-", "b/k", stdin=bytes(4 * 1024 * 1024))
    with shell.start("cat", "b/k") as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"\0"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_a_watch_prints_events_as_they_arrive_and_ends_on_a_signal(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    with shell.start("watch", "b/in/", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == b"trove: watching b/in/\n"
        trove("put", "-", "b/out", stdin=b"1")
        trove("put", "-", "b/in/k", stdin=b"12345")
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"", b"trove: interrupted\n")
    assert b'"type": "object.created"' in line
    assert b'"key": "in/k", "size": 5' in line


def test_a_watch_can_end_after_a_number_of_events(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    trove("put", "-", "b/k", stdin=b"1")
    with shell.start("watch", "b", "--count", "1", "--event", "deleted") as process:
        assert process.stderr is not None
        process.stderr.readline()
        trove("put", "-", "b/other", stdin=b"1")
        trove("rm", "b/k")
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.endswith(b"  deleted  b/k\n")


def test_an_ignored_signal_stays_ignored(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    with shell.start("watch", "b", "--count", "1", preexec_fn=ignore) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        trove("put", "-", "b/k", stdin=b"1")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
