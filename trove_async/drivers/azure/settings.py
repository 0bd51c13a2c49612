"""The parameters of an Azure DSN: ``azure://account[:key]@container?…``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, get_args

from trove_async.driver import OpenOptions
from trove_async.drivers.azure.account import Account, Given, account_of
from trove_async.drivers.azure.headers import TIERS
from trove_async.drivers.azure.names import check_bucket
from trove_async.dsn import DSN, SettingsParser, bucket_and_prefix, trimmed_secret
from trove_async.errors import InvalidBucketNameError, InvalidDSNError
from trove_async.wire.network import Network, choice, endpoint_of

__all__ = ["MAX_BLOCKS", "MAX_PART_SIZE", "AzureSettings", "Checksums", "Versions", "Watching"]

Versions = Literal["none", "native", "snapshots"]
"""What keeps versions: nothing, the account (blob versioning), or snapshots that the driver makes."""

Checksums = Literal["md5", "none"]
"""The checksum that is sent with bodies for the service to verify."""

Watching = Literal["poll", "queue"]
"""Where events come from: comparing listings, or a storage queue that Event Grid feeds."""

PART_SIZE: Final = 8 * 1024 * 1024
MAX_PART_SIZE: Final = 4000 * 1024 * 1024
MAX_BLOCKS: Final = 50_000
MAX_COPY_SIZE: Final = 256 * 1024 * 1024
_CREDENTIALS: Final = "account and account_key, or in the DSN before '@'"


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """The parameters of ``azure://``.

    Attributes:
        account: where requests go, and what signs them.
        bucket: the default container; None if the DSN names none.
        prefix: the default prefix of keys; may be empty.
        versions: what keeps versions.
        checksum: sent with bodies.
        part_size: bytes of a block of an upload; a body that is no larger is stored in one request.
        part_concurrency: how many blocks of one upload are under way at once at most.
        max_copy_size: bytes up to which a blob is copied in one request.
        storage_class: access tier of objects that are written without one.
        watch: where events come from; None for the default, polling.
        queue: name of the storage queue; ``{bucket}`` in it stands for the container's name.
        network: how the service is reached.
    """

    account: Account
    bucket: str | None
    prefix: str
    versions: Versions
    checksum: Checksums
    part_size: int
    part_concurrency: int
    max_copy_size: int
    storage_class: str | None
    watch: Watching | None
    queue: str | None
    network: Network

    @classmethod
    def of(cls, dsn: DSN, options: OpenOptions) -> AzureSettings:
        """Read a DSN.

        Raises:
            InvalidDSNError: a part or parameter is wrong or unknown, or two contradict each other.
        """
        settings = SettingsParser(dsn, options.settings)
        network = Network.of(settings)
        given = _given(dsn, settings)
        bucket, prefix = _bucket_and_prefix(dsn)
        read = partial(
            cls,
            bucket=bucket,
            prefix=prefix,
            versions=choice(settings, "versions", get_args(Versions), "none"),
            checksum=choice(settings, "checksum", get_args(Checksums), "md5"),
            part_size=settings.integer("part_size", PART_SIZE, minimum=1, maximum=MAX_PART_SIZE),
            part_concurrency=network.parts(settings),
            max_copy_size=settings.integer("max_copy_size", MAX_COPY_SIZE, minimum=1, maximum=MAX_COPY_SIZE),
            storage_class=_tier(settings.text("storage_class")),
            watch=choice(settings, "watch", get_args(Watching)),
            queue=settings.text("queue"),
            network=network,
        )
        settings.finish()
        # Last, since it reads the environment: errors in the DSN are raised before those about missing values.
        result = read(account=account_of(given))
        result._check_watch()
        return result

    def _check_watch(self) -> None:
        if self.watch == "queue" and self.queue is None:
            raise InvalidDSNError("watch=queue needs a queue; give its name as queue=…")
        if self.watch == "queue" and self.versions == "snapshots":
            raise InvalidDSNError(
                "watch=queue and versions=snapshots contradict each other: Event Grid takes a delete marker for an "
                "object; use watch=poll"
            )
        if self.watch != "queue" and self.queue is not None:
            raise InvalidDSNError("queue belongs to watch=queue; give both")


def _given(dsn: DSN, settings: SettingsParser) -> Given:
    if dsn.port is not None:
        raise InvalidDSNError("an azure DSN has no port; give endpoint=http://host:port/account")
    key, account = settings.secret("account_key"), settings.text("account")
    if dsn.user and account is not None:
        raise InvalidDSNError("the account is given twice: before the '@' of the DSN, and as account")
    if dsn.password is not None and key is not None:
        raise InvalidDSNError("the account key is given twice: before the '@' of the DSN, and as account_key")
    if dsn.password is not None and not (dsn.user and dsn.password):
        raise InvalidDSNError("the DSN holds only one of account and key; give both before '@'")
    credential = settings.take("credential")
    if credential is not None and not callable(getattr(credential, "get_token", None)):
        raise InvalidDSNError("credential is an object with get_token(), given as an argument and not in the DSN")
    sas = settings.secret("sas")
    return Given(
        account=dsn.user or account,
        key=trimmed_secret("the account key", dsn.password) if dsn.password else key,
        sas=sas,
        connection_string=settings.text("connection_string"),
        credential=credential,
        anonymous=settings.flag("anonymous", False),
        endpoint=endpoint_of("endpoint", settings.text("endpoint"), _CREDENTIALS),
        queue_endpoint=endpoint_of("queue_endpoint", settings.text("queue_endpoint"), _CREDENTIALS),
    )


def _bucket_and_prefix(dsn: DSN) -> tuple[str | None, str]:
    if not dsn.host:
        if dsn.path not in ("", "/"):
            raise InvalidDSNError("the container stands before the path: write azure://account@container")
        return None, ""
    if "." in dsn.host:
        raise InvalidDSNError(
            f"{dsn.host!r} stands where the container does; write azure://account@container?endpoint=https://{dsn.host}"
        )
    try:
        check_bucket(dsn.host)
    except InvalidBucketNameError as error:
        raise InvalidDSNError(error.message) from None
    return bucket_and_prefix(f"/{dsn.host}{dsn.path}")


def _tier(name: str | None) -> str | None:
    if name is None:
        return None
    if name.upper() not in TIERS:
        raise InvalidDSNError(f"storage_class is one of {', '.join(TIERS)}, not {name!r}")
    return name.upper()
