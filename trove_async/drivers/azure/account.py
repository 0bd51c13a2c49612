"""The account of a store: where its services are, and what signs requests to it. Only the environment is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from trove_async.drivers.azure.shared_key import SharedKey
from trove_async.dsn import trimmed_secret
from trove_async.errors import InvalidArgumentError, InvalidDSNError

__all__ = ["Account", "Given", "account_of"]

_DEVELOPMENT: Final = {
    # The emulator's published account: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "blobendpoint": "http://127.0.0.1:10000/devstoreaccount1",
    "queueendpoint": "http://127.0.0.1:10001/devstoreaccount1",
}
_SUFFIX: Final = "core.windows.net"


@dataclass(frozen=True, slots=True)
class Given:
    """What the DSN and the keyword arguments say about the account; None for what they do not say.

    Attributes:
        account: the account's name.
        key: its key, in base64.
        sas: a shared access signature, with or without ``?``.
        connection_string: in the form of Azure's portal.
        credential: an object of azure-identity, or another one with its ``get_token``.
        anonymous: whether requests are sent without credentials.
        endpoint, queue_endpoint: URLs of the services.
    """

    account: str | None = None
    key: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    connection_string: str | None = field(default=None, repr=False)
    credential: Any = field(default=None, repr=False)
    anonymous: bool = False
    endpoint: str | None = None
    queue_endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An account, and how requests to it are signed.

    If none of `key`, `sas` and `anonymous` is set, requests carry a token of Microsoft Entra ID.

    Attributes:
        name: of the account.
        endpoint, queue_endpoint: URLs without a slash at the end.
        key: signs; None if there is none.
        key_text: the key in base64, for the SDK.
        sas: parameters that are added to every query; empty if there are none.
        anonymous: whether requests carry no credentials.
        credential: gives tokens; None for azure-identity's default chain.
    """

    name: str
    endpoint: str
    queue_endpoint: str
    key: SharedKey | None = field(default=None, repr=False, compare=False)  # key_text says the same
    key_text: str | None = field(default=None, repr=False)
    sas: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    anonymous: bool = False
    credential: Any = field(default=None, repr=False)

    @property
    def uses_tokens(self) -> bool:
        """Tell whether requests carry a token of Microsoft Entra ID."""
        return self.key is None and not self.sas and not self.anonymous


def account_of(given: Given) -> Account:
    """Return the account that was given; what is missing is read from the variables of the Azure CLI.

    They are AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY and AZURE_STORAGE_SAS_TOKEN;
    values of another account than the given one are not used.

    Raises:
        InvalidDSNError: values contradict each other or are malformed, or no account is named.
    """
    parts = _parts(given.connection_string) if given.connection_string is not None else {}
    name = given.account or parts.get("accountname")
    if given.account is not None and parts.get("accountname", given.account) != given.account:
        raise InvalidDSNError(
            f"the connection string is of the account {parts['accountname']!r}; the DSN names {given.account!r}"
        )
    key, sas = given.key or parts.get("accountkey"), given.sas or parts.get("sharedaccesssignature")
    ways = [bool(given.key), bool(given.sas), bool(given.connection_string), given.credential is not None]
    if sum([*ways, given.anonymous]) > 1:
        raise InvalidDSNError(
            "credentials are given more than once: give one of account key, sas, connection_string, "
            "credential and anonymous"
        )
    if not any(ways) and not given.anonymous:
        parts, name, key, sas = _from_environment(name)
    endpoint = given.endpoint or parts.get("blobendpoint")
    if endpoint is not None:
        _refuse_container(endpoint)
    name = name or _name_in(endpoint)
    if not name:
        raise InvalidDSNError(
            "no account is named: write azure://account@container, or set AZURE_STORAGE_ACCOUNT "
            "or AZURE_STORAGE_CONNECTION_STRING"
        )
    protocol = parts.get("defaultendpointsprotocol", "https")
    suffix = parts.get("endpointsuffix", _SUFFIX)
    queue = given.queue_endpoint or parts.get("queueendpoint")
    return Account(
        name=name,
        endpoint=(endpoint or f"{protocol}://{name}.blob.{suffix}").rstrip("/"),
        queue_endpoint=(queue or f"{protocol}://{name}.queue.{suffix}").rstrip("/"),
        key=_shared_key(name, key) if key else None,
        key_text=key or None,
        sas=_sas(sas) if sas and not key else (),
        anonymous=given.anonymous,
        credential=given.credential,
    )


def _from_environment(name: str | None) -> tuple[dict[str, str], str | None, str | None, str | None]:
    """Return the parts of a connection string, and the account, the key and the signature."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if text:
        parts = _parts(text)
        if name is None or parts.get("accountname", name) == name:
            return parts, name or parts.get("accountname"), parts.get("accountkey"), parts.get("sharedaccesssignature")
    named = os.environ.get("AZURE_STORAGE_ACCOUNT") or None
    if name is not None and named is not None and name != named:
        return {}, name, None, None
    key = _from_variable("AZURE_STORAGE_KEY") or _from_variable("AZURE_STORAGE_ACCOUNT_KEY")
    sas = _from_variable("AZURE_STORAGE_SAS_TOKEN")
    return {}, name or named, key, None if key else sas


def _from_variable(name: str) -> str | None:
    text = os.environ.get(name)
    return trimmed_secret(name, text) if text else None


def _parts(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in text.strip().rstrip(";").split(";"):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise InvalidDSNError("the connection string is malformed: it consists of Name=value, separated by ';'")
        found[name.strip().lower()] = value.strip()
    if found.get("usedevelopmentstorage", "").lower() == "true":
        return dict(_DEVELOPMENT)
    return found


def _shared_key(name: str, key: str) -> SharedKey:
    try:
        return SharedKey(name, key)
    except InvalidArgumentError as error:
        raise InvalidDSNError(error.message) from None


def _sas(text: str) -> tuple[tuple[str, str], ...]:
    # A "+" that is not encoded is read as a space, and no parameter holds either but the base64 of the signature.
    found = parse_qsl(text.removeprefix("?"), keep_blank_values=True)
    pairs = tuple((name, value.replace(" ", "+") if name == "sig" else value) for name, value in found)
    if not any(name == "sig" for name, _ in pairs):
        raise InvalidDSNError("the sas is no shared access signature: it has no parameter sig")
    return pairs


def _refuse_container(endpoint: str) -> None:
    """Refuse the URL of a container, as in the connection strings that Azure Storage Explorer makes for one."""
    url = urlsplit(endpoint)
    container = url.path.strip("/")
    if container and _is_service(url.hostname):
        raise InvalidDSNError(
            f"the blob endpoint names the container {container!r}; "
            f"end it after the host, and write azure://account@{container}"
        )


def _is_service(host: str | None) -> bool:
    """Tell whether a host is that of an account at Azure, such as ``account.blob.core.windows.net``."""
    labels = (host or "").split(".")
    return len(labels) > 2 and labels[1] in ("blob", "privatelink")


def _name_in(endpoint: str | None) -> str | None:
    """Return the account that the URL of a service names: in the host, or in the path if it is an emulator's."""
    if endpoint is None:
        return None
    url = urlsplit(endpoint)
    path = url.path.strip("/")
    if path:
        return path.partition("/")[0]
    return (url.hostname or "").partition(".")[0] if _is_service(url.hostname) else None
