"""The software of the servers: Debian packages, PyPI packages in separate environments, and npm packages."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import ServerError
from tests.servers.folder import root

_LOCKS = Path(__file__).parent
# Debian keeps daemons in folders that are not in a plain user's PATH.
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin"
# It keeps PostgreSQL's programs in a folder for each version.
_VERSIONED_PATHS = "/usr/lib/postgresql"
_INSTALL_SECONDS = 900.0


@dataclass(frozen=True)
class Debian:
    """Programs, each with the Debian package that contains it."""

    programs: dict[str, str]

    def missing(self) -> list[str]:
        """Return the packages of missing programs."""
        return sorted({package for program, package in self.programs.items() if which(program) is None})

    def install(self) -> None:
        """Install missing packages with apt-get, as root or with sudo without a password."""
        packages = self.missing()
        if not packages:
            return
        if not _is_debian():
            raise ServerError(
                f"{', '.join(sorted(self.programs))} must be on the PATH. They can be installed automatically on "
                "Debian only; use the package manager of your system."
            )
        install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        prefix = _become_root(install)
        _run([*prefix, "apt-get", "update", "--quiet"])
        # The packages must not start their own services: in this runlevel invoke-rc.d starts none.
        settings = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
        _run([*prefix, *settings, *install[:2], "-o", "DPkg::Lock::Timeout=300", *install[2:]])
        if still := self.missing():
            raise ServerError(f"apt-get installed {', '.join(still)}, but the programs are not on the PATH.")


@dataclass(frozen=True)
class Environment:
    """A separate virtual environment with exactly the packages of `requirements-NAME.txt`."""

    name: str

    @property
    def folder(self) -> Path:
        """The folder of the environment."""
        return root() / "installed" / self.name

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        return str(self.folder / "bin" / name)

    def missing(self) -> list[str]:
        """Return the name of the requirements file unless exactly these packages are installed."""
        return [] if _has_stamp(self.folder, self._stamp()) else [self._requirements.name]

    def install(self) -> None:
        """Create the environment again unless it is up to date."""
        with _installing(self.folder):
            if not self.missing():
                return
            _run([sys.executable, "-m", "venv", "--clear", str(self.folder)])
            pip = [self.program("python"), "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet"]
            _run([*pip, "install", "--progress-bar", "off", "--no-deps", "-r", str(self._requirements)])
            _run([*pip, "check"])
            _write_stamp(self.folder, self._stamp())

    @property
    def _requirements(self) -> Path:
        return _LOCKS / f"requirements-{self.name}.txt"

    def _stamp(self) -> str:
        return _digest(sys.version.encode(), sys.base_prefix.encode(), self._requirements.read_bytes())


@dataclass(frozen=True)
class Node:
    """A separate folder of npm packages, as locked by the folder `npm/NAME` next to this file."""

    name: str

    @property
    def folder(self) -> Path:
        """The folder of the packages."""
        return root() / "installed" / self.name

    def module(self, path: str) -> str:
        """Return the path of a file of the installed packages."""
        return str(self.folder / "node_modules" / path)

    def missing(self) -> list[str]:
        """Return the name of the lock file unless exactly these packages are installed."""
        return [] if _has_stamp(self.folder, self._stamp()) else [f"npm/{self.name}/package-lock.json"]

    def install(self) -> None:
        """Install the packages again unless they are up to date. No package's script is run."""
        with _installing(self.folder):
            if not self.missing():
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            for file in self._locks:
                shutil.copy(file, self.folder)
            quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
            _run(["npm", "ci", "--omit=dev", "--ignore-scripts", *quiet], cwd=self.folder)
            _write_stamp(self.folder, self._stamp())

    @property
    def _locks(self) -> list[Path]:
        return [_LOCKS / "npm" / self.name / file for file in ("package.json", "package-lock.json")]

    def _stamp(self) -> str:
        return _digest(*(file.read_bytes() for file in self._locks))


Need = Debian | Environment | Node


def which(program: str) -> str | None:
    """Find a program on the PATH or among the system's daemons, the newest version of it."""
    versions = sorted(
        Path(_VERSIONED_PATHS).glob("*/bin"), key=lambda folder: folder.parent.name.zfill(8), reverse=True
    )
    path = [os.environ.get("PATH", os.defpath), _SYSTEM_PATH, *map(str, versions)]
    return shutil.which(program, path=":".join(path))


def require_linux() -> None:
    """Raise `ServerError` on any other system."""
    if sys.platform != "linux":
        raise ServerError(f"The test servers are started on Linux only (tested on Debian), not on {sys.platform}.")


def _is_debian() -> bool:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return "debian" in {release.get("ID", ""), *release.get("ID_LIKE", "").split()} and which("apt-get") is not None


def _become_root(wanted: Sequence[str]) -> list[str]:
    if os.geteuid() == 0:
        return []
    if which("sudo") and not subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode:
        return ["sudo", "-n"]
    raise ServerError(f"Root or sudo without a password is needed. Run as root: {' '.join(wanted)}")


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServerError(f"{' '.join(command)} did not end within {_INSTALL_SECONDS:.0f} s.") from None
    if result.returncode:
        output = result.stdout.decode(errors="replace")[-4000:]
        raise ServerError(f"{' '.join(command)} ended with exit code {result.returncode}:\n{output}")


@contextmanager
def _installing(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _has_stamp(folder: Path, stamp: str) -> bool:
    try:
        return (folder / ".installed").read_text(encoding="ascii") == stamp
    except FileNotFoundError:
        return False


def _write_stamp(folder: Path, stamp: str) -> None:
    (folder / ".installed").write_text(stamp, encoding="ascii")
