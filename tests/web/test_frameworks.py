"""The behaviour that the responses and uploads of all frameworks share."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from importlib.abc import MetaPathFinder
from typing import Any

import pytest
from aiohttp import web
from starlette.responses import Response

import trove_async as trove
from tests.web.sites import FRAMEWORKS, site
from trove_async.errors import ContentTooLargeError
from trove_async.layers import LayerDriver, Operation
from trove_async.testing.faults import Fault, Faults
from trove_async.web import aiohttp as for_aiohttp
from trove_async.web import starlette as for_starlette
from trove_async.web.objects import receive_object

pytestmark = pytest.mark.asyncio

frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
responses = pytest.mark.parametrize("response", [for_starlette.ObjectResponse, for_aiohttp.ObjectResponse])
DATA = bytes(range(100))


# Serving


@frameworks
async def test_an_object_is_served_with_its_stored_headers(framework: str, store: trove.Trove) -> None:
    info = await store.put(
        "b",
        "a.png",
        DATA,
        cache_control="max-age=60",
        content_disposition="inline",
        content_encoding="identity",
        metadata={"owner": "an internal id"},
    )
    async with site(framework, store) as client:
        answer = await client.get("/o/a.png")
        head = await client.head("/o/a.png")
    assert (answer.status_code, answer.content) == (200, DATA)
    assert (head.status_code, head.content) == (200, b"")
    expected = {
        "content-length": "100",
        "content-type": "image/png",
        "cache-control": "max-age=60",
        "content-disposition": "inline",
        "content-encoding": "identity",
        "etag": f'"{info.etag}"',
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }
    assert expected.items() <= dict(answer.headers).items()
    assert expected.items() <= dict(head.headers).items()
    assert "internal" not in str(answer.headers) + str(head.headers)


@frameworks
async def test_headers_of_the_application_override_stored_ones(framework: str, store: trove.Trove) -> None:
    info = await store.put("b", "k", DATA, content_type="text/html", cache_control="max-age=60")
    respond = {
        "content_type": "text/plain",
        "disposition": "attachment",
        "headers": {"cache-control": "no-store", "X-Mine": "1"},
    }
    async with site(framework, store, respond) as client:
        for headers, status in (({}, 200), ({"Range": "bytes=0-1"}, 206), ({"If-None-Match": f'"{info.etag}"'}, 304)):
            answer = await client.get("/o/k", headers=headers)
            assert answer.status_code == status
            assert answer.headers.get_list("cache-control") == ["no-store"]
            assert answer.headers["x-mine"] == "1"
            if status != 304:
                assert answer.headers["content-type"] == "text/plain"
                assert answer.headers["content-disposition"] == 'attachment; filename="k"'
        for path, headers, status in (("/o/missing", {}, 404), ("/o/k", {"If-Match": '"other"'}, 412)):
            refused = await client.get(path, headers=headers)
            assert refused.status_code == status
            assert "cache-control" not in refused.headers
            assert refused.headers["content-type"] == "application/json"


@frameworks
async def test_ranges_and_conditions_apply_to_get_only(framework: str, store: trove.Trove) -> None:
    await store.put("b", "k", DATA)
    async with site(framework, store) as client:
        answer = await client.post("/o/k", headers={"Range": "bytes=0-1", "If-Match": '"other"'})
    assert (answer.status_code, answer.content) == (200, DATA)


@frameworks
async def test_a_version_is_served(framework: str, store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    old = await store.put("b", "k", b"old")
    await store.put("b", "k", b"new")
    async with site(framework, store, {"version_id": old.version_id}) as client:
        assert (await client.get("/o/k")).content == b"old"


@frameworks
async def test_keys_and_filenames_in_any_script(framework: str, store: trove.Trove) -> None:
    await store.put("b", "ü/☃ 100%.txt", DATA)
    async with site(framework, store, {"disposition": "inline"}) as client:
        answer = await client.get("/o/%C3%BC/%E2%98%83%20100%25.txt")
    assert answer.content == DATA
    expected = "inline; filename=\"_ 100_.txt\"; filename*=UTF-8''%E2%98%83%20100%25.txt"
    assert answer.headers["content-disposition"] == expected


@responses
@pytest.mark.parametrize(
    "arguments",
    [{"content_type": "text/plain\r\nX-Evil: 1"}, {"content_type": "nonsense"}, {"disposition": "inline\r\nX-Evil: 1"}],
    ids=str,
)
async def test_an_invalid_header_is_refused(
    response: Callable[..., object], arguments: dict[str, Any], store: trove.Trove
) -> None:
    with pytest.raises(ValueError, match=r"is not valid in a header|is not a media type|'inline' or 'attachment'"):
        response(store, "b", "k", **arguments)


class Opened(LayerDriver):
    """Records the operations."""

    async def around(self, operation: Operation, call: Callable[[], Any]) -> Any:
        self.seen = [*getattr(self, "seen", []), operation.name]
        return await call()


@responses
async def test_a_response_that_is_never_sent_opens_no_object(
    response: Callable[..., Response | web.StreamResponse],
) -> None:
    async with trove.open("memory://", layers=[Opened]) as store:
        response(store, "b", "k")
        assert not hasattr(trove.unwrap(store.driver, Opened), "seen")


@frameworks
@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (trove.ThrottledError(retry_after=1.5), 503, "2"),
        (trove.UnavailableError(), 503, "1"),
        (trove.AccessDeniedError(), 403, None),
        (trove.StorageFullError(), 507, None),
        (trove.BackendError("secret"), 500, None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_of_reads_and_writes_have_the_same_answers(
    framework: str, error: trove.TroveError, status: int, retry_after: str | None
) -> None:
    faults = Faults([Fault("get", error=error), Fault("put", error=error)])
    async with trove.open("memory://", layers=[faults]) as store, site(framework, store) as client:
        await store.create_bucket("b")
        for answer in (await client.get("/o/k"), await client.put("/o/k", content=DATA)):
            assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
            assert answer.json()["code"] == type(error).__name__.removesuffix("Error")
            assert "secret" not in answer.text


# Receiving


@frameworks
async def test_headers_about_the_bytes_are_stored_and_headers_about_caching_are_not(
    framework: str, store: trove.Trove
) -> None:
    headers = {
        "Content-Type": "image/png",
        "Content-Language": "de",
        "Cache-Control": "no-cache",  # browsers send it when a page is reloaded
        "Content-Disposition": "attachment",
    }
    async with site(framework, store) as client:
        assert (await client.put("/o/k", content=DATA, headers=headers)).json() == {"size": 100}
    info = await store.head("b", "k")
    assert (info.content_type, info.content_language) == ("image/png", "de")
    assert (info.cache_control, info.content_disposition) == (None, None)
    assert await store.read("b", "k") == DATA


@frameworks
async def test_arguments_of_put_override_the_request(framework: str, store: trove.Trove) -> None:
    accept = {"content_type": "text/plain", "metadata": {"by": "me"}, "checksum": "sha256", "if_none_match": "*"}
    async with site(framework, store, accept=accept) as client:
        assert (await client.put("/o/k", content=DATA, headers={"Content-Type": "text/html"})).status_code == 200
        assert (await client.put("/o/k", content=b"new")).status_code == 412
    info = await store.head("b", "k")
    assert (info.content_type, dict(info.metadata), list(info.checksums)) == ("text/plain", {"by": "me"}, ["sha256"])


@frameworks
async def test_conditions_of_an_upload(framework: str, store: trove.Trove) -> None:
    async with site(framework, store) as client:
        assert (await client.put("/o/k", content=b"1", headers={"If-Match": "*"})).status_code == 412
        assert (await client.put("/o/k", content=b"1", headers={"If-None-Match": "*"})).status_code == 200
        exists = await client.put("/o/k", content=b"2", headers={"If-None-Match": "*"})
        assert (exists.status_code, exists.json()["code"]) == (412, "ObjectAlreadyExists")
        etag = (await store.head("b", "k")).etag
        assert (await client.put("/o/k", content=b"3", headers={"If-Match": f'"{etag}"'})).status_code == 200
        assert (await client.put("/o/k", content=b"4", headers={"If-Match": f'"{etag}"'})).status_code == 412
    assert await store.read("b", "k") == b"3"


@frameworks
async def test_an_upload_that_declares_too_many_bytes_is_refused_unread(framework: str, store: trove.Trove) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield DATA

    async with site(framework, store, accept={"max_size": 99}) as client:
        answer = await client.put("/o/k", content=body(), headers={"Content-Length": "100"})
        assert (answer.status_code, answer.json()["code"]) == (413, "ContentTooLarge")
        assert not await store.exists("b", "k")
        assert (await client.put("/o/k", content=DATA[:99])).status_code == 200


@frameworks
async def test_an_upload_with_too_many_bytes_stores_nothing(framework: str, store: trove.Trove) -> None:
    async def body(size: int) -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b"x"

    await store.put("b", "k", b"old")
    async with site(framework, store, accept={"max_size": 9}) as client:
        assert (await client.put("/o/k", content=body(10))).status_code == 413
        assert await store.read("b", "k") == b"old"
        assert (await client.put("/o/k", content=body(9))).status_code == 200
        assert await store.read("b", "k") == b"x" * 9


async def test_the_source_of_a_body_that_is_not_read_to_its_end_is_closed(store: trove.Trove) -> None:
    closed: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        try:
            for _ in range(10):
                yield b"x"
        finally:
            closed.append(True)

    with pytest.raises(ContentTooLargeError):
        await receive_object(store, trove.ObjectRef("b", "k"), {}, body(), max_size=9)
    assert closed == [True]


@frameworks
async def test_an_invalid_upload_is_refused(framework: str, store: trove.Trove) -> None:
    async with site(framework, store) as client:
        for headers in ({"Content-Range": "bytes 0-1/2"}, {"Content-Type": "nonsense"}, {"If-Match": '"a", "b"'}):
            assert (await client.put("/o/k", content=b"ab", headers=headers)).status_code == 400
    assert not await store.exists("b", "k")


# Architecture


async def test_only_the_modules_for_a_framework_import_it() -> None:
    loaded = "print(*{m.partition('.')[0] for m in sys.modules} & {'starlette', 'fastapi', 'aiohttp', 'uvicorn'})"

    def imported_with(module: str) -> set[str]:
        command = [sys.executable, "-c", f"import sys, {module}; {loaded}"]
        return {*subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()}

    assert imported_with("trove_async.web, trove_async.web.events, trove_async.web.objects") == set()
    assert imported_with("trove_async.web.starlette") == {"starlette"}
    assert imported_with("trove_async.web.aiohttp") == {"aiohttp"}


SECRET = (
    "arn:aws:iam::123456789012:user/app is not authorized for internal-bucket, key id AKIAIOSFODNN7EXAMPLE, /srv/data"
)


@frameworks
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (trove.AccessDeniedError(SECRET, status=403), 500, "Backend"),
        (trove.UnauthenticatedError(SECRET, request_id="1"), 500, "Backend"),
        (trove.AccessDeniedError(SECRET), 403, "AccessDenied"),
        (trove.errors.RootNotFoundError(SECRET), 500, "Backend"),
        (trove.ObjectNotFoundError(SECRET, status=404), 404, "ObjectNotFound"),
        (trove.BucketNotFoundError(SECRET), 404, "BucketNotFound"),
        (trove.InvalidArgumentError(SECRET, status=400), 400, "InvalidArgument"),
        (trove.errors.InvalidBucketNameError(SECRET), 400, "InvalidBucketName"),
        (trove.PreconditionFailedError(SECRET, status=412), 412, "PreconditionFailed"),
        (trove.errors.ConflictError(SECRET), 503, "Conflict"),
        (trove.UnsupportedError(SECRET), 501, "Unsupported"),
        (trove.ChecksumError(SECRET, status=400), 400, "Checksum"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_messages_of_a_backend_do_not_reach_clients(
    framework: str, error: trove.TroveError, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults([Fault("get", error=error), Fault("put", error=error)])
    async with trove.open("memory://", layers=[faults]) as store, site(framework, store) as client:
        await store.create_bucket("b")
        for answer in (await client.get("/o/k"), await client.put("/o/k", content=DATA)):
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert answer.json()["message"] == type(error).default_message or status == 500
            assert not any(word in answer.text + str(answer.headers) for word in ("arn:", "internal", "AKIA", "/srv"))
    logged = [record for record in caplog.records if record.name == "trove_async.web"]
    assert len(logged) == (2 if status >= 500 else 0)
    assert all(SECRET in record.getMessage() and record.exc_info for record in logged)


@frameworks
async def test_calls_that_a_breaker_refuses_are_logged_without_a_traceback(
    framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults([Fault("get", error=trove.UnavailableError("no route to host"))])
    breaker = trove.CircuitBreaker("files", threshold=1)
    async with trove.open("memory://", layers=[faults, breaker]) as store, site(framework, store) as client:
        for _ in range(2):
            assert (await client.get("/o/k")).status_code == 503
    failed, refused = (record for record in caplog.records if record.name == "trove_async.web")
    assert failed.exc_info
    assert not refused.exc_info
    assert "'files' is open" in refused.getMessage()
    assert "no route to host" in refused.getMessage()


@frameworks
async def test_a_quota_that_is_used_up_is_no_fault(framework: str, caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults([Fault("get", error=trove.QuotaExceededError())])
    with caplog.at_level(logging.INFO, "trove_async.web"):
        async with trove.open("memory://", layers=[faults]) as store, site(framework, store) as client:
            assert (await client.get("/o/k")).status_code == 507
    [record] = (record for record in caplog.records if record.name == "trove_async.web")
    assert record.levelno == logging.INFO


@frameworks
async def test_errors_in_a_request_are_explained(framework: str, store: trove.Trove) -> None:
    async with site(framework, store) as client:
        answer = await client.put("/o/" + "k" * 2000, content=DATA)
        assert (answer.status_code, answer.json()["code"]) == (400, "InvalidKey")
        assert "2000 bytes" in answer.json()["message"]


@frameworks
@pytest.mark.parametrize(
    ("retry_after", "answered"),
    [(0.2, "1"), (0, "0"), (1e9, "300"), (float("inf"), "1"), (float("nan"), "1"), (-5, "0"), (None, "1")],
)
async def test_retry_after_is_bounded(framework: str, retry_after: float | None, answered: str) -> None:
    faults = Faults([Fault("get", error=trove.ThrottledError(retry_after=retry_after))])
    async with trove.open("memory://", layers=[faults]) as store, site(framework, store) as client:
        assert (await client.get("/o/k")).headers["retry-after"] == answered


@pytest.mark.parametrize(
    ("module", "package", "extras"),
    [
        ("trove_async.web.starlette", "starlette", ("trove-async[starlette]", "trove-async[fastapi]")),
        ("trove_async.web.aiohttp", "aiohttp", ("trove-async[aiohttp]",)),
    ],
)
async def test_a_framework_that_is_missing_is_named_with_its_extra(
    module: str, package: str, extras: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    for name in list(sys.modules):
        if name == module or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(trove.MissingDependencyError) as raised:
        importlib.import_module(module)
    assert isinstance(raised.value, ImportError)
    assert all(extra in str(raised.value) for extra in extras)
