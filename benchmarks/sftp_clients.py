"""The compared clients over SFTP: this library, asyncssh's client, sshfs for fsspec, and OpenSSH's program.

A put is atomic with all of them: a temporary file, and a rename that replaces. Nothing is synced to the server's disk.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.client import Client, Target
from benchmarks.remote import Remote, RemoteTroveClient
from tests.servers import Sshd

__all__ = ["SFTP"]

_CHUNK: Final = 4 * 1024 * 1024


class TroveSFTPClient(RemoteTroveClient):
    """This library."""


class _Other(Client):
    """The common part of the other clients: the paths of the files."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        assert target.account is not None
        self.server: dict[str, Any] = target.account.server
        self.base = f"{self.server['folder']}/{target.account.bucket}"
        self.numbers = count()

    def path(self, key: str) -> str:
        return f"{self.base}/{key}"

    def temporary(self) -> str:
        return f"{self.base}/.{next(self.numbers)}"


class AsyncSSHClient(_Other):
    """asyncssh, called directly."""

    async def open(self) -> None:
        import asyncssh

        server = self.server
        self._connection = await asyncssh.connect(
            server["host"],
            server["port"],
            username=server["user"],
            client_keys=[server["client_key"]],
            known_hosts=server["known_hosts"],
            config=[],
        )
        self._sftp = await self._connection.start_sftp_client()

    async def close(self) -> None:
        self._connection.close()
        await self._connection.wait_closed()

    async def put(self, key: str, data: bytes) -> None:
        temporary = self.temporary()
        async with self._sftp.open(temporary, "wb") as file:
            await file.write(data)
        await self._sftp.posix_rename(temporary, self.path(key))

    async def get(self, key: str) -> bytes:
        async with self._sftp.open(self.path(key), "rb") as file:
            data: bytes = await file.read()
            return data

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        temporary = self.temporary()
        async with self._sftp.open(temporary, "wb") as file:
            pending = bytearray()
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= _CHUNK:
                    await file.write(bytes(pending))
                    pending.clear()
            await file.write(bytes(pending))
        await self._sftp.posix_rename(temporary, self.path(key))

    async def get_stream(self, key: str) -> int:
        total = 0
        async with self._sftp.open(self.path(key), "rb") as file:
            while chunk := await file.read(_CHUNK):
                total += len(chunk)
        return total

    async def list(self) -> int:
        names = await self._sftp.readdir(self.base)
        return sum(name.attrs.size is not None and not str(name.filename).startswith(".") for name in names)


class SSHFSClient(_Other):
    """sshfs, the file system for fsspec; its coroutines run on the loop that fsspec has in a thread."""

    async def open(self) -> None:
        from sshfs import SSHFileSystem

        server = self.server
        self._fs: Any = await asyncio.to_thread(
            SSHFileSystem,
            server["host"],
            port=server["port"],
            username=server["user"],
            client_keys=[server["client_key"]],
            known_hosts=server["known_hosts"],
            config=[],
            skip_instance_cache=True,
        )

    async def close(self) -> None:
        await self._run(self._fs._stack.aclose())

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._fs.loop))

    async def put(self, key: str, data: bytes) -> None:
        temporary = self.temporary()
        await self._run(self._fs._pipe_file(temporary, data))
        await self._run(self._fs._mv(temporary, self.path(key)))

    async def get(self, key: str) -> bytes:
        return bytes(await self._run(self._fs._cat_file(self.path(key))))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        temporary = self.temporary()
        file = await asyncio.to_thread(self._fs.open, temporary, "wb")
        try:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)
        await self._run(self._fs._mv(temporary, self.path(key)))

    async def get_stream(self, key: str) -> int:
        total = 0
        file = await asyncio.to_thread(self._fs.open, self.path(key), "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                total += len(chunk)
        finally:
            await asyncio.to_thread(file.close)
        return total

    async def list(self) -> int:
        found = await self._run(self._fs._ls(self.base, detail=True))
        return sum(item["size"] is not None and not item["name"].rpartition("/")[2].startswith(".") for item in found)


class OpenSSHClient(_Other):
    """OpenSSH's ``sftp``, one process for each call: for streams, through a file in memory."""

    async def _sftp(self, commands: str) -> None:
        server = self.server
        options = ["-q", "-b", "-", "-P", str(server["port"]), "-i", server["client_key"]]
        options += ["-o", f"UserKnownHostsFile={server['known_hosts']}", f"{server['user']}@{server['host']}"]
        process = await asyncio.create_subprocess_exec(
            "sftp", *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        await process.communicate(commands.encode())
        if process.returncode:
            raise OSError(f"sftp ended with exit code {process.returncode}")

    async def put(self, key: str, data: bytes) -> None:
        async def one() -> AsyncIterator[bytes]:
            yield data

        await self.put_stream(key, one())

    async def get(self, key: str) -> bytes:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            await self._sftp(f"get {self.path(key)} {folder}/file\n")
            return await asyncio.to_thread(Path(folder, "file").read_bytes)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        temporary = self.temporary()
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            async for chunk in chunks:
                file.write(chunk)
            file.flush()
            await self._sftp(f"put {file.name} {temporary}\nrename {temporary} {self.path(key)}\n")

    async def get_stream(self, key: str) -> int:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            await self._sftp(f"get {self.path(key)} {folder}/file\n")
            return os.path.getsize(f"{folder}/file")  # noqa: ASYNC240 - in memory

    async def list(self) -> int:
        raise NotImplementedError


def _dsn(server: Sshd) -> str:
    return (
        f"sftp://{server.user}@{server.host}:{server.port}{server.folder}"
        f"?key={server.client_key}&known_hosts={server.known_hosts}&fsync=0"
    )


SFTP: Final = Remote(
    "sshd",
    _dsn,
    {
        "trove": TroveSFTPClient,
        "sshfs": SSHFSClient,
        "asyncssh": AsyncSSHClient,
        "openssh": OpenSSHClient,
    },
    frozenset({"openssh"}),
)
"""SFTP on OpenSSH's server: a line of `benchmarks.registry.REMOTES`."""
