"""Credentials, renewed once for all waiting tasks; addresses of buckets; and the SDK's clients.

The SDK reads files, loads models and queries metadata services. This happens in threads, so that it does not block the
event loop. The SDK is imported when it is first needed: for credentials that `static_credentials` does not find, or by
the control plane, for requests that the library does not send itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack
from functools import cache, partial
from time import monotonic
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import anyio.to_thread

from trove_async.drivers.s3.addressing import BucketAddress, Endpoint, known_suffix
from trove_async.drivers.s3.errors import sdk_error
from trove_async.drivers.s3.profiles import Profile, region_of
from trove_async.drivers.s3.settings import S3Settings
from trove_async.drivers.s3.static import read_profile, static_credentials
from trove_async.dsn import trimmed_secret
from trove_async.errors import ClosedError, MissingDependencyError, TroveError, UnauthenticatedError
from trove_async.wire.clock import ServiceClock
from trove_async.wire.sigv4 import Credentials, timestamp

__all__ = ["Session", "in_thread", "sdk_session"]

R = TypeVar("R")

_LOOK_SECONDS: Final = 1.0
"""Seconds for which credentials that can expire are used before their expiry is checked again."""

_SPARE_SECONDS: Final = 60
"""With fewer seconds left, requests wait for new credentials; before that, they use the old ones."""

_AHEAD_SECONDS: Final = 30.0
"""Seconds between renewals ahead of expiry, if a renewal fails or the new credentials expire soon too."""

_RENEW_SECONDS: Final = 5.0
"""Seconds between attempts to replace credentials that the service refused, if the chain returns the same ones."""

_LONG_POLL: Final = 30.0
"""The read timeout for SQS in seconds; SQS waits up to 20 s for a message."""


class Session:
    """The credentials and addresses of one store.

    Args:
        settings, profile: of the store.

    Attributes:
        clock: the service's, by which both planes sign.
    """

    def __init__(self, settings: S3Settings, profile: Profile) -> None:
        self.clock = ServiceClock()
        self._settings = settings
        self._profile = profile
        self._endpoint: Endpoint | None = None
        self._known: Credentials | None = None
        self._good_until = 0.0
        self._next_ahead = 0.0
        self._source: Any = None
        self._fetching: asyncio.Task[Credentials] | None = None
        self._unrenewable: tuple[Credentials, float] | None = None
        self._lock = asyncio.Lock()
        self._clients: dict[tuple[str, str | None, int | None], Any] = {}
        self._stack = AsyncExitStack()
        self._closed = False
        self._calls: set[asyncio.Task[Any]] = set()
        if settings.access_key is not None and settings.secret_key is not None:
            self._known = Credentials(settings.access_key, settings.secret_key, settings.session_token)
            self._good_until = float("inf")

    async def open(self) -> None:
        """Determine the region, and Amazon's endpoint in it, without a request.

        The region comes from the DSN, the name of the endpoint, ``AWS_REGION``, ``AWS_DEFAULT_REGION``, the AWS
        configuration or the profile; the first that has one counts.

        Raises:
            InvalidDSNError: the AWS configuration is needed, but is unreadable or lacks the credentials profile.
        """
        settings = self._settings
        region = settings.region or (settings.endpoint and region_of(settings.endpoint))
        if not region and self._profile.region == "auto":
            region = "auto"
        region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            region = await self._configured_region() or self._profile.region
        suffix = known_suffix(region)
        if suffix is None:
            suffix = known_suffix("us-east-1") if settings.endpoint else await in_thread(_suffix_of, region)
        self._endpoint = Endpoint(settings, self._profile, region, str(suffix))

    async def _configured_region(self) -> str | None:
        profile = await asyncio.to_thread(read_profile, self._settings.aws_profile)
        if profile is not None:
            return profile.get("region")
        region: str | None = await in_thread(_sdk_region, self._settings.aws_profile)
        return region

    @property
    def region(self) -> str:
        """The region to sign for if a bucket's own region is not known."""
        return self._opened.region

    def address(self, bucket: str, region: str | None = None, *, accelerate: bool = True) -> BucketAddress:
        """Return where a bucket is; see `Endpoint.address`."""
        return self._opened.address(bucket, region, accelerate=accelerate)

    @property
    def _opened(self) -> Endpoint:
        if self._endpoint is None:
            raise ClosedError("the S3 session was not opened")
        return self._endpoint

    # Credentials

    @property
    def known_credentials(self) -> Credentials | None:
        """The credentials if they can be used without a check; else await `credentials`."""
        return self._known if monotonic() < self._good_until else None

    async def credentials(self) -> Credentials | None:
        """Return the credentials to sign with; None for anonymous access.

        Credentials that expire are renewed ahead of time, once for all waiting tasks.

        Raises:
            UnauthenticatedError: no credentials were found, or they could not be renewed.
        """
        if self._settings.anonymous:
            return None
        if self._known is not None and monotonic() < self._good_until:
            return self._known
        if self._known is None or self._needs_renewal(_SPARE_SECONDS):
            return await self._fetch()
        self._good_until = monotonic() + _LOOK_SECONDS
        if self._needs_renewal() and monotonic() >= self._next_ahead:
            self._next_ahead = monotonic() + _AHEAD_SECONDS
            self._start_fetch()
        return self._known

    async def renew(self, used: Credentials) -> bool:
        """Replace credentials that the service refused as expired; return whether there are other ones.

        The chain is queried once, however many tasks report the same credentials.

        Raises:
            UnauthenticatedError: no credentials were found.
        """
        if self._settings.anonymous or self._settings.access_key is not None:
            return False
        if self._known == used:
            if self._unrenewable is not None and self._unrenewable[0] == used and monotonic() < self._unrenewable[1]:
                return False
            if self._fetching is not None:
                await self._fetch()
            if self._known == used and await self._ask_again() == used:
                self._unrenewable = used, monotonic() + _RENEW_SECONDS
        return self._known != used

    async def _ask_again(self) -> Credentials:
        """Query the whole chain again: the provider of the credentials may have cached them."""
        if self._fetching is None:
            self._source = None
            self._good_until = 0.0
        return await self._fetch()

    def _needs_renewal(self, seconds: int | None = None) -> bool:
        """Whether the credentials expire within some seconds; the default is the SDK's."""
        refresh_needed = getattr(self._source, "refresh_needed", None)
        return self._source is None or (refresh_needed is not None and bool(refresh_needed(seconds)))

    async def _fetch(self) -> Credentials:
        task = self._start_fetch()
        return await self._until_closed(task, asyncio.shield(task))

    async def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Await a call of the SDK, which ends when the session is closed.

        Raises:
            ClosedError: the session was closed, before or meanwhile.
        """
        if self._closed:
            work.close()
            raise ClosedError("the store is closed")
        task = asyncio.ensure_future(work)
        self._calls.add(task)
        try:
            return await self._until_closed(task, task)
        finally:
            self._calls.discard(task)

    async def _until_closed(self, task: asyncio.Task[R], result: Awaitable[R]) -> R:
        """Await the result of a task that `close` cancels."""
        try:
            return await result
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and task.cancelled() and (caller is None or not caller.cancelling()):
                raise ClosedError("the store was closed") from None
            raise

    def _start_fetch(self) -> asyncio.Task[Credentials]:
        if self._closed:
            raise ClosedError("the store is closed")
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._load(), name="trove-s3-credentials")
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[Credentials]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: a renewal ahead of time may have no waiting task

    async def _load(self) -> Credentials:
        aws_profile = self._settings.aws_profile
        static = None if self._source is not None else await asyncio.to_thread(static_credentials, aws_profile)
        if static is None:
            self._source, found = await in_thread(_ask, aws_profile, self._source)
        else:
            self._source = found = static
        self._known = Credentials(
            trimmed_secret("the access key of the AWS configuration", found.access_key),
            trimmed_secret("the secret key of the AWS configuration", found.secret_key),
            trimmed_secret("the session token of the AWS configuration", found.token) if found.token else None,
        )
        expires = hasattr(self._source, "refresh_needed")
        self._good_until = monotonic() + _LOOK_SECONDS if expires else float("inf")
        return self._known

    # The SDK's clients

    async def client(self, service: str = "s3", endpoint: str | None = None, attempts: int | None = None) -> Any:
        """Return the SDK's client for a service, made at the first call; it signs with the same credentials.

        Args:
            service: ``s3`` or ``sqs``.
            endpoint: its URL; None for the endpoint of the settings (``s3``) or Amazon's.
            attempts: how often the SDK sends a request; None for the number of the settings.
        """
        async with self._lock:
            if self._closed:
                raise ClosedError("the store is closed")
            found = self._clients.get((service, endpoint, attempts))
            if found is None:
                found = await self._open_client(service, endpoint, attempts or self._settings.network.attempts)
                self._clients[service, endpoint, attempts] = found
            return found

    async def _open_client(self, service: str, endpoint: str | None, attempts: int) -> Any:
        settings = self._settings
        sdk = await in_thread(_warm_session, settings.aws_profile, service)
        url = endpoint or (settings.endpoint if service == "s3" else None)
        sdk.register_component("credential_provider", _Provider(self))
        client = await self._stack.enter_async_context(
            sdk.create_client(
                service,
                region_name=self.region,
                endpoint_url=url and _accepted(url),
                verify=settings.network.sdk_verify,
                config=_config(
                    settings,
                    self._profile,
                    url or f"https://{service}.{self.region}.amazonaws.com",
                    longest_wait=_LONG_POLL if service == "sqs" else 0,
                    attempts=attempts,
                ),
            )
        )
        if url is not None and _accepted(url) != url:
            client.meta.events.register_first(f"request-created.{service}", _HostRestorer(_accepted(url), url))
        client.meta.events.register_first(f"before-sign.{service}", _ClockSetter(self.clock))
        if service == "s3":
            from botocore.handlers import add_expect_header

            # With `Expect: 100-continue` the SDK would wait forever for a server that does not answer it.
            client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    async def close(self) -> None:
        """Close the clients and cancel a renewal that is in progress; idempotent."""
        self._closed = True
        under_way: set[asyncio.Task[Any]] = {*self._calls, *([self._fetching] if self._fetching else ())}
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        async with self._lock:
            self._clients.clear()
            await self._stack.aclose()


class _Provider:
    """Gives the SDK's clients the credentials of a session instead of those of the SDK's own chain."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def load_credentials(self) -> Any:
        from aiobotocore.credentials import AioCredentials
        from botocore.credentials import ReadOnlyCredentials

        session = self._session

        class Shared(AioCredentials):  # type: ignore[misc]
            async def get_frozen_credentials(self) -> Any:
                found = await session.credentials()
                return found and ReadOnlyCredentials(found.access_key, found.secret_key, found.token, None)

        found = await session.credentials()
        return found and Shared(found.access_key, found.secret_key, found.token)


