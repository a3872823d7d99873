"""The script that alembic executes to run the migrations.

It uses the connection in the attributes of alembic's configuration, within its transaction.
"""

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
