"""Foreign clients of resumable uploads, a browser for them, and the servers that benchmarks compare with.

They are installed only; tests and benchmarks start them.
"""

from tests.servers.install import Debian, Environment, Node
from tests.servers.server import Software

NODE = Debian({"node": "nodejs", "npm": "npm"})

PACKAGES = Node("tus")
"""tus-js-client, Uppy, Playwright's library for browsers without a browser, esbuild, and @tus/server."""

PYTHON_PEERS = Environment("tus-peers")
"""tuspyserver and aiohttp-tus, on the versions of uvicorn and aiohttp that the tests use."""

CLIENTS = Software(name="tus_clients", needs=(Debian({"chromium": "chromium", "curl": "curl"}), NODE, PACKAGES))

PEERS = Software(name="tus_peers", needs=(NODE, PACKAGES, PYTHON_PEERS))
