"""One asyncio API for every object store.

::

    import trove_async as trove

    async with trove.open("local:///srv/data") as t:
        await t.put("assets", "photos/a.jpg", Path("a.jpg"))
        async for obj in t.list("assets", prefix="photos/"):
            print(obj.key, obj.size)

What authors of drivers and layers need is in `trove_async.driver` and `trove_async.layers`.
"""

from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from trove_async import sync as sync
    from trove_async.api import *  # noqa: F403 - `__all__` of the module says which
    from trove_async.api import __all__ as __all__
else:  # a type checker would take every name for one of the module's

    def __getattr__(name: str) -> object:
        """Import the API when one of its names is first used, so that what needs only a part starts quickly."""
        if name == "sync":
            return _imported("sync")
        api = _imported("api")
        if name not in globals():  # unless it is a module that the API has imported
            globals()[name] = getattr(api, name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *_imported("api").__all__, "sync"})

    def _imported(name: str) -> _ModuleType:
        from importlib import import_module

        return import_module(f"trove_async.{name}")
