"""Logging in as OpenSSH does: its configuration, certificates, known hosts, and the directory of the login."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

import trove_async as trove
from tests.servers import running
from tests.sftp.stores import dsn_of, opened, remote, scratch_root
from trove_async import parse_dsn
from trove_async.drivers.sftp import SFTPDriver

pytestmark = pytest.mark.asyncio


@dataclass
class Keys:
    """A server's files: what it accepts, and by what it is known."""

    port: int
    client: Path
    known_hosts: Path


class _Logins(asyncssh.SSHServer):
    def __init__(self, accepted: str) -> None:
        self._accepted = accepted

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    def begin_auth(self, username: str) -> bool:
        self._conn.set_authorized_keys(self._accepted)
        return True


@asynccontextmanager
async def certified(folder: Path) -> AsyncIterator[Keys]:
    """Serve SFTP to whoever has a certificate for the user ``me``; the key alone is not accepted."""
    host, authority, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(3))
    client.write_private_key(folder / "id")
    certificate = authority.generate_user_certificate(client, "me", principals=["me"])
    certificate.write_certificate(folder / "id-cert.pub")
    (folder / "accepted").write_bytes(b"cert-authority " + authority.export_public_key())
    async with await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        server_factory=lambda: _Logins(str(folder / "accepted")),
        sftp_factory=True,
    ) as server:
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.get_port()} {host.export_public_key().decode()}")
        yield Keys(server.get_port(), folder / "id", known)


async def test_a_certificate_beside_the_key(tmp_path: Path) -> None:
    async with certified(tmp_path) as server:
        dsn = f"sftp://me@127.0.0.1:{server.port}{tmp_path}/root?create=1"
        async with trove.open(dsn, key=str(server.client), known_hosts=str(server.known_hosts)) as store:
            await store.ping()
        (tmp_path / "id-cert.pub").unlink()
        with pytest.raises(trove.UnauthenticatedError):
            await trove.open(dsn, key=str(server.client), known_hosts=str(server.known_hosts))


async def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id")
    (tmp_path / "id-cert.pub").write_text("no certificate")
    with pytest.raises(trove.InvalidDSNError, match=r"id-cert\.pub"):
        await trove.open(dsn_of("sshd", "/srv"), key=str(tmp_path / "id"), verify=False)


# OpenSSH's configuration


def configuration(folder: Path, *lines: str) -> str:
    path = folder / "config"
    path.write_text("Host short\n" + "".join(f"  {line}\n" for line in lines))
    return str(path)


async def test_host_port_user_key_and_known_hosts_of_a_configuration(tmp_path: Path) -> None:
    server = running("sshd")
    config = configuration(
        tmp_path,
        f"HostName {server.host}",
        f"Port {server.port}",
        f"User {server.user}",
        f"IdentityFile {server.client_key}",
        f"UserKnownHostsFile {server.known_hosts}",
    )
    with scratch_root("sshd") as root:
        async with trove.open(f"sftp://short{root}", config=config, agent="none") as store:
            await store.ping()
        # What the DSN says comes first.
        with pytest.raises(trove.UnavailableError):
            await trove.open(f"sftp://short:1{root}", config=config, agent="none", attempts=1)


async def test_a_proxy_command_of_a_configuration(tmp_path: Path) -> None:
    server = running("sshd")
    script = tmp_path / "connect.py"
    script.write_text(
        "import os, socket, sys, threading\n"
        "there = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def down():\n"
        "    while data := there.recv(65536):\n"
        "        os.write(1, data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=down).start()\n"
        "while data := os.read(0, 65536):\n"
        "    there.sendall(data)\n"
        "os._exit(0)\n"
    )
    config = configuration(
        tmp_path,
        f"HostName {server.host}",
        f"Port {server.port}",
        f"User {server.user}",
        f"IdentityFile {server.client_key}",
        f"ProxyCommand {sys.executable} {script} %h %p",
    )
    with scratch_root("sshd") as root:
        async with trove.open(f"sftp://short{root}", config=config, agent="none", verify=False) as store:
            await store.create_bucket("bucket")
            await store.put("bucket", "key", bytes(300_000))
            assert await store.read("bucket", "key") == bytes(300_000)


