"""HTTP for any store, without a framework: an ASGI app for signed URLs, and the semantics it is made of.

`signed_urls` makes the app. `trove_async.web.objects` answers requests for objects whatever server or
framework they came through; `trove_async.web.http` holds the rules of RFC 9110.
"""

from trove_async.web.asgi import ASGIApp, SignedURLApp, signed_urls

__all__ = ["ASGIApp", "SignedURLApp", "signed_urls"]
