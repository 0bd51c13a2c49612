"""nginx with PUT, GET and DELETE of files (Debian package): so fast that a benchmark measures only the client.

`write_configuration` and `command` are for other sites too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import Debian
from tests.servers.launch import HOST, Launch, answers
from tests.servers.server import Server

# Paths are relative to the folder given with -p.
_CONFIGURATION = """\
# One process is all that a client can keep busy, and it leaves no worker behind when it is killed.
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path body;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    # Clients of S3 want an ETag from a PUT as well. A GET keeps the one that it has by itself.
    map $request_method $etag {{ PUT '"00000000000000000000000000000000"'; default $sent_http_etag; }}
    server {{
        listen {host}:{port};
{site}
    }}
}}
"""

# https://nginx.org/en/docs/http/ngx_http_dav_module.html
_FILES = """\
        root data;
        dav_methods PUT DELETE;
        create_full_put_path on;
        add_header ETag $etag always;"""


@dataclass(frozen=True)
class Nginx:
    """The handle of nginx, which stores files under any path and ignores Authorization and queries."""

    endpoint: str


def write_configuration(folder: Path, port: int, site: str) -> None:
    """Write the configuration of a server on this port; `site` has the directives of its block."""
    text = _CONFIGURATION.format(host=HOST, port=port, site=site)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")


def command(folder: Path) -> Sequence[str]:
    """Return the command of a server whose configuration and files are in this folder."""
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"]


def _start(launch: Launch) -> Nginx:
    port = launch.port()
    (launch.folder / "data").mkdir()
    write_configuration(launch.folder, port, _FILES)
    server = launch.spawn("nginx", command(launch.folder))
    launch.wait(server, lambda: answers(port), "an answer")
    return Nginx(endpoint=f"http://{HOST}:{port}")


SERVER = Server(name="nginx", handle=Nginx, needs=(Debian({"nginx": "nginx-light"}),), start=_start)
