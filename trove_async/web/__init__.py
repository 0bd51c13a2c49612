"""HTTP for any store: objects served and received, changes as events, and signed URLs.

`trove_async.web.starlette` is for Starlette and FastAPI, `trove_async.web.aiohttp` for aiohttp; only they import a
framework. `signed_urls` makes an ASGI app that needs none. All of them are thin: `trove_async.web.objects` and
`trove_async.web.events` answer requests independently of the framework, and `trove_async.web.http` has the
rules of RFC 9110.
"""

from trove_async.web.asgi import ASGIApp
from trove_async.web.cors import CORS
from trove_async.web.signed import SignedURLApp, signed_urls

__all__ = ["CORS", "ASGIApp", "SignedURLApp", "signed_urls"]
