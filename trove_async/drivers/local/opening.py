"""The settings of a local store, and the checks of its root."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass

from trove_async.driver import OpenOptions
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.dsn import DSN, SettingsParser
from trove_async.errors import AccessDeniedError, BackendError, InvalidArgumentError, InvalidDSNError, RootNotFoundError
from trove_async.paths import local_path
from trove_async.signing import SigningSettings, URLSigner
from trove_async.tree import run_sync
from trove_async.tree.distinct import PROBE, VARIANTS, check_distinct
from trove_async.tree.layout import Layout
from trove_async.tree.roots import possible_roots

__all__ = ["LocalSettings", "check_names", "url_signer"]

MIN_PART_SIZE = 5 * 1024 * 1024
_KEY_SIZE = 32


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The parameters of ``local://``.

    Attributes:
        root: an absolute path.
        fsync: whether a put returns only when the object will survive a power cut.
        skip_unreadable: whether listings leave out directories that the process may not read.
        create: whether to make the root if it is missing.
        merge_names: whether to accept a file system that does not distinguish all names.
        min_part_size: bytes of every part of an upload but the last; the default is the limit of S3, so
            that uploads that work here work there.
        signing: of URLs; the root's own key is ``.trove/presign.key``.
    """

    root: str
    fsync: bool
    skip_unreadable: bool
    create: bool
    merge_names: bool
    min_part_size: int
    signing: SigningSettings

    @classmethod
    def of(cls, dsn: DSN, options: OpenOptions) -> LocalSettings:
        """Read a DSN.

        Raises:
            InvalidDSNError: it names a host, a user or an unknown parameter, or no absolute path.
        """
        if dsn.host or dsn.port is not None or dsn.user is not None:
            raise InvalidDSNError(
                f"a {dsn.scheme} DSN has three slashes and an absolute path, such as {dsn.scheme}:///srv/data"
            )
        if not dsn.path.startswith("/"):
            raise InvalidDSNError(f"the DSN does not name a directory; write for example {dsn.scheme}:///srv/data")
        try:
            local_path(dsn.path)
        except InvalidArgumentError as error:
            raise InvalidDSNError(error.message) from None
        settings = SettingsParser(dsn, options.settings)
        result = cls(
            root=os.path.abspath(dsn.path),
            fsync=settings.flag("fsync", True),
            skip_unreadable=settings.flag("skip_unreadable", False),
            create=settings.flag("create", False),
            merge_names=settings.flag("merge_names", False),
            min_part_size=settings.integer("min_part_size", MIN_PART_SIZE, minimum=1),
            signing=SigningSettings.of(settings),
        )
        settings.finish()
        return result

    def check_root(self) -> None:
        """Check that the root is a directory that can be read; create it if ``create`` is set.

        Raises:
            InvalidDSNError: it is a directory in a bucket of another store.
            RootNotFoundError: it is missing or not a directory.
            AccessDeniedError: it cannot be read.
        """
        self._check_not_in_another()
        if self.create:
            with suppress(FileExistsError, NotADirectoryError):  # the checks below report the cause
                os.makedirs(self.root, exist_ok=True)
        try:
            status = os.stat(self.root)
        except FileNotFoundError:
            raise RootNotFoundError(
                f"the root {self.root!r} does not exist; make the directory, or add ?create=1 to the DSN"
            ) from None
        except NotADirectoryError:
            raise RootNotFoundError(f"a part of the path {self.root!r} is not a directory") from None
        if not stat.S_ISDIR(status.st_mode):
            raise RootNotFoundError(f"the root {self.root!r} is not a directory")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise AccessDeniedError(f"the root {self.root!r} cannot be read; check its owner and mode")

    def _check_not_in_another(self) -> None:
        """Refuse a directory in a bucket that another store has made: it would become a store of its own."""
        if os.path.lexists(Layout(self.root).internal):
            return
        for above in possible_roots(self.root)[:-1]:
            bucket, _, prefix = os.path.relpath(self.root, above).partition("/")
            if os.path.isfile(Layout(above).settings(bucket)):
                more = f", with keys that begin with {prefix + '/'!r}" if prefix else ""
                raise InvalidDSNError(
                    f"{self.root!r} is in the store of the root {above!r}: write local://{above}, and name the bucket "
                    f"{bucket!r}{more}"
                )


def check_names(path: str, root: str) -> None:
    """Check that the file system distinguishes all names.

    Args:
        path: of a temporary.
        root: for the message.

    Raises:
        UnsupportedError: it does not.
    """
    probe = path + PROBE
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:
        return  # nothing can be written now, and writes will say why
    try:
        check_distinct([os.path.lexists(path + variant) for variant in VARIANTS], repr(root))
    finally:
        os.unlink(probe)


def url_signer(fs: LocalFileSystem, layout: Layout, signing: SigningSettings) -> URLSigner | None:
    """Return what signs URLs, with the root's own key unless another is given; None without a base URL."""
    needs_own_key = signing.base_url is not None and signing.key is None
    return signing.signer(_own_presign_key(fs, layout.presign_key) if needs_own_key else b"")


def _own_presign_key(fs: LocalFileSystem, path: str) -> bytes:
    """Return the root's own key, which is made when it is first needed.

    Raises:
        AccessDeniedError: it cannot be read, or every user can.
        BackendError: it is no key.
    """
    if run_sync(fs.lstat(path)) is None:
        _make_presign_key(fs, path)
    status = run_sync(fs.lstat(path))
    if status is not None and status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise AccessDeniedError(f"every user can read or write {path!r}, which signs URLs; remove it, or chmod o= it")
    try:
        key = run_sync(fs.read_file(path)) or b""
    except PermissionError:
        raise AccessDeniedError(
            f"{path!r}, which signs URLs, cannot be read; chmod g+r it, or give a key with presign_key="
        ) from None
    if len(key) != _KEY_SIZE:
        raise BackendError(f"{path!r} has {len(key)} bytes, and a key that signs URLs has {_KEY_SIZE}; remove the file")
    return key


def _make_presign_key(fs: LocalFileSystem, path: str) -> None:
    draft = f"{path}.{secrets.token_hex(4)}"
    descriptor = fs.create_private(draft.rpartition("/")[2])
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_SIZE))
            file.flush()
            os.fsync(descriptor)
        try:
            run_sync(fs.link(draft, path))  # the first process makes the key; the others use it
        except FileExistsError:
            pass
        except OSError:  # the file system has no links
            run_sync(fs.rename(draft, path))
    finally:
        run_sync(fs.unlink(draft))
