"""Shared access signatures: permissions in a URL, signed by the SDK with the key of the account or of a user."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import anyio.to_thread

from trove_async.drivers.azure.account import Account
from trove_async.drivers.azure.client import Client, Params
from trove_async.errors import MissingDependencyError, UnsupportedError
from trove_async.types import ObjectRef
from trove_async.wire.xml import document, parse

__all__ = ["MAX_SECONDS", "Signatures"]

MAX_SECONDS: Final = 7 * 24 * 3600
"""Seconds for which a user delegation key, and what it signs, is valid."""

_SPARE: Final = 15 * 60
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Signatures:
    """Makes shared access signatures of one store.

    With an account key they need no request. With tokens of Microsoft Entra ID the service issues a user delegation
    key, which is kept until it is about to expire.

    Args:
        account: of the store.
        client: asks for a user delegation key.
    """

    def __init__(self, account: Account, client: Client) -> None:
        self._account = account
        self._client = client
        self._generate: Any = None
        self._user_key: Any = None
        self._user_key_expires = 0.0

    @property
    def possible(self) -> bool:
        """Tell whether the credentials can sign, which a signature and anonymous access cannot."""
        return self._account.key is not None or self._account.uses_tokens

    async def sign(self, ref: ObjectRef, permission: str, expires: float, **more: Any) -> str:
        """Return a signature for a blob: the parameters of a query, encoded.

        Args:
            ref: the blob; its version is not used.
            permission: letters, such as ``r``.
            expires: seconds from now.
            more: arguments of the SDK's ``generate_blob_sas``, such as ``version_id``.

        Raises:
            UnsupportedError: the credentials cannot sign.
        """
        if not self.possible:
            raise UnsupportedError(
                "a shared access signature and anonymous access cannot sign URLs: open the store with an account key, "
                "or with credentials of Microsoft Entra ID"
            )
        generate = self._generate or await self._load()
        expiry = datetime.fromtimestamp(self._client.now + expires, UTC)
        user_key = None if self._account.key is not None else await self._delegation_key(expires)
        signature: str = generate(
            self._account.name,
            ref.bucket,
            ref.key,
            account_key=self._account.key_text,
            user_delegation_key=user_key,
            permission=permission,
            expiry=expiry,
            **more,
        )
        return signature

    async def source_url(self, ref: ObjectRef, params: Params, *, tags: bool) -> tuple[str, list[tuple[str, str]]]:
        """Return the URL with which the service may read a blob that it copies, and headers that go with it.

        Args:
            ref: the blob.
            params: what names a version or snapshot.
            tags: whether the tags are read too.
        """
        account = self._account
        if account.sas or account.anonymous:
            return self._client.url(ref.bucket, ref.key, [*params, *account.sas]), []
        if account.uses_tokens:
            token = await self._client.token()
            return self._client.url(ref.bucket, ref.key, params), [
                ("x-ms-copy-source-authorization", f"Bearer {token}")
            ]
        named = {{"versionid": "version_id"}.get(name, name): value for name, value in params}
        signature = await self.sign(ref, "rt" if tags else "r", 3600, **named)
        url = self._client.url(ref.bucket, ref.key, params)
        return f"{url}{'&' if params else '?'}{signature}", []

    async def _load(self) -> Any:
        # The SDK takes a third of a second to import.
        self._generate = await anyio.to_thread.run_sync(_generator)
        return self._generate

    async def _delegation_key(self, expires: float) -> Any:
        """Return a user delegation key that is valid for as long as the signature."""
        now = self._client.now
        if self._user_key is None or now + expires > self._user_key_expires:
            lasting = min(max(expires + _SPARE, 3600), MAX_SECONDS)
            self._user_key = await self._ask(now, now + lasting)
            self._user_key_expires = now + lasting
        return self._user_key

    async def _ask(self, start: float, stop: float) -> Any:
        begin, end = (datetime.fromtimestamp(moment, UTC).strftime(_TIME) for moment in (start, stop))
        body = document("KeyInfo", [("Start", begin), ("Expiry", end)])
        params = [("restype", "service"), ("comp", "userdelegationkey")]
        _, content = await self._client.document("POST", "", params=params, body=[body])
        found = {item.tag: item.text for item in parse(content)}
        return await anyio.to_thread.run_sync(partial(_user_key, found))


def _generator() -> Any:
    try:
        from azure.storage.blob import generate_blob_sas
    except ImportError as error:
        raise MissingDependencyError(f"azure needs {error.name!r}: pip install 'trove-async[azure]'") from error
    return generate_blob_sas


def _user_key(found: dict[str, str | None]) -> Any:
    from azure.storage.blob import UserDelegationKey

    key: Any = UserDelegationKey()  # type: ignore[no-untyped-call]
    key.signed_oid = found.get("SignedOid")
    key.signed_tid = found.get("SignedTid")
    key.signed_start = found.get("SignedStart")
    key.signed_expiry = found.get("SignedExpiry")
    key.signed_service = found.get("SignedService")
    key.signed_version = found.get("SignedVersion")
    key.value = found.get("Value")
    return key
