"""Access tokens, issued for assertions that the server's own service account signed, and self-signed JWTs.

The grants are those of https://developers.google.com/identity/protocols/oauth2/service-account (``jwt-bearer``) and
https://developers.google.com/identity/protocols/oauth2/web-server#offline (``refresh_token``); the metadata server's of
https://cloud.google.com/compute/docs/access/authenticate-workloads.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from trove_async.errors import MissingDependencyError
from trove_async.testing.gcs.errors import ServiceError, login_required
from trove_async.testing.gcs.http import Request, Response, json_response
from trove_async.testing.gcs.unsupported import unsupported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["Authority"]

_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KEY_ID: Final = "0123456789abcdef0123456789abcdef01234567"
_CLIENT_ID: Final = "100000000000000000000"
_ASSERTION_LIFETIME: Final = 3600
_SKEW: Final = 300
_HMAC_SCHEMES: Final = ("goog1", "goog4-hmac-sha256", "goog4-rsa-sha256", "aws", "aws4-hmac-sha256")
_SERVICES: Final = ("https://storage.googleapis.com", "https://pubsub.googleapis.com")
_SCOPES: Final = frozenset(
    f"https://www.googleapis.com/auth/{name}"
    for name in (
        "cloud-platform",
        "cloud-platform.read-only",
        "devstorage.full_control",
        "devstorage.read_only",
        "devstorage.read_write",
        "pubsub",
    )
)


@cache
def _private_key() -> RSAPrivateKey:
    """Generate the key of this process; all servers share it because generation is slow."""
    try:
        from cryptography.hazmat.primitives.asymmetric import rsa
    except ImportError as error:
        raise MissingDependencyError("GCSServer needs: pip install cryptography") from error
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Authority:
    """Issues access tokens, and checks the credentials of requests.

    Attributes:
        lifetime: of a token, in seconds.
        refused: the number of requests without a valid token.
        issued: the number of tokens that were issued.
    """

    def __init__(self, project: str, lifetime: float, *, anonymous: bool) -> None:
        self.project = project
        self.lifetime = lifetime
        self.anonymous = anonymous
        self.base_url = ""
        self.issued = 0
        self.refused = 0
        self._expiries: dict[str, float] = {}

    @property
    def email(self) -> str:
        """The email address of the service account."""
        return f"trove@{self.project}.iam.gserviceaccount.com"

    @cached_property
    def refresh_token(self) -> str:
        """The refresh token of the server's only user."""
        return f"1//{secrets.token_urlsafe(32)}"

    def service_account_info(self) -> dict[str, str]:
        """Return the content of a key file for the service account."""
        key = _private_key()
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": _KEY_ID,
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": _CLIENT_ID,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": f"{self.base_url}/token",
            "universe_domain": "googleapis.com",
        }

    def authorized_user_info(self) -> dict[str, str]:
        """Return the content of a user's file of application default credentials."""
        return {
            "type": "authorized_user",
            "client_id": f"{_CLIENT_ID}.apps.googleusercontent.com",
            "client_secret": "GOCSPX-secret",
            "refresh_token": self.refresh_token,
            "token_uri": f"{self.base_url}/token",
        }

    def issue(self) -> str:
        """Issue a token."""
        now = time.time()
        if len(self._expiries) > 10_000:
            self._expiries = {token: end for token, end in self._expiries.items() if end > now}
        token = f"ya29.{secrets.token_urlsafe(48)}"
        self._expiries[token] = now + self.lifetime
        self.issued += 1
        return token

    def revoke(self) -> None:
        """Revoke all tokens issued so far."""
        self._expiries.clear()

    def check(self, request: Request) -> None:
        """Refuse a request without a valid access token or self-signed JWT.

        Raises:
            ServiceError: 401, or 501 if a signature takes the place of a token.
        """
        if self.anonymous:
            return
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() in _HMAC_SCHEMES:
            raise unsupported(f"authorization by a signature in a header ({scheme})")
        if scheme.lower() != "bearer":
            self.refused += 1
            raise login_required(None)
        expiry = self._expiries.get(token.strip(), 0)
        if expiry <= time.time() and not self._is_self_signed(token.strip(), f"http://{request.header('host')}"):
            self.refused += 1
            raise login_required(token)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return True if an RSA signature (PKCS #1 v1.5, SHA-256) was made with the service account's key."""
        key = _private_key().public_key()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            key.verify(signature, message, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    def grant(self, request: Request) -> Response:
        """Answer ``POST /token``."""
        try:
            form = {name: values[-1] for name, values in parse_qs(request.body.decode("ascii")).items()}
            kind = form.get("grant_type")
            if kind == _JWT_BEARER:
                self._check_assertion(form.get("assertion", ""), f"http://{request.header('host')}/token")
            elif kind == "refresh_token":
                if form.get("refresh_token") != self.refresh_token:
                    raise _GrantError("invalid_grant", "Bad Request")
            else:
                raise _GrantError("unsupported_grant_type", f"Invalid grant_type: {kind}")
        except (_GrantError, UnicodeDecodeError) as error:
            code = error.code if isinstance(error, _GrantError) else "invalid_request"
            return json_response({"error": code, "error_description": str(error)}, 400)
        return json_response(self._token())

    def metadata(self, request: Request) -> Response:
        """Answer requests to the metadata server of a virtual machine.

        Raises:
            ServiceError: 403 without ``Metadata-Flavor: Google``; 404.
        """
        flavor = {"Metadata-Flavor": "Google"}
        if request.header("metadata-flavor") != "Google":
            raise ServiceError(403, "forbidden", "Missing Metadata-Flavor:Google header.")
        match request.segments[2:]:
            case ["instance", "service-accounts", _, "token"]:
                return json_response(self._token(), headers=flavor)
            case ["instance", "service-accounts", _, "email"]:
                text = self.email
            case ["project", "project-id"]:
                text = self.project
            case _:
                raise ServiceError(404, "notFound", "Not Found")
        return Response(200, {"Content-Type": "application/text", **flavor}, text.encode())

    def _token(self) -> dict[str, Any]:
        return {"access_token": self.issue(), "expires_in": int(self.lifetime), "token_type": "Bearer"}

    def _is_self_signed(self, token: str, endpoint: str) -> bool:
        """Return True if a token is a JWT that the service account signed for this service.

        Sources: https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth and
        https://google.aip.dev/auth/4111: a JWT has an audience or a scope, not both.
        """
        try:
            claims = self._claims(token)
        except _GrantError:
            return False
        if claims.get("sub") != self.email or ("aud" in claims) == ("scope" in claims):
            return False
        if "aud" in claims:
            own = (endpoint, self.base_url, *_SERVICES)
            return str(claims["aud"]).removesuffix("/") in own
        return not _SCOPES.isdisjoint(str(claims["scope"]).split())

    def _check_assertion(self, assertion: str, endpoint: str) -> None:
        claims = self._claims(assertion)
        # The endpoint is the URL that the client used, which may be that of a proxy.
        if claims.get("aud") not in (endpoint, f"{self.base_url}/token", "https://oauth2.googleapis.com/token"):
            raise _GrantError("invalid_grant", "Invalid JWT: Failed audience check.")
        if not claims.get("scope"):
            raise _GrantError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")

    def _claims(self, jwt: str) -> Mapping[str, Any]:
        """Return the claims of a JWT that the service account signed and that is valid now."""
        parts = jwt.split(".")
        try:
            header, claims = (json.loads(_unpadded(part)) for part in parts[:2])
            signature = _unpadded(parts[2])
            algorithm, issuer = header.get("alg"), claims.get("iss")
        except (ValueError, IndexError, AttributeError) as error:
            raise _GrantError("invalid_grant", "Invalid JWT: not three parts of base64 with JSON.") from error
        if algorithm != "RS256" or not self.verifies(signature, ".".join(parts[:2]).encode()):
            raise _GrantError("invalid_grant", "Invalid JWT Signature.")
        if issuer != self.email:
            raise _GrantError("invalid_grant", "Invalid grant: account not found")
        now, begin, end = time.time(), claims.get("iat"), claims.get("exp")
        if not isinstance(begin, int | float) or not isinstance(end, int | float):
            raise _GrantError("invalid_grant", "Invalid JWT: iat and exp are required.")
        if end <= now - _SKEW or begin > now + _SKEW or end - begin > _ASSERTION_LIFETIME:
            message = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            raise _GrantError("invalid_grant", message)
        checked: Mapping[str, Any] = claims
        return checked


class _GrantError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
