"""Where an ASGI app is mounted, and the path below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from trove_async.uploads.asgi import split_path

ROWS: Final[Mapping[str, tuple[Mapping[str, Any], str, str]]] = {
    "alone": ({"path": "/id"}, "", "/id"),
    "alone, the collection": ({"path": "/"}, "", "/"),
    "alone, no path": ({"path": ""}, "", ""),
    "mounted": ({"root_path": "/files", "path": "/files/id"}, "/files", "/id"),
    "mounted, the collection": ({"root_path": "/files", "path": "/files/"}, "/files", "/"),
    "mounted, without a slash": ({"root_path": "/files", "path": "/files"}, "/files", ""),
    "mounted by an old Starlette": ({"root_path": "/files", "path": "/id"}, "/files", "/id"),
    "mounted twice": ({"root_path": "/a/files", "path": "/a/files/id"}, "/a/files", "/id"),
    "a path that begins alike": ({"root_path": "/files", "path": "/files2/id"}, "/files", "/files2/id"),
    "a root with a slash": ({"root_path": "/files/", "path": "/files/id"}, "/files", "/id"),
    "a proxy keeps its prefix": (
        {"root_path": "/api/files", "app_root_path": "/api", "path": "/api/files/id"},
        "/api/files",
        "/id",
    ),
    "a proxy removes its prefix": (
        {"root_path": "/api/files", "app_root_path": "/api", "path": "/files/id"},
        "/api/files",
        "/id",
    ),
    "a proxy removes its prefix, and the app is served alone": ({"root_path": "/api", "path": "/id"}, "/api", "/id"),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_path_is_split(name: str) -> None:
    scope, root, path = ROWS[name]
    assert split_path(dict(scope)) == (root, path)
