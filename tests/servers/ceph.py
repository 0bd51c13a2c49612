"""Ceph's S3 gateway on a cluster of one monitor and one storage daemon, in memory (Debian packages)."""

import uuid
from dataclasses import dataclass

from tests.servers.certificate import make_certificate
from tests.servers.install import Debian
from tests.servers.launch import HOST, Launch, Spawned, accepts, answers
from tests.servers.server import SMALLEST_PART, Server

# https://docs.ceph.com/en/pacific/rados/configuration/ and .../radosgw/config-ref/
_CONFIGURATION = """\
[global]
fsid = {cluster}
mon host = [v2:{host}:{monitor}/0]
public addr = {host}
cluster addr = {host}
ms bind msgr1 = false

# Everything is on this machine and short-lived: no keys between the daemons.
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/none
admin socket =
crash dir = {folder}
run dir = {folder}

# One daemon is all there is to copy to.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000

log to file = false
log to stderr = true
err to stderr = true
mon cluster log to file = false
debug ms = 0
debug mon = 0
debug paxos = 0
debug rocksdb = 0
debug osd = 0

[mon]
mon data = {folder}/mon
# A full disk of the machine is no reason to refuse: the objects are in memory.
mon data avail warn = 2
mon data avail crit = 1
# The start waits for each change of the cluster to be agreed on.
paxos propose interval = 0.05
paxos min wait = 0.02

[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {memory}
# Keys of 1,024 bytes make object names that are longer.
osd max object name len = 2048
osd max object namespace len = 256
osd class load list = *
osd class default list = *
osd fast shutdown = true

[client]
# Without the manager daemon there is no other way for the gateway to reach the monitor unsigned.
ms mon client mode = crc secure
debug rgw = 0
rgw data = {folder}
rgw frontends = beast tcp_nodelay=1 endpoint={host}:{http} ssl_endpoint={host}:{https} \
ssl_certificate={certificate} ssl_private_key={key}
rgw thread pool size = 128
# A day of a lifecycle rule lasts this many seconds.
rgw lc debug interval = {day}
rgw gc obj min wait = 1
rgw gc processor period = 5
rgw crypt require ssl = false
# Small uploads of many parts.
rgw multipart min part size = {smallest_part}
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw enable usage log = false
rgw enable ops log = false
"""

_MEMORY = 4 << 30
_DAY_SECONDS = 5
_STORAGE_CLASS = "STANDARD_IA"
_ADMINISTRATION = "buckets=*;users=*;usage=*;metadata=*;zone=*"


@dataclass(frozen=True)
class Ceph:
    """The handle of Ceph's S3 gateway: path-style addressing, any region.

    `other_*` are the keys of a second user without permissions on the first user's buckets. `storage_class` exists in
    addition to STANDARD. A day of a lifecycle rule lasts `lifecycle_day_seconds`.
    """

    endpoint: str
    https_endpoint: str
    ca_file: str
    access_key: str
    secret_key: str
    other_access_key: str
    other_secret_key: str
    region: str
    storage_class: str
    lifecycle_day_seconds: int


def _start(launch: Launch) -> Ceph:
    http, https, monitor = launch.port(), launch.port(), launch.port()
    certificate = make_certificate(launch)
    cluster = str(uuid.uuid4())
    configuration = _CONFIGURATION.format(
        cluster=cluster,
        host=HOST,
        monitor=monitor,
        folder=launch.folder,
        memory=_MEMORY,
        http=http,
        https=https,
        certificate=certificate.certificate,
        key=certificate.key,
        day=_DAY_SECONDS,
        smallest_part=SMALLEST_PART,
    )
    launch.write("ceph.conf", configuration)
    _start_monitor(launch, cluster, monitor)
    _start_storage(launch)
    handle = Ceph(
        endpoint=f"http://{HOST}:{http}",
        https_endpoint=f"https://{HOST}:{https}",
        ca_file=str(certificate.certificate),
        access_key="trove-access",
        secret_key="trove-secret",
        other_access_key="other-access",
        other_secret_key="other-secret",
        region="us-east-1",
        storage_class=_STORAGE_CLASS,
        lifecycle_day_seconds=_DAY_SECONDS,
    )
    _create_users(launch, handle)
    _add_storage_class(launch)
    gateway = _spawn(launch, "radosgw", "-n", "client.rgw")
    launch.wait(gateway, lambda: accepts(https) and answers(http), "an answer of the gateway", seconds=60)
    return handle


def _start_monitor(launch: Launch, cluster: str, port: int) -> None:
    (launch.folder / "mon").mkdir()
    launch.run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v2:{HOST}:{port}/0]", "monmap")
    launch.run("ceph-mon", "-c", "ceph.conf", "--mkfs", "-i", "a", "--monmap", "monmap")
    monitor = _spawn(launch, "ceph-mon", "-i", "a")
    launch.wait(monitor, lambda: accepts(port), "the monitor's port")


def _start_storage(launch: Launch) -> None:
    (launch.folder / "osd").mkdir()
    identity = str(uuid.uuid4())
    launch.run("ceph", "-c", "ceph.conf", "--connect-timeout", "30", "osd", "new", identity, "0", seconds=40)
    launch.run("ceph-osd", "-c", "ceph.conf", "--mkfs", "-i", "0", "--osd-uuid", identity)
    _spawn(launch, "ceph-osd", "-i", "0")


def _create_users(launch: Launch, handle: Ceph) -> None:
    # The first command also creates the default zone and its pools; it waits for the storage daemon.
    _create_user(launch, "trove", handle.access_key, handle.secret_key, "--caps", _ADMINISTRATION)
    _create_user(launch, "other", handle.other_access_key, handle.other_secret_key)


def _create_user(launch: Launch, name: str, access_key: str, secret_key: str, *more: str) -> None:
    keys = ["--access-key", access_key, "--secret-key", secret_key]
    _administer(launch, "user", "create", "--uid", name, "--display-name", name, *keys, *more)


def _add_storage_class(launch: Launch) -> None:
    where = ["--placement-id", "default-placement", "--storage-class", _STORAGE_CLASS]
    _administer(launch, "zonegroup", "placement", "add", "--rgw-zonegroup", "default", *where)
    _administer(launch, "zone", "placement", "add", "--rgw-zone", "default", *where, "--data-pool", "infrequent.data")


def _administer(launch: Launch, *arguments: str) -> None:
    launch.run("radosgw-admin", "-c", "ceph.conf", *arguments, seconds=60)


def _spawn(launch: Launch, program: str, *arguments: str) -> Spawned:
    return launch.spawn(program, [program, "-c", "ceph.conf", "-f", *arguments])


SERVER = Server(
    name="ceph",
    handle=Ceph,
    needs=(
        Debian(
            {
                "ceph-mon": "ceph-mon",
                "monmaptool": "ceph-mon",
                "ceph-osd": "ceph-osd",
                "radosgw": "radosgw",
                "radosgw-admin": "radosgw",
                "ceph": "ceph-common",
                "openssl": "openssl",
            }
        ),
    ),
    start=_start,
    # The gateway takes five seconds to end by itself, and there is nothing to save.
    grace=0.3,
)
