"""`Fingerprints`: which upload of a server belongs to which file, for a process that comes later.

A file for each unfinished upload, in a folder. It holds the URL of the upload, with which anyone may be able to write
to it; so only the user can read it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio.to_thread

from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.lock_files import lock_at, reporting
from trove_async.uploads.client.contents import FileIdentity

__all__ = ["Claim", "Fingerprints", "Urls", "default_folder"]

R = TypeVar("R")

_VERSION: Final = 1
_log = logging.getLogger("trove_async.uploads")


Urls = tuple[str | None, ...]
"""Of an upload; of its partial uploads if there are several. None for one that was not created yet."""


def default_folder() -> Path | None:
    """Return ``trove/uploads`` in ``XDG_STATE_HOME``, by default ``~/.local/state``; None for a user without a home."""
    home = os.environ.get("XDG_STATE_HOME") or ""
    found = Path(home if os.path.isabs(home) else os.path.expanduser("~/.local/state"), "trove", "uploads")
    return found if found.is_absolute() else None


class Fingerprints:
    """The records of one user.

    Args:
        folder: where they are; it is created when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def claim(self, endpoint: str, identity: FileIdentity, about: str) -> Claim | None:
        """Return what is known of a file's upload, which no other task or process continues meanwhile.

        None if another one has it: this upload is then one of its own.

        Args:
            endpoint: at which the upload is created.
            identity: of the file. A file that was changed has another one, so that it is never continued.
            about: what else tells the upload from others of the file: the protocol, and the metadata.

        Raises:
            AccessDeniedError, StorageFullError: the folder cannot be written.
        """
        name = hashlib.sha256(json.dumps([endpoint, *identity, about]).encode()).hexdigest()
        claims: list[Claim] = []

        def take() -> None:
            with reporting(f"the folder {self._folder}, which is needed to resume uploads, cannot be created"):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{name}.json"
            descriptor = lock_at(path.with_suffix(".lock"))
            if descriptor is not None:
                claims.append(Claim(path, descriptor, {"endpoint": endpoint, "path": identity.path}))

        try:
            await _in_thread(take)
        except BaseException:
            for claim in claims:
                await claim.release()
            raise
        return claims[0] if claims else None


class Claim:
    """One record, held by one upload.

    Args:
        path: its file.
        descriptor: of the file whose lock says who continues the upload.
        about: further values, for people who look into the file.
    """

    def __init__(self, path: Path, descriptor: int, about: dict[str, Any]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._about = about

    async def load(self) -> Urls | None:
        """Return the URLs; None if there is no record, or none that can be read."""
        return await _in_thread(self._load)

    def _load(self) -> Urls | None:
        try:
            found = json.loads(self._path.read_bytes())
            urls = tuple(found["urls"])
            usable = found["version"] == _VERSION and urls and all(isinstance(url, str | None) for url in urls)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            usable, urls = False, ()
        if not usable:
            _log.warning("%s cannot be used to resume an upload; it is uploaded from the start", self._path)
            return None
        return urls

    async def save(self, urls: Urls) -> None:
        """Write the record: after a crash there is the old one or the new one, whole.

        Raises:
            AccessDeniedError, StorageFullError: it cannot be written.
        """
        text = json.dumps({"version": _VERSION, "urls": urls, **self._about})
        await _in_thread(lambda: self._save(text.encode()))

    def _save(self, data: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        with reporting(f"{self._path}, which is needed to resume the upload, cannot be written"):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(self._path)

    async def forget(self) -> None:
        """Remove the record: the upload is finished, or gone. If it stays, the next upload finds that out."""
        with suppress(OSError):
            await _in_thread(lambda: self._path.unlink(missing_ok=True))

    async def release(self) -> None:
        """Let others continue the upload. The lock's file is removed, unless there is a record that needs it."""
        await finish(_in_thread(self._release), timeout=CLEANUP_TIMEOUT, leftover=f"the lock of {self._path}")

    def _release(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            if not self._path.exists():
                with suppress(OSError):
                    self._path.with_suffix(".lock").unlink()
            os.close(descriptor)


async def _in_thread(function: Callable[[], R]) -> R:
    return await to_the_end(
        anyio.to_thread.run_sync(function), timeout=CLEANUP_TIMEOUT, leftover="a thread that notes an upload"
    )
