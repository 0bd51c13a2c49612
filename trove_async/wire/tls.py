"""TLS: contexts that are made off the loop, and what to say when a handshake fails."""

from __future__ import annotations

import asyncio
import ssl

from trove_async.errors import BackendError, InvalidArgumentError, TroveError, UnavailableError
from trove_async.wire.origin import Origin

__all__ = ["handshake_error", "tls_context"]


async def tls_context(verify: bool = True, ca_file: str | None = None) -> ssl.SSLContext:
    """Make a context for connections to servers.

    Reading the certificates of the system takes some 10 ms, so it is done in a thread.

    Args:
        verify: False accepts any certificate, from anyone.
        ca_file: a PEM file of the authorities that are trusted instead of the system's.

    Raises:
        InvalidArgumentError: the file cannot be read or holds no certificate, or is given with ``verify=False``.
    """
    if ca_file is not None and not verify:
        raise InvalidArgumentError("a CA file is of no use when certificates are not verified; give one or the other")
    try:
        return await asyncio.to_thread(_make_context, verify, ca_file)
    except OSError as error:
        raise InvalidArgumentError(f"the CA file {ca_file!r} cannot be used: {error.strerror or error}") from error


def _make_context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def handshake_error(origin: Origin, error: ssl.SSLError) -> TroveError:
    """Return what is raised for a handshake that failed: the reason, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        return UnavailableError(
            f"the TLS certificate of {origin} is refused: {reason}; "
            "give the CA file of its authority, correct the host name, or turn verification off for a test server",
            retryable=False,
        )
    if error.reason == "WRONG_VERSION_NUMBER":
        return BackendError(f"{origin} does not answer in TLS; does it speak plain http://?")
    return UnavailableError(f"the TLS handshake with {origin} failed: {error.reason or error}")