# Functions that run in threads

_SESSION_VARIABLES: Final = {"profile": (None, ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"], None, lambda name: name or None)}
"""Variables of the SDK: an empty ``AWS_PROFILE`` names no profile."""


async def in_thread(function: Any, *arguments: Any) -> Any:
    """Call a function of the SDK in a thread.

    Raises:
        TroveError: what the SDK raised, in its class of the tree.
    """
    try:
        return await anyio.to_thread.run_sync(partial(function, *arguments), abandon_on_cancel=True)
    except TroveError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"s3 needs {error.name!r}: pip install 'trove-async[s3]'") from error
    except Exception as error:
        raise sdk_error(error) from error


def sdk_session(aws_profile: str | None) -> Any:
    """Return a session of the SDK; it reads files when it is asked for what they hold.

    Args:
        aws_profile: the section of the files; None for that of ``AWS_PROFILE``, or the default one.
    """
    from aiobotocore.session import AioSession

    sdk = AioSession(profile=aws_profile, session_vars=_SESSION_VARIABLES)
    sdk.register_component("data_loader", _loader(sdk.get_config_variable("data_path")))
    for provider in sdk.get_component("credential_provider").providers:
        if hasattr(provider, "_prompter"):
            provider._prompter = _refuse_to_prompt
    return sdk


def _refuse_to_prompt(prompt: str) -> str:
    """Replace the SDK's prompt for an MFA code: a library has no terminal."""
    raise UnauthenticatedError(
        "the role of the AWS profile needs an MFA code, which a library cannot prompt for: get temporary credentials "
        "first, for example with 'aws sts assume-role', and give them as access_key, secret_key and session_token"
    )


@cache
def _loader(data_path: str | None) -> Any:
    """Return the loader of the SDK's models, which caches them: loading takes a tenth of a second."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def _warm_session(aws_profile: str | None, service: str) -> Any:
    """Return a session that has loaded all its files, so that creating a client does no I/O."""
    import aiobotocore.config  # noqa: F401 - this import is slow, too

    sdk = sdk_session(aws_profile)
    sdk.warm_up_loader_caches(service)
    sdk.get_scoped_config()
    return sdk


def _sdk_region(aws_profile: str | None) -> str | None:
    region: str | None = sdk_session(aws_profile).get_config_variable("region")
    return region


def _suffix_of(region: str) -> str:
    """Return the DNS suffix of a region's partition, from the SDK's data."""
    partitions = sdk_session(None).get_component("data_loader").load_data("partitions")["partitions"]
    found = next((p for p in partitions if region in p["regions"] or re.match(p["regionRegex"], region)), partitions[0])
    suffix: str = found["outputs"]["dnsSuffix"]
    return suffix


def _ask(aws_profile: str | None, source: Any) -> Any:
    """Return the current credentials of a source, and the source; without a source, query the chain."""

    async def ask() -> tuple[Any, Any]:
        asked = source if source is not None else await sdk_session(aws_profile).get_credentials()
        if asked is None:
            raise UnauthenticatedError(
                "no credentials were found: give access_key and secret_key, or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or give anonymous=1 for public buckets"
            )
        return asked, await asked.get_frozen_credentials()

    return asyncio.run(ask())


def _config(settings: S3Settings, profile: Profile, url: str, *, longest_wait: float, attempts: int) -> Any:
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED

    network = settings.network
    styles = {"path": "path", "virtual": "virtual", "auto": "path" if profile.path_style else "auto"}
    return AioConfig(
        signature_version=UNSIGNED if settings.anonymous else None,
        s3={"addressing_style": styles[settings.addressing]},
        use_dualstack_endpoint=settings.dualstack,
        use_fips_endpoint=settings.fips,
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=network.connect_timeout,
        read_timeout=max(network.idle_timeout, longest_wait),
        max_pool_connections=min(network.connections, 10),
        proxies=network.sdk_proxies(url),
        user_agent_extra=network.full_user_agent,
        **({} if network.tls_strict else {"http_session_cls": _lenient_session()}),
        # Other services refuse the trailing checksums (https://github.com/boto/boto3/issues/4398).
        request_checksum_calculation="when_supported" if profile.name == "aws" else "when_required",
        response_checksum_validation="when_required",
        # The settings contain the endpoint, also that of AWS_ENDPOINT_URL, so that both planes use the same.
        ignore_configured_endpoint_urls=True,
    )


def _accepted(url: str) -> str:
    """Replace ``_`` in the host of a URL, which names of containers often have and the SDK does not accept."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace("_", "-")))


class _HostRestorer:
    """Restores the configured host in the SDK's requests before they are signed."""

    def __init__(self, accepted: str, url: str) -> None:
        self._accepted = urlsplit(accepted).netloc
        self._netloc = urlsplit(url).netloc

    def __call__(self, request: Any, **_: Any) -> None:
        parts = urlsplit(request.url)
        if parts.netloc.endswith(self._accepted):  # a bucket may stand before it
            netloc = parts.netloc.removesuffix(self._accepted) + self._netloc
            request.url = urlunsplit(parts._replace(netloc=netloc))


class _ClockSetter:
    """Has the SDK's requests signed by the service's clock."""

    def __init__(self, clock: ServiceClock) -> None:
        self._clock = clock

    def __call__(self, request: Any, **_: Any) -> None:
        request.context = _SignedContext(request.context, self._clock)


class _SignedContext(dict[str, Any]):
    """The context of a request, in which a signer notes its time; the SDK has no other way to set that time."""

    def __init__(self, context: dict[str, Any], clock: ServiceClock) -> None:
        super().__init__(context)
        self._clock = clock

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, timestamp(self._clock.now) if name == "timestamp" else value)


def _lenient_session() -> type[Any]:
    """Return the class of the SDK's HTTP sessions with ``tls_strict=0``."""
    from aiobotocore.httpsession import AIOHTTPSession

    class LenientSession(AIOHTTPSession):  # type: ignore[misc]
        def _get_ssl_context(self) -> ssl.SSLContext:
            context: ssl.SSLContext = super()._get_ssl_context()
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            return context

    return LenientSession
