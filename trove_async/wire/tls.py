"""TLS: contexts that are made in a thread, and the errors of failed handshakes."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from trove_async.errors import BackendError, InvalidArgumentError, TroveError, UnavailableError
from trove_async.wire.origin import Origin

__all__ = ["ADVICE", "handshake_error", "tls_context"]

_STRICT_ERRORS: Final = range(80, 94)
"""The errors of OpenSSL's ``X509_V_FLAG_X509_STRICT``, in x509_vfy.h."""
ADVICE: Final = (
    "give the certificate of its authority as ca_file, correct the host name, or set verify=0 for a test server"
)
"""What to do if a certificate is refused."""


async def tls_context(verify: bool = True, ca_file: str | None = None, strict: bool = True) -> ssl.SSLContext:
    """Make a context for connections to servers.

    Reading the certificates of the system takes about 10 ms, so it is done in a thread. OpenSSL takes them from
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` where the environment has them.

    Args:
        verify: False accepts any certificate, from anyone.
        ca_file: a PEM file of authorities to trust instead of the system's.
        strict: False accepts certificates that lack extensions which RFC 5280 requires; Python refuses them from 3.13
            on.

    Raises:
        InvalidArgumentError: the file cannot be read or holds no certificate, or is given with ``verify=False``.
    """
    if ca_file is not None and not verify:
        raise InvalidArgumentError("ca_file and verify=False contradict each other; give one of them")
    try:
        return await asyncio.to_thread(_make_context, verify, ca_file, strict)
    except OSError as error:
        raise InvalidArgumentError(f"the CA file {ca_file!r} cannot be used: {error.strerror or error}") from error


def _make_context(verify: bool, ca_file: str | None, strict: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if not strict:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def handshake_error(origin: Origin, error: ssl.SSLError) -> TroveError:
    """Return the error of a failed handshake: the reason, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        advice = ADVICE
        if error.verify_code in _STRICT_ERRORS:
            advice = (
                "it, or its authority, violates RFC 5280; issue it again with the extension, "
                "or accept it with tls_strict=0"
            )
        return UnavailableError(f"the TLS certificate of {origin} is refused: {reason}; {advice}", retryable=False)
    if error.reason == "WRONG_VERSION_NUMBER":
        return BackendError(f"{origin} does not answer with TLS; does it speak plain http://?")
    return UnavailableError(f"the TLS handshake with {origin} failed: {error.reason or error}")
