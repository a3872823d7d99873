"""Run the migrations, for alembic, within the transaction of the connection that it is given."""

from __future__ import annotations

from alembic import context

from postroom.db.schema import metadata, version

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=version.name,
    # SQLite cannot alter most things, so alembic creates a new table and copies the rows.
    render_as_batch=True,
)
context.run_migrations()