async def test_a_jump_host_of_a_configuration(tmp_path: Path) -> None:
    """Its host key is verified like that of the server, and the error is about it."""
    server = running("asyncssh")
    lines = [f"HostName {server.host}", f"Port {server.port}", f"User {server.user}"]
    config = configuration(tmp_path, *lines, "ProxyJump gate")
    gate = "".join(f"  {line}\n" for line in lines)
    Path(config).write_text(Path(config).read_text() + f"Host gate\n{gate}")
    known: dict[str, Any] = {"key": server.client_key, "known_hosts": server.known_hosts}
    with scratch_root("asyncssh") as root:
        async with trove.open(f"sftp://short{root}", config=config, **known) as store:
            await store.ping()
            assert len(remote(store).connection._tunnels) == 1
        empty = tmp_path / "known_hosts"
        empty.touch()
        with pytest.raises(trove.HostKeyUnknownError, match="the host gate"):
            await trove.open(f"sftp://short{root}", config=config, **{**known, "known_hosts": str(empty)})


@pytest.mark.parametrize("content", [None, "Port many\n"], ids=["missing", "wrong"])
async def test_a_configuration_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(trove.InvalidDSNError, match="configuration"):
        await trove.open("sftp://short/srv", config=str(path))


# Known hosts


async def test_a_bad_line_of_the_known_hosts_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = tmp_path / "known_hosts"
    known.write_bytes(b"# hosts\n@wrong x y z\nbroken\n\xff\xfe\n" + Path(running("sshd").known_hosts).read_bytes())
    with scratch_root("sshd") as root, caplog.at_level(logging.WARNING, "trove_async"):
        async with opened("sshd", root, known_hosts=str(known)) as store:
            await store.ping()
    skipped = [record.getMessage() for record in caplog.records]
    assert [message[: message.index(" of")] for message in skipped] == ["line 2", "line 3", "line 4"]
    assert all(str(known) in message for message in skipped)


@pytest.mark.parametrize("server", ["sshd", "asyncssh"])
async def test_a_host_that_is_known_by_a_key_of_another_type(tmp_path: Path, server: str) -> None:
    handle = running("sshd") if server == "sshd" else running("asyncssh")
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{handle.host}]:{handle.port} {other}")
    dsn = f"sftp://{handle.user}@{handle.host}:{handle.port}/srv"
    with pytest.raises(trove.HostKeyUnknownError, match="ssh-ed25519") as caught:
        await trove.open(dsn, known_hosts=str(known), key=handle.client_key)
    assert "ecdsa-sha2-nistp256" in caught.value.message
    assert str(known) in caught.value.message
    assert not caught.value.retryable
    # A key of the right type beside it is the one that counts.
    known.write_text(known.read_text() + Path(handle.known_hosts).read_text())
    with scratch_root("sshd" if server == "sshd" else "asyncssh") as root:
        async with trove.open(dsn.replace("/srv", str(root)), known_hosts=str(known), key=handle.client_key) as store:
            await store.ping()


# The directory of the login


async def test_a_root_in_the_directory_of_the_login() -> None:
    """The server's sessions begin in the folder that holds the root."""
    with scratch_root("sshd") as root:
        async with opened("sshd", f"/~/{root.name}", clean=False) as store:
            await store.create_bucket("bucket")
            await store.put("bucket", "key", b"data")
        assert (root / "bucket/key").read_bytes() == b"data"
        server = running("sshd")
        credentials = f"?key={server.client_key}&known_hosts={server.known_hosts}"
        dsn = dsn_of("sshd", f"/~/{root.name}/bucket/key") + credentials
        store_dsn, bucket, key = await SFTPDriver.split(parse_dsn(dsn))
        assert (f"/~/{root.name}?" in store_dsn, bucket, key) == (True, "bucket", "key")


async def test_a_tilde_elsewhere_is_a_common_character() -> None:
    with scratch_root("sshd") as root:
        (root / "~").mkdir()
        async with opened("sshd", root / "~") as store:
            await store.ping()
        assert (root / "~/.trove").is_dir()
