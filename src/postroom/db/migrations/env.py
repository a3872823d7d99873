"""Run by alembic: takes the connection, and with it the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from postroom.db.schema import metadata, version

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=version.name,
    # SQLite cannot alter most things of a table: alembic makes a new one and moves the rows.
    render_as_batch=True,
)
context.run_migrations()
