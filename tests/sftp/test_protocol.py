"""SFTP packets, and servers that send invalid ones."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from trove_async.drivers.sftp.answers import Expected, limits_of, parse_answer, parse_version
from trove_async.drivers.sftp.errors import DisconnectedError, EndOfFileError, ProtocolError, RefusedError
from trove_async.drivers.sftp.protocol import (
    FileStatus,
    Kind,
    ServerLimits,
    pack_string,
    pack_times,
    pack_u32,
)

ATTRS: Expected = (Kind.ATTRS, 0)
DATA: Expected = (Kind.DATA, 10)


def attributes(size: int, mode: int, atime: int, mtime: int) -> bytes:
    return struct.pack(">IQIII", 0x01 | 0x04 | 0x08, size, mode, atime, mtime)


@given(st.integers(0, 2**32 * 10**9 - 1), st.booleans())
def test_times_round_trip_to_the_nanosecond(mtime_ns: int, marked: bool) -> None:
    _, atime, mtime = struct.unpack(">III", pack_times(mtime_ns, carried=True, marked=marked))
    answer = bytes((Kind.ATTRS,)) + pack_u32(1) + attributes(5, 0o100644, atime, mtime)
    assert parse_answer(answer, ATTRS) == FileStatus(0o100644, 5, mtime_ns, marked)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_common_times_are_not_markers(atime: int, mtime: int) -> None:
    answer = bytes((Kind.ATTRS,)) + pack_u32(1) + attributes(5, 0o100644, atime, mtime)
    assert parse_answer(answer, ATTRS) == FileStatus(0o100644, 5, mtime * 10**9, None)


ANSWERS = (Kind.STATUS, Kind.HANDLE, Kind.DATA, Kind.NAME, Kind.ATTRS, Kind.EXTENDED_REPLY)


@given(st.sampled_from(ANSWERS), st.sampled_from(ANSWERS), st.integers(0, 10), st.binary(max_size=200))
def test_any_packet_is_an_answer_or_an_error(kind: Kind, expected: Kind, limit: int, rest: bytes) -> None:
    with suppress(ProtocolError):
        answer = parse_answer(bytes((kind,)) + pack_u32(1) + rest, (expected, limit))
        assert kind == expected or isinstance(answer, OSError)


@given(st.binary(max_size=100))
def test_any_version_packet_is_parsed_or_refused(packet: bytes) -> None:
    with suppress(DisconnectedError):
        parse_version(packet)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, EndOfFileError),
        (2, FileNotFoundError),
        (3, PermissionError),
        (4, RefusedError),
        (6, DisconnectedError),
        (7, DisconnectedError),
        (8, OSError),
        (99, RefusedError),
    ],
)
def test_each_status_has_its_error(code: int, kind: type[OSError]) -> None:
    answer = bytes((Kind.STATUS,)) + pack_u32(1) + pack_u32(code) + pack_string(b"why") + pack_string(b"en")
    assert type(parse_answer(answer, DATA)) is kind
    # Old servers omit the text.
    assert type(parse_answer(bytes((Kind.STATUS,)) + pack_u32(1) + pack_u32(code), DATA)) is kind


def test_limits_of_the_server_are_bounded() -> None:
    def answer(*numbers: int) -> bytes:
        return struct.pack(">4Q", *numbers)

    assert limits_of(b"") == limits_of(answer(0, 0, 0, 0)) == ServerLimits()
    assert limits_of(answer(2**18, 261120, 261120, 1019)) == ServerLimits(261120, 261120, 1019)
    assert limits_of(answer(2**40, 2**40, 2**40, 2**40)).read == 256 * 1024


Answer = Callable[[bytes], bytes]


class _Talker(asyncssh.SSHServerSession[bytes]):
    """A subsystem that answers each packet with a function."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._buffer = bytearray()
        self._chan: asyncssh.SSHServerChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._chan = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return True

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        assert self._chan is not None
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= (end := 4 + int.from_bytes(self._buffer[:4], "big")):
            self._chan.write(self._answer(bytes(self._buffer[4:end])))
            del self._buffer[:end]


class _Server(asyncssh.SSHServer):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> _Talker:
        return _Talker(self._answer)


@asynccontextmanager
async def talking(answer: Answer) -> AsyncIterator[str]:
    """Serve a subsystem that answers each packet with a function; yield its DSN."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with await asyncssh.listen(
        "127.0.0.1", 0, server_factory=lambda: _Server(answer), server_host_keys=[key], encoding=None
    ) as server:
        yield f"sftp://nobody@127.0.0.1:{server.get_port()}/srv?verify=0&agent=none&attempts=1&idle_timeout=1"


def greeting(packet: bytes) -> bytes:
    return pack_string(bytes((Kind.VERSION,)) + pack_u32(3))


def status(packet: bytes, code: int) -> bytes:
    return pack_string(bytes((Kind.STATUS,)) + packet[1:5] + pack_u32(code) + pack_string(b"no") + pack_string(b""))


BAD: dict[str, tuple[Answer, type[trove.TroveError]]] = {
    "a shell that greets": (lambda packet: b"Welcome to this machine!\n", trove.TroveError),
    "an old version": (lambda packet: pack_string(bytes((Kind.VERSION,)) + pack_u32(2)), trove.TroveError),
    "an answer to nothing": (
        lambda packet: greeting(packet) if packet[0] == Kind.INIT else status(b"?" + pack_u32(77), 0),
        trove.BackendError,
    ),
    "a huge packet": (
        lambda packet: greeting(packet) if packet[0] == Kind.INIT else b"\xff\xff\xff\xff" + bytes(100),
        trove.BackendError,
    ),
    "an answer of another kind": (
        lambda packet: greeting(packet) if packet[0] == Kind.INIT else pack_string(b"\xfa" + packet[1:5]),
        trove.BackendError,
    ),
    "no answer": (lambda packet: greeting(packet) if packet[0] == Kind.INIT else b"", trove.OperationTimeoutError),
    "no root": (
        lambda packet: greeting(packet) if packet[0] == Kind.INIT else status(packet, 2),
        trove.RootNotFoundError,
    ),
    "no permission": (
        lambda packet: greeting(packet) if packet[0] == Kind.INIT else status(packet, 3),
        trove.AccessDeniedError,
    ),
    "a refusal of all": (
        lambda packet: greeting(packet) if packet[0] == Kind.INIT else status(packet, 4),
        trove.TroveError,
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD)
async def test_a_server_with_invalid_answers(name: str) -> None:
    answer, expected = BAD[name]
    async with talking(answer) as dsn:
        with pytest.raises(expected):
            async with trove.open(dsn):
                pass
