"""What Alembic runs to migrate: the connection and the version table are those of `trove_async.database.migrating`."""

from __future__ import annotations

from alembic import context

context.configure(**context.config.attributes["trove"])
context.run_migrations()
