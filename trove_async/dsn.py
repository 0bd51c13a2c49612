"""Data source names: ``scheme://user:password@host:port/path?name=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

from trove_async.errors import InvalidArgumentError, InvalidDSNError, UnpicklableError
from trove_async.guesses import guess
from trove_async.keys import MAX_KEY_BYTES
from trove_async.paths import local_path
from trove_async.types import EMPTY

__all__ = [
    "DSN",
    "NAMED",
    "SettingsParser",
    "bucket_and_prefix",
    "check_no_secret",
    "is_name",
    "is_secret_name",
    "is_store_name",
    "parse_dsn",
    "redact",
    "trimmed_secret",
]

NAMED: Final = "trove"
"""The scheme of the DSNs that name a store of the configuration: ``trove://NAME/bucket/prefix``."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_SECRET_NAME = re.compile(
    r"secret|password|passphrase|token|signature|^sig$|^key$|_key$|accountkey|connection_string|credential|^sas$", re.I
)
_HIDDEN = "***"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


@dataclass(frozen=True, slots=True, repr=False)
class DSN:
    """The parts of a data source name, with percent-escapes undone.

    Its `str` and `repr` hide the password and every parameter with the name of a secret.

    Attributes:
        scheme: the name of the driver, in lower case.
        user, password, host, port, path: None or empty if absent. The path keeps its first slash.
        params: the names and values of the query.
    """

    scheme: str
    user: str | None = None
    password: str | None = None
    host: str = ""
    port: int | None = None
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        password = None if self.password is None else _HIDDEN
        params = [
            f"{name}={_HIDDEN if _SECRET_NAME.search(name) else quote(redact(value), safe='/:*')}"
            for name, value in self.params.items()
        ]
        return self._text(password, params)

    @property
    def holds_secret(self) -> bool:
        """Whether there is a password, or a value for a parameter with the name of a secret."""
        return bool(self.password) or any(value and is_secret_name(name) for name, value in self.params.items())

    def __reduce__(self) -> tuple[Any, ...]:
        check_no_secret(self)
        params = (self.scheme, self.user, self.password, self.host, self.port, self.path, dict(self.params))
        return DSN, params

    def __copy__(self) -> DSN:
        return self

    def __deepcopy__(self, _memo: object) -> DSN:
        return self

    def reveal(self) -> str:
        """Return the DSN as text that `parse_dsn` reads back, with its secrets: do not log or show it."""
        password = None if self.password is None else quote(self.password, safe="")
        return self._text(password, [f"{name}={quote(value, safe='')}" for name, value in self.params.items()])

    def _text(self, password: str | None, params: Sequence[str]) -> str:
        text = f"{self.scheme}://"
        if self.user is not None:
            text += quote(self.user, safe="")
            text += f":{password}@" if password is not None else "@"
        text += f"[{quote(self.host, safe=':')}]" if ":" in self.host else quote(self.host, safe="")
        if self.port is not None:
            text += f":{self.port}"
        text += quote(self.path, safe="/")
        return f"{text}?{'&'.join(params)}" if params else text

    def __repr__(self) -> str:
        return f"DSN({str(self)!r})"


def is_store_name(text: str) -> bool:
    """Tell whether a store of the configuration, or a member of a store over several, can have this name."""
    return _NAME.match(text) is not None


def is_name(text: str) -> bool:
    """Tell whether text names a store of the configuration: it is a ``NAME``, or begins with ``trove://``."""
    return is_store_name(text) or text[: len(NAMED) + 3].lower() == f"{NAMED}://"


