from __future__ import annotations

from typing import Any

import pytest

from trove_async.driver import (
    CopyOptions,
    DeleteOptions,
    ExpireByDelete,
    GetOptions,
    LifecycleDeleteBySet,
    PresignByMethod,
    PresignDriver,
    PresignOptions,
    PresignPostOptions,
    RangeByGet,
    RangeDriver,
    ServerCopyByCopy,
    ServerCopyDriver,
    TagsDeleteBySet,
    VersionsByOptions,
)
from trove_async.errors import UnsupportedError
from trove_async.ranges import ByteRange
from trove_async.types import ObjectRef

pytestmark = pytest.mark.anyio


class Recorder(
    RangeByGet,
    ServerCopyByCopy,
    VersionsByOptions,
    PresignByMethod,
    ExpireByDelete,
    TagsDeleteBySet,
    LifecycleDeleteBySet,
):
    """Records the calls that the mixins make; each call returns its own name."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def get(self, *arguments: Any) -> Any:
        return self._record("get", *arguments)

    async def delete(self, *arguments: Any) -> None:
        self._record("delete", *arguments)

    async def copy(self, *arguments: Any) -> Any:
        return self._record("copy", *arguments)

    async def presign(self, *arguments: Any) -> str:
        return self._record("presign", *arguments)

    async def set_tags(self, *arguments: Any) -> None:
        self._record("set_tags", *arguments)

    async def set_lifecycle(self, *arguments: Any) -> None:
        self._record("set_lifecycle", *arguments)

    def _record(self, name: str, *arguments: Any) -> str:
        self.calls.append((name, *arguments))
        return name


@pytest.fixture
def driver() -> Recorder:
    return Recorder()


def test_a_driver_that_inherits_the_mixins_has_their_capabilities(driver: Recorder) -> None:
    assert isinstance(driver, RangeDriver)
    assert isinstance(driver, ServerCopyDriver)
    assert isinstance(driver, PresignDriver)


@pytest.mark.parametrize(("length", "expected"), [(5, ByteRange(3, 5)), (-1, ByteRange(3, None))])
async def test_get_range_calls_get(driver: Recorder, length: int, expected: ByteRange) -> None:
    assert await driver.get_range("b", "k", 3, length) == "get"  # type: ignore[comparison-overlap]
    assert driver.calls == [("get", "b", "k", GetOptions(range=expected))]


@pytest.mark.parametrize(
    ("version_id", "given", "expected"),
    [
        (None, None, CopyOptions()),
        ("v1", None, CopyOptions(source_version_id="v1")),
        (None, CopyOptions(source_version_id="v2"), CopyOptions(source_version_id="v2")),
        ("v1", CopyOptions(if_match="e"), CopyOptions(if_match="e", source_version_id="v1")),
    ],
)
async def test_server_copy_calls_copy(
    driver: Recorder, version_id: str | None, given: CopyOptions | None, expected: CopyOptions
) -> None:
    assert await driver.server_copy(ObjectRef("b", "k", version_id), ObjectRef("c", "l"), given) == "copy"  # type: ignore[comparison-overlap]
    assert driver.calls == [("copy", "b", "k", "c", "l", expected)]


async def test_a_version_is_passed_as_an_option(driver: Recorder) -> None:
    await driver.get_version("b", "k", "v")
    await driver.delete_version("b", "k", "v")
    await driver.restore_version("b", "k", "v")
    assert driver.calls == [
        ("get", "b", "k", GetOptions(version_id="v")),
        ("delete", "b", "k", DeleteOptions(version_id="v")),
        ("copy", "b", "k", "b", "k", CopyOptions(source_version_id="v")),
    ]


async def test_every_signed_url_comes_from_one_method(driver: Recorder) -> None:
    options = PresignOptions(expires=60)
    for sign in (driver.presign_get, driver.presign_put, driver.presign_head, driver.presign_delete):
        assert await sign("b", "k", options) == "presign"
    assert driver.calls == [("presign", method, "b", "k", options) for method in ("GET", "PUT", "HEAD", "DELETE")]


async def test_forms_are_refused_unless_the_driver_has_them(driver: Recorder) -> None:
    with pytest.raises(UnsupportedError, match="recorder has no signed forms"):
        await driver.presign_post("b", "k", PresignPostOptions(max_size=1))


async def test_deleting_tags_or_rules_sets_them_to_nothing(driver: Recorder) -> None:
    await driver.delete_tags("b", "k")
    await driver.delete_lifecycle("b")
    await driver.expire("b", "k", "e")
    assert driver.calls == [
        ("set_tags", "b", "k", {}),
        ("set_lifecycle", "b", ()),
        ("delete", "b", "k", DeleteOptions(if_match="e")),
    ]
