"""Migrations by Alembic: one line of revisions, and one version table, for each component."""

from __future__ import annotations

import importlib.util
import re
import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from trove_async.errors import InvalidArgumentError, SchemaVersionError

__all__ = ["Migration"]

_COMPONENT: Final = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_ENVIRONMENT: Final = Path(__file__).parent / "environment"

_alembic_lock: Final = threading.Lock()
"""`alembic.op` and `alembic.context` are global: one migration runs at a time in a process."""


class Migration:
    """The migration of one component to its newest revision.

    Args:
        component: its name, of ``a-z``, ``0-9`` and ``_``; the version table is ``trove_COMPONENT_version``.
        package: the Python package whose modules are the revisions, as Alembic writes them.

    Raises:
        InvalidArgumentError: the name is malformed, or there is no such package.
    """

    def __init__(self, component: str, package: str) -> None:
        if not isinstance(component, str) or not _COMPONENT.match(component):
            raise InvalidArgumentError(
                f"{component!r} is not the name of a component: use 1 to 40 of a-z, 0-9 and _, beginning with a letter"
            )
        self.component = component
        self.version_table = f"trove_{component}_version"
        self._config = Config()
        # Options of Config are templates: a percent sign in a path is doubled.
        folder = _folder_of(package).replace("%", "%%")
        self._config.set_main_option("script_location", str(_ENVIRONMENT).replace("%", "%%"))
        self._config.set_main_option("version_locations", folder)
        self._config.set_main_option("path_separator", "newline")

    def upgrade(self, connection: Connection) -> None:
        """Run the revisions that the database lacks, in the transaction of the connection.

        Raises:
            SchemaVersionError: the database has a revision that the package lacks.
        """
        options = {"connection": connection, "version_table": self.version_table}
        with _alembic_lock:
            self._refuse_newer(connection)
            self._config.attributes["trove"] = options
            command.upgrade(self._config, "head")

    def _refuse_newer(self, connection: Connection) -> None:
        script = ScriptDirectory.from_config(self._config)
        context = MigrationContext.configure(connection, opts={"version_table": self.version_table})
        for revision in context.get_current_heads():
            try:
                script.get_revision(revision)
            except CommandError:
                raise SchemaVersionError(
                    f"the database is at revision {revision!r} of {self.component!r}, which this version of the "
                    "library does not know: a newer one has migrated it. Upgrade the library here, too"
                ) from None


def _folder_of(package: str) -> str:
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise InvalidArgumentError(f"there is no package {package!r} with migrations")
    return found.submodule_search_locations[0]