def is_secret_name(name: str) -> bool:
    """Tell whether a parameter with this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def check_no_secret(dsn: DSN, settings: Mapping[str, Any] = EMPTY) -> None:
    """Refuse to let a DSN with its settings leave the process if one of them holds a secret.

    Raises:
        UnpicklableError: says to use a name of the configuration or the environment.
    """
    held = [name for name, value in settings.items() if value is not None and is_secret_name(name)]
    if dsn.holds_secret or held:
        what = f"the setting {held[0]!r}" if held else f"the DSN {str(dsn)!r}"
        raise UnpicklableError(
            f"{what} holds a secret, which must not be pickled or stored; name the store in trove.toml and use "
            "'trove://NAME', or leave the secret out and set the environment variables of the backend"
        )


# Each pattern begins at the start of a word: a search from every character would take quadratic time.
_USERINFO = re.compile(r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z0-9+.-]+://)(?P<user>[^\s/?#:]*):[^\s/?#]*@")
# A password may contain spaces. Without the quotes, the address of a server and a later "@" would look like one.
_QUOTED = re.compile(
    r"(?P<scheme>(?P<quote>['\"])[A-Za-z0-9+.-]+://)(?P<user>[^\n/?#:'\"]*):(?:(?!(?P=quote))[^\n/?#])*@"
)
_QUERY = re.compile(r"(?<![\w.-])(?P<name>[\w.-]+)=(?P<value>[^&\s]+)")


def redact(text: str) -> str:
    """Return text in which passwords of URLs and values of secret parameters are hidden.

    A password with a space in it is hidden if its URL is in quotes.
    """
    for pattern in (_QUOTED, _USERINFO):
        text = pattern.sub(lambda m: f"{m['scheme']}{m['user']}:{_HIDDEN}@", text)
    return _QUERY.sub(lambda m: f"{m['name']}={_HIDDEN}" if _SECRET_NAME.search(m["name"]) else m[0], text)


def parse_dsn(dsn: str) -> DSN:
    """Parse a DSN.

    A user or password that contains one of ``/?#@:`` must be percent-encoded, as in any URL (RFC 3986).

    Raises:
        InvalidDSNError: it has no scheme, a port that is not a number, a parameter without
            a value, the same parameter twice, a fragment, or a broken percent-escape.
    """
    if not isinstance(dsn, str):
        raise InvalidDSNError(f"a DSN is a str such as 'local:///srv/data', not {type(dsn).__name__}")
    scheme, separator, rest = dsn.partition("://")
    if not separator:
        raise InvalidDSNError(
            "the DSN has no scheme followed by '://'; write for example 'local:///srv/data' or 'memory://', or "
            "'trove://NAME/bucket' for a store of trove.toml"
        )
    scheme = scheme.lower()
    if not _SCHEME.match(scheme):
        raise InvalidDSNError(f"{scheme!r} is not a scheme: use letters, digits, '+', '.' and '-'")
    if "#" in rest:
        raise InvalidDSNError("the DSN contains '#'; write it as %23")
    if "\0" in rest or any(c < " " for c in rest):
        raise InvalidDSNError("the DSN contains a control character")
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    userinfo, at, hostport = authority.rpartition("@")
    user = password = None
    if at:
        raw_user, colon, raw_password = userinfo.partition(":")
        user = _unquote(raw_user, "user")
        password = _unquote(raw_password, "password") if colon else None
    host, port = _split_host(hostport)
    return DSN(scheme, user, password, host, port, _unquote(slash + path, "path"), _parse_params(query))


def _split_host(hostport: str) -> tuple[str, int | None]:
    if hostport.startswith("["):
        host, bracket, rest = hostport[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidDSNError("the brackets of the host are not closed")
        port = rest[1:]
    else:
        host, _, port = hostport.partition(":")
    if not port:
        return _unquote(host, "host"), None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidDSNError(
            "the port is not a number from 1 to 65535; in a key or password write '/' as %2F, ':' as %3A, '@' as %40"
        )
    return _unquote(host, "host"), int(port)


def _parse_params(query: str) -> dict[str, str]:
    params: dict[str, str] = {}
    if not query:
        return params
    for item in query.split("&"):
        name, equals, _ = item.partition("=")
        if not equals or not name:
            raise InvalidDSNError(f"the parameter {name!r} has no value; write name=value")
        if name in params:
            raise InvalidDSNError(f"the parameter {name!r} is given twice")
        # "+" stays a plus sign: keys in base64 contain it, and a DSN is not an HTML form.
        params[name] = _unquote(item[len(name) + 1 :], name)
    return params


def _unquote(text: str, part: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise InvalidDSNError(f"the {part} of the DSN has a '%' that does not begin an escape; write it as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidDSNError(f"the {part} of the DSN is not UTF-8 after percent-decoding") from None


def trimmed_secret(name: str, text: str) -> str:
    """Return a key or a token without the white space around it, such as the line break at the end of a file.

    Raises:
        InvalidDSNError: nothing is left, or there is a control character in it.
    """
    value = text.strip()
    if not value or not value.isprintable():
        raise InvalidDSNError(f"{name} must not be blank or hold a line break or another control character")
    return value


def bucket_and_prefix(path: str) -> tuple[str | None, str]:
    """Split the path of a DSN that names a bucket and a prefix of keys.

    A prefix in a DSN is a path: it ends with a slash, which may be left out. So ``/bucket/photos`` and
    ``/bucket/photos/`` are the same, and neither includes ``photos.txt``.

    Returns:
        The bucket, None if there is none; and the prefix for `Driver.default_prefix`, empty if there is none.

    Raises:
        InvalidDSNError: there is a prefix without a bucket, or it is so long that no key can begin with it.
    """
    bucket, _, prefix = path.removeprefix("/").partition("/")
    if not bucket:
        if prefix.strip("/"):
            raise InvalidDSNError("the DSN has a prefix and no bucket: the bucket is before it, without '//'")
        return None, ""
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    if "\0" in prefix or len(prefix.encode()) >= MAX_KEY_BYTES:
        raise InvalidDSNError(f"a prefix in a DSN has fewer than {MAX_KEY_BYTES} bytes of UTF-8, and no NUL")
    return bucket, prefix


_OPEN_ARGUMENTS: Final = ("layers", "cleanup_timeout")
"""What `trove_async.open` takes itself; a misspelt one arrives among the settings of the driver."""


class SettingsParser:
    """Parses the settings of a driver: the parameters of the DSN and the keyword arguments of ``open``.

    A driver takes each setting that it knows and then calls `finish`, which raises if one is left over.
    """

    def __init__(self, dsn: DSN, overrides: Mapping[str, Any]) -> None:
        both = sorted(set(dsn.params) & set(overrides))
        if both:
            raise InvalidDSNError(f"{both[0]!r} is given in the DSN and as an argument; give it once")
        self._scheme = dsn.scheme
        self._left: dict[str, Any] = {**dsn.params, **overrides}
        self._known: list[str] = []
        self._arguments = frozenset(overrides)

    def take(self, name: str, default: Any = None) -> Any:
        """Return a setting as it was given: a str if it comes from the DSN."""
        self._known.append(name)
        return self._left.pop(name, default)

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a setting that is a str."""
        value = self.take(name, default)
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidDSNError(f"{name} must be text that is not empty")
        return value

    def path(self, name: str) -> str | None:
        """Return a setting that is the path of a local file."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return local_path(value)
        except InvalidArgumentError:
            raise InvalidDSNError(f"{name} contains NUL, or a character that no file's name can contain") from None

    def secret(self, name: str) -> str | None:
        """Return a setting that is a key or a token; see `trimmed_secret`."""
        value = self.text(name)
        return None if value is None else trimmed_secret(name, value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a setting that is 1 or 0, or true, false, yes, no, on or off."""
        value = self.take(name, default)
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise InvalidDSNError(f"{name} must be 1 or 0, not {value!r}")

    def integer(self, name: str, default: int, *, minimum: int = 0, maximum: int | None = None) -> int:
        """Return a setting that is a whole number within bounds."""
        value = self.take(name, default)
        try:
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            number = int(value)
        except (TypeError, ValueError):
            raise InvalidDSNError(f"{name} must be a whole number, not {value!r}") from None
        if number < minimum or (maximum is not None and number > maximum):
            upper = "" if maximum is None else f" and at most {maximum}"
            raise InvalidDSNError(f"{name} must be at least {minimum}{upper}, not {number}")
        return number

    def seconds(self, name: str, default: float) -> float:
        """Return a setting that is a time in seconds, more than 0."""
        value = self.take(name, default)
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError):
            raise InvalidDSNError(f"{name} must be a number of seconds, not {value!r}") from None
        if not 0 < number < float("inf"):
            raise InvalidDSNError(f"{name} must be more than 0 seconds, not {value!r}")
        return number

    def finish(self) -> None:
        """Check that every setting was taken.

        Raises:
            InvalidDSNError: a setting is unknown; the message has the known ones.
        """
        if self._left:
            unknown = sorted(self._left)[0]
            known = ", ".join(sorted(self._known)) or "none"
            own = _OPEN_ARGUMENTS if unknown in self._arguments else ()
            meant = guess(unknown, [*self._known, *own])
            raise InvalidDSNError(f"{self._scheme} has no parameter {unknown!r}{meant}; it has: {known}")
