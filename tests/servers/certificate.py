"""A certificate for 127.0.0.1 that is its own authority."""

from dataclasses import dataclass
from pathlib import Path

from tests.servers.launch import Launch

# All extensions are explicit: Python 3.13 and newer verify strictly, and openssl's defaults differ by system.
_CONFIGURATION = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = localhost
[extensions]
subjectAltName = DNS:localhost,IP:127.0.0.1
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature,keyCertSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key, in PEM."""

    certificate: Path
    key: Path


def make_certificate(launch: Launch) -> Certificate:
    """Write `cert.pem` and `key.pem` to the folder of the launch; they are valid for a month."""
    launch.write("openssl.cnf", _CONFIGURATION)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-config", "openssl.cnf", "-keyout", "key.pem", "-out", "cert.pem"]
    launch.run("openssl", "req", "-x509", *curve, "-days", "30", *files)
    return Certificate(launch.folder / "cert.pem", launch.folder / "key.pem")
