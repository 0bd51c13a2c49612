"""Foreign clients of resumable uploads, and a browser for them. They are installed only; tests start them."""

from tests.servers.install import Debian, Node
from tests.servers.server import Software

NODE = Debian({"node": "nodejs", "npm": "npm"})

PACKAGES = Node("tus")
"""tus-js-client, Uppy, Playwright's library for browsers without a browser, esbuild, and @tus/server."""

CLIENTS = Software(name="tus_clients", needs=(Debian({"chromium": "chromium", "curl": "curl"}), NODE, PACKAGES))
