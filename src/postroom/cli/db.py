"""`postroom db`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from postroom.db import engine, migrate
from postroom.settings import site


@click.group("db")
def command() -> None:
    """Look after the database.

    It is SQLite in .postroom/postroom.db, or what POSTROOM_DATABASE_URL names:
    postgresql://user:password@host/name.

    \b
    postroom db upgrade
    """


@command.command("upgrade")
def upgrade() -> None:
    """Bring an older database up to this version of Postroom, whole or not at all.

    Make a copy first. An empty database needs no upgrade: it gets its tables when it is first used.

    \b
    postroom db upgrade
    """
    site_dir = site.find_site(Path.cwd())
    database = engine.make_engine(os.environ.get(engine.DATABASE_URL_VAR) or None, site_dir)
    try:
        click.echo(f"{database.name}: version {migrate.upgrade(database)}")
    finally:
        database.close()
