"""The commands `postroom db …`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from postroom.db import engine, migrate
from postroom.settings import site


@click.group("db")
def command() -> None:
    """Upgrade the database.

    It is the SQLite file .postroom/postroom.db, or the database at POSTROOM_DATABASE_URL, for
    example postgresql://user:password@host/name.

    \b
    Example:
      postroom db upgrade
    """


@command.command("upgrade")
def upgrade() -> None:
    """Upgrade the tables of an older version of Postroom, in one transaction.

    Make a backup first. A new database needs no upgrade.

    \b
    Example:
      postroom db upgrade
    """
    site_dir = site.find_site(Path.cwd())
    database = engine.make_engine(os.environ.get(engine.DATABASE_URL_VAR) or None, site_dir)
    try:
        click.echo(f"{database.name}: version {migrate.upgrade(database)}")
    finally:
        database.close()
