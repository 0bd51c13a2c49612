"""Mistakes of users: each has its error class, an advice, and reveals no secret."""

from __future__ import annotations

import asyncio
import os
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

import trove_async as trove
from tests.badinput.namespace import run_in_namespace
from tests.servers import running
from tests.sftp.stores import dsn_of, opened, scratch_root
from trove_async.body import Body
from trove_async.driver import PutOptions

pytestmark = pytest.mark.asyncio

SECRET = "wrong-secret-4711"


async def failure(dsn: str, **settings: Any) -> trove.TroveError:
    with pytest.raises(trove.TroveError) as caught:
        async with trove.open(dsn, attempts=1, connect_timeout=5, **settings):
            pass
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value


def asyncssh_dsn(root: Path, password: str | None) -> str:
    server = running("asyncssh")
    secret = "" if password is None else f":{password}"
    return f"sftp://{server.user}{secret}@{server.host}:{server.port}{root}?known_hosts={server.known_hosts}&agent=none"


async def test_a_password() -> None:
    with scratch_root("asyncssh") as root:
        secret = running("asyncssh").password.replace(" ", "%20")
        async with trove.open(asyncssh_dsn(root, secret)) as store:
            assert SECRET not in repr(store)
            assert running("asyncssh").password not in repr(store)
            await store.ping()
        async with trove.open(asyncssh_dsn(root, None), password=running("asyncssh").password) as store:
            await store.ping()


async def test_a_wrong_password() -> None:
    with scratch_root("asyncssh") as root:
        error = await failure(asyncssh_dsn(root, SECRET))
        assert isinstance(error, trove.UnauthenticatedError)
        assert isinstance(error, PermissionError)
        assert not error.retryable


async def test_no_credentials_at_all() -> None:
    with scratch_root("asyncssh") as root:
        assert isinstance(await failure(asyncssh_dsn(root, None)), trove.UnauthenticatedError)


async def test_an_unknown_user() -> None:
    with scratch_root("asyncssh") as root:
        dsn = asyncssh_dsn(root, "an%20open%20secret").replace("trove:", "nobody:")
        assert isinstance(await failure(dsn), trove.UnauthenticatedError)


async def test_a_wrong_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    server = running("sshd")
    error = await failure(dsn_of("sshd", server.folder), known_hosts=server.known_hosts, key=str(path))
    assert isinstance(error, trove.UnauthenticatedError)


def encrypted(tmp_path: Path) -> str:
    path = tmp_path / "encrypted"
    key = asyncssh.read_private_key(running("sshd").client_key)
    key.write_private_key(str(path), passphrase="the passphrase")
    return str(path)


async def test_a_passphrase(tmp_path: Path) -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root, key=encrypted(tmp_path), passphrase="the passphrase") as store:
            await store.ping()


@pytest.mark.parametrize("passphrase", [None, SECRET], ids=["missing", "wrong"])
async def test_a_wrong_passphrase(tmp_path: Path, passphrase: str | None) -> None:
    given = {} if passphrase is None else {"passphrase": passphrase}
    server = running("sshd")
    error = await failure(
        dsn_of("sshd", server.folder), known_hosts=server.known_hosts, key=encrypted(tmp_path), **given
    )
    assert isinstance(error, trove.InvalidDSNError)
    assert "passphrase" in error.message


@pytest.mark.parametrize("content", [None, "no key"], ids=["missing", "no key"])
async def test_an_invalid_key_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    error = await failure(dsn_of("sshd", "/srv"), known_hosts=running("sshd").known_hosts, key=str(path))
    assert isinstance(error, trove.InvalidDSNError)


