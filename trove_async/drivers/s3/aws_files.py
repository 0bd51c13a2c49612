"""The endpoints that the files of the AWS SDKs name: ``endpoint_url``, of a profile or of its ``services``.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trove_async.drivers.s3.session import in_thread, sdk_session
from trove_async.drivers.s3.static import AWS_FILES, path_of
from trove_async.types import EMPTY

__all__ = ["configured_endpoints", "read_configured_endpoints"]

_SERVICES: Final = ("s3", "sqs")


async def configured_endpoints(aws_profile: str | None) -> Mapping[str, str]:
    """Return the endpoints of the services, by the names ``s3`` and ``sqs``; a service without one is left out.

    Args:
        aws_profile: the section of the files; None for that of ``AWS_PROFILE``, or the default one.

    Raises:
        InvalidDSNError: a file names an endpoint, and the files cannot be read or lack the profile.
    """
    if not await asyncio.to_thread(_name_endpoints):
        return EMPTY
    found: Mapping[str, str] = await in_thread(read_configured_endpoints, aws_profile)
    return found


def read_configured_endpoints(aws_profile: str | None) -> Mapping[str, str]:
    """Read what `configured_endpoints` returns; not on the event loop."""
    if not _name_endpoints():
        return EMPTY
    from botocore.configprovider import ConfiguredEndpointProvider

    sdk = sdk_session(aws_profile)
    if sdk.get_config_variable("ignore_configured_endpoint_urls"):
        return EMPTY
    files, profile = sdk.full_config, sdk.get_scoped_config()
    found = {name: ConfiguredEndpointProvider(files, profile, name, environ={}).provide() for name in _SERVICES}
    return {name: url for name, url in found.items() if url}


def _name_endpoints() -> bool:
    """Tell whether a file may name an endpoint: few do, and the SDK takes a third of a second to import."""
    return any(_holds(path_of(variable), b"endpoint_url") for variable in AWS_FILES)


def _holds(path: str, text: bytes) -> bool:
    try:
        return text in Path(path).read_bytes()
    except OSError:
        return False
