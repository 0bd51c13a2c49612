from __future__ import annotations

import time
from typing import Any

import httpx
import jwt
import pytest

from tests.gcs_server.requests import assert_error, assert_xml_error
from trove_async.testing.gcs import GCSServer

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"


def assertion(server: GCSServer, **changes: Any) -> str:
    info, now = server.service_account_info, int(time.time())
    claims = {"iss": info["client_email"], "aud": info["token_uri"], "iat": now, "exp": now + 3600, "scope": SCOPE}
    return jwt.encode({**claims, **changes}, info["private_key"], algorithm="RS256")


async def granted(client: httpx.AsyncClient, assertion: str) -> httpx.Response:
    return await client.post("/token", data={"grant_type": GRANT, "assertion": assertion})


@pytest.mark.asyncio
async def test_a_signed_assertion_gets_a_token_that_works(server: GCSServer, stranger: httpx.AsyncClient) -> None:
    answer = await granted(stranger, assertion(server))
    token = answer.json()
    assert (answer.status_code, token["token_type"], token["expires_in"]) == (200, "Bearer", 3600)
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    assert (await stranger.get("/storage/v1/b?project=p", headers=headers)).status_code == 200
    assert server.tokens_issued == 1


@pytest.mark.asyncio
async def test_the_audience_is_the_endpoint_that_was_asked(server: GCSServer, stranger: httpx.AsyncClient) -> None:
    signed = assertion(server, aud="http://proxy.example:1/token")
    form = {"grant_type": GRANT, "assertion": signed}
    through = await stranger.post("/token", data=form, headers={"Host": "proxy.example:1"})
    assert through.status_code == 200
    assert (await granted(stranger, signed)).status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other@project.iam.gserviceaccount.com"},
        {"aud": "https://elsewhere.example/token"},
        {"exp": int(time.time()) - 3600},
        {"exp": int(time.time()) + 7300},
        {"scope": ""},
    ],
    ids=["issuer", "audience", "expired", "too-long", "no-scope"],
)
@pytest.mark.asyncio
async def test_an_invalid_assertion_gets_no_token(
    server: GCSServer, stranger: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    answer = await granted(stranger, assertion(server, **changes))
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_grant", "invalid_scope")


@pytest.mark.asyncio
async def test_a_changed_assertion_gets_no_token(server: GCSServer, stranger: httpx.AsyncClient) -> None:
    head, claims, signature = assertion(server).split(".")
    other = assertion(server, scope="another").split(".")[1]
    answer = await granted(stranger, f"{head}.{other}.{signature}")
    assert answer.json() == {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    assert (await granted(stranger, "no.jwt")).status_code == 400
    assert claims != other


@pytest.mark.asyncio
async def test_a_users_refresh_token_gets_a_token(server: GCSServer, stranger: httpx.AsyncClient) -> None:
    info = server.authorized_user_info
    form = {"grant_type": "refresh_token", "refresh_token": info["refresh_token"], "client_id": info["client_id"]}
    assert (await stranger.post("/token", data=form)).json()["access_token"]
    wrong = await stranger.post("/token", data={**form, "refresh_token": "other"})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")


@pytest.mark.asyncio
async def test_the_metadata_server_gives_a_token(stranger: httpx.AsyncClient) -> None:
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    answer = await stranger.get(path, headers={"Metadata-Flavor": "Google"})
    assert answer.headers["Metadata-Flavor"] == "Google"
    assert answer.json()["access_token"]
    assert (await stranger.get(path)).status_code == 403


@pytest.mark.parametrize(
    "path", ["/storage/v1/b?project=p", "/download/storage/v1/b/x/o/y?alt=media", "/v1/projects/p/topics"]
)
@pytest.mark.asyncio
async def test_a_request_without_a_token_is_a_401(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.asyncio
async def test_the_error_of_a_401(server: GCSServer, client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    assert_error(await stranger.get("/storage/v1/b?project=p"), 401, "required", "Login Required")
    assert (await client.get("/storage/v1/b?project=p")).status_code == 200
    server.revoke_tokens()
    assert_error(await client.get("/storage/v1/b?project=p"), 401, "authError", "Invalid Credentials")


@pytest.mark.asyncio
async def test_a_token_past_its_lifetime_is_401() -> None:
    async with GCSServer(token_lifetime=0) as server, httpx.AsyncClient(base_url=server.url) as client:
        headers = {"Authorization": f"Bearer {server.issue_token()}"}
        assert_error(await client.get("/storage/v1/b?project=p", headers=headers), 401, "authError")


@pytest.mark.asyncio
async def test_anonymous_needs_no_credentials() -> None:
    async with GCSServer(anonymous=True) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/storage/v1/b?project=p")).json() == {"kind": "storage#buckets"}


def self_signed(server: GCSServer, **changes: Any) -> str:
    """Return a JWT to use as an access token; a claim of None is left out."""
    info, now = server.service_account_info, int(time.time())
    email = info["client_email"]
    claims = {"iss": email, "sub": email, "aud": f"{server.url}/", "iat": now, "exp": now + 3600, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, info["private_key"], algorithm="RS256")


@pytest.mark.parametrize(
    "changes",
    [{}, {"aud": "https://storage.googleapis.com/"}, {"aud": None, "scope": f"openid {SCOPE}"}],
    ids=["own-audience", "google-audience", "scope"],
)
@pytest.mark.asyncio
async def test_a_self_signed_jwt_is_accepted(
    server: GCSServer, stranger: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {self_signed(server, **changes)}"}
    assert (await stranger.get("/storage/v1/b?project=p", headers=headers)).status_code == 200
    assert server.tokens_issued == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other@project.iam.gserviceaccount.com"},
        {"sub": "other@project.iam.gserviceaccount.com"},
        {"sub": None},
        {"aud": "https://elsewhere.example/"},
        {"aud": None},
        {"scope": SCOPE},
        {"aud": None, "scope": "https://www.googleapis.com/auth/drive"},
        {"exp": int(time.time()) - 3600},
        {"exp": int(time.time()) + 7300},
        {"exp": None},
    ],
    ids=[
        "issuer",
        "subject",
        "no-subject",
        "audience",
        "no-audience",
        "audience-and-scope",
        "scope",
        "expired",
        "too-long",
        "no-expiry",
    ],
)
@pytest.mark.asyncio
async def test_a_self_signed_jwt_that_is_refused(
    server: GCSServer, stranger: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {self_signed(server, **changes)}"}
    assert_error(await stranger.get("/storage/v1/b?project=p", headers=headers), 401, "authError")


@pytest.mark.asyncio
async def test_a_self_signed_jwt_needs_the_key_of_the_service_account(
    server: GCSServer, stranger: httpx.AsyncClient
) -> None:
    head, claims, signature = self_signed(server).split(".")
    other = self_signed(server, aud="https://storage.googleapis.com/").split(".")[1]
    secret = jwt.encode(jwt.decode(self_signed(server), options={"verify_signature": False}), "k" * 32, "HS256")
    for token in (f"{head}.{other}.{signature}", f"{head}.{claims}.", secret):
        headers = {"Authorization": f"Bearer {token}"}
        assert_error(await stranger.get("/storage/v1/b?project=p", headers=headers), 401, "authError")


@pytest.mark.parametrize("scheme", ["GOOG4-HMAC-SHA256", "GOOG4-RSA-SHA256", "GOOG1", "AWS4-HMAC-SHA256"])
@pytest.mark.asyncio
async def test_signatures_in_the_authorization_header_are_not_implemented(
    stranger: httpx.AsyncClient, scheme: str
) -> None:
    answer = await stranger.get("/my-bucket/a", headers={"Authorization": f"{scheme} Credential=x"})
    assert_xml_error(answer, 501, "NotImplemented")
    assert scheme.lower() in answer.text.lower()
