"""The endpoints that the files of the AWS SDKs name: ``endpoint_url``, of a profile or of its ``services``.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trove_async.drivers.s3.session import in_thread, sdk_session
from trove_async.types import EMPTY

__all__ = ["configured_endpoints", "read_configured_endpoints"]

_FILES: Final = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
_SERVICES: Final = ("s3", "sqs")


async def configured_endpoints(aws_profile: str | None) -> Mapping[str, str]:
    """Return the endpoints of the services, by the names ``s3`` and ``sqs``; a service without one is left out.

    Args:
        aws_profile: the section of the files; None for that of ``AWS_PROFILE``, or the default one.

    Raises:
        InvalidDSNError: a file names an endpoint, and the files cannot be read or lack the profile.
    """
    found: Mapping[str, str] = await in_thread(read_configured_endpoints, aws_profile)
    return found


def read_configured_endpoints(aws_profile: str | None) -> Mapping[str, str]:
    """Read what `configured_endpoints` returns; not on the event loop."""
    # The SDK takes a third of a second to import, and few files name an endpoint.
    if not any(map(_names_an_endpoint, _FILES)):
        return EMPTY
    from botocore.configprovider import ConfiguredEndpointProvider

    sdk = sdk_session(aws_profile)
    if sdk.get_config_variable("ignore_configured_endpoint_urls"):
        return EMPTY
    files, profile = sdk.full_config, sdk.get_scoped_config()
    found = {name: ConfiguredEndpointProvider(files, profile, name, environ={}).provide() for name in _SERVICES}
    return {name: url for name, url in found.items() if url}


def _names_an_endpoint(variable: str) -> bool:
    path = os.environ.get(variable) or _FILES[variable]
    try:
        return b"endpoint_url" in Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError):
        return False
