"""Fixtures that a `conftest.py` imports by name. The processes of a run (pytest-xdist) share each server."""

import pytest

from tests.servers import Azurite, Ceph, Moto, Sshd, running


@pytest.fixture(scope="session")
def azurite() -> Azurite:
    """Azurite, the Azure Storage emulator."""
    return running("azurite")


@pytest.fixture(scope="session")
def ceph() -> Ceph:
    """Ceph's S3 gateway."""
    return running("ceph")


@pytest.fixture(scope="session")
def moto() -> Moto:
    """Moto with S3 and SQS."""
    return running("moto")


@pytest.fixture(scope="session")
def sshd() -> Sshd:
    """OpenSSH's SFTP server."""
    return running("sshd")