async def test_an_unknown_host(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("elsewhere ssh-ed25519 " + running("sshd").host_key.split()[1] + "\n")
    error = await failure(dsn_of("sshd", "/srv"), known_hosts=str(known), key=running("sshd").client_key)
    assert isinstance(error, trove.HostKeyUnknownError)
    assert "ssh-keyscan" in error.message


async def test_a_changed_host_key(tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    server = running("sshd")
    known = tmp_path / "known_hosts"
    known.write_text(f"[{server.host}]:{server.port} {other}\n")
    error = await failure(dsn_of("sshd", "/srv"), known_hosts=str(known), key=server.client_key)
    assert isinstance(error, trove.HostKeyChangedError)
    assert isinstance(error, trove.UnauthenticatedError)
    assert "HAS CHANGED" in error.message
    assert str(known) in error.message


async def test_without_known_hosts_no_host_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    error = await failure(dsn_of("sshd", "/srv"), key=running("sshd").client_key)
    assert isinstance(error, trove.HostKeyUnknownError)


@pytest.mark.parametrize("content", [None, "broken"], ids=["missing", "broken"])
async def test_an_invalid_known_hosts_file(tmp_path: Path, content: str | None) -> None:
    known = tmp_path / "known_hosts"
    if content is not None:
        known.write_text(content)
    error = await failure(dsn_of("sshd", "/srv"), known_hosts=str(known), key=running("sshd").client_key)
    assert isinstance(error, trove.InvalidDSNError)
    assert str(known) in error.message


async def test_verification_of_the_host_key_can_be_switched_off() -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root, known_hosts=None, verify=False) as store:
            await store.ping()


async def test_a_missing_root() -> None:
    with scratch_root("sshd") as root:
        server = running("sshd")
        settings = {"known_hosts": server.known_hosts, "key": server.client_key}
        error = await failure(dsn_of("sshd", root / "a/b"), **settings)
        assert isinstance(error, trove.RootNotFoundError)
        assert "create=1" in error.message
        (root / "file").touch()
        assert isinstance(await failure(dsn_of("sshd", root / "file"), **settings), trove.RootNotFoundError)
        async with opened("sshd", root / "a/b", create=True) as store:
            await store.ping()
        assert (root / "a/b/.trove").is_dir()


async def test_a_closed_port() -> None:
    error = await failure("sftp://nobody@127.0.0.1:1/srv", verify=False)
    assert isinstance(error, trove.UnavailableError)
    assert error.retryable


@asynccontextmanager
async def agent_with(key: str, socket: Path) -> AsyncIterator[str]:
    """Run an agent with a key."""
    agent = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", str(socket), stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
            adding = await asyncio.create_subprocess_exec(
                "ssh-add", "-q", key, env=environment, stderr=subprocess.DEVNULL
            )
            if await adding.wait() == 0:
                break
            await asyncio.sleep(0.05)
        yield str(socket)
    finally:
        agent.terminate()
        await agent.wait()


async def test_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch_root("sshd") as root:
        async with agent_with(running("sshd").client_key, tmp_path / "agent") as socket:
            async with opened("sshd", root, key=None, agent=socket) as store:
                await store.ping()
            monkeypatch.setenv("SSH_AUTH_SOCK", socket)
            async with opened("sshd", root, key=None) as store:
                await store.ping()
            monkeypatch.setenv("HOME", str(tmp_path))  # where there are no keys
            error = await failure(dsn_of("sshd", root), known_hosts=running("sshd").known_hosts, agent="none")
            assert isinstance(error, trove.UnauthenticatedError)


async def test_a_configuration_file_is_read_if_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    server = running("sshd")
    config = tmp_path / "config"
    config.write_text(f"Host short\n  Hostname {server.host}\n  IdentityFile {server.client_key}\n")
    with scratch_root("sshd") as root:
        dsn = dsn_of("sshd", root)
        async with trove.open(dsn.replace(server.host, "short"), config=str(config), verify=False) as store:
            await store.ping()


async def test_a_jump_host() -> None:
    """One server is the jump host for the other; it must permit forwarding."""
    with scratch_root("sshd") as root:
        jump = running("asyncssh")
        both = root / "known_hosts"
        both.write_text(Path(jump.known_hosts).read_text() + Path(running("sshd").known_hosts).read_text())
        error = await failure(
            dsn_of("sshd", root),
            known_hosts=str(both),
            key=running("sshd").client_key,
            jump=f"{jump.user}@{jump.host}:{jump.port}",
        )
        assert isinstance(error, trove.UnauthenticatedError)  # the key is not the jump host's
        async with trove.open(
            dsn_of("asyncssh", root).replace("trove@", "trove:an%20open%20secret@"),
            known_hosts=str(both),
            key=running("asyncssh").client_key,
            jump=f"{jump.user}@{jump.host}:{jump.port}",
            fsync=False,
        ) as store:
            await store.ping()


WRONG: dict[str, tuple[str, str]] = {
    "no host": ("sftp:///srv", "host"),
    "no root": ("sftp://host", "directory"),
    "dots": ("sftp://host/srv/../etc", "'..'"),
    "NUL": ("sftp://host/a%00b", "NUL"),
    "unknown parameter": ("sftp://host/srv?colour=red", "colour"),
    "known hosts that are not looked at": ("sftp://host/srv?verify=0&known_hosts=a", "known_hosts"),
    "passphrase of nothing": (f"sftp://host/srv?passphrase={SECRET}", "key"),
    "too short a lease": ("sftp://host/srv?lease=0.5", "lease"),
    "no handles": ("sftp://host/srv?handles=1", "handles"),
    "presign key of nothing": ("sftp://host/srv?presign_key=abc", "presign_url"),
    "jump without a host": ("sftp://host/srv?jump=user@&verify=0", "jump"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_invalid_dsns(name: str) -> None:
    dsn, named = WRONG[name]
    error = await failure(dsn)
    assert isinstance(error, trove.InvalidDSNError)
    assert named in error.message


VERSIONS: dict[str, Callable[[trove.Trove], Any]] = {
    "if_match": lambda store: store.put("bucket", "key", b"", if_match="etag"),
    "another etag": lambda store: store.driver.put("bucket", "key", Body(b""), PutOptions(if_none_match="etag")),
    "delete": lambda store: store.delete("bucket", "key", if_match="etag"),
    "copy": lambda store: store.copy("bucket", "key", "bucket", "copy", if_none_match="*"),
    "version": lambda store: store.head("bucket", "key", version_id="1"),
}


@pytest.mark.parametrize("name", VERSIONS)
async def test_unsupported_operations_are_refused(name: str) -> None:
    with scratch_root("sshd") as root:
        async with opened("sshd", root) as store:
            await store.create_bucket("bucket")
            with pytest.raises(trove.UnsupportedError):
                await VERSIONS[name](store)


async def test_a_full_disk(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    await run_in_namespace("tests.sftp.mounted", root, TROVE_SERVERS=str(tmp_path / "servers"))
