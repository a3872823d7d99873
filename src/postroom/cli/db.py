"""The commands `postroom db …`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from postroom.cli.context import moves_ledger, open_site_store
from postroom.db import engine, migrate
from postroom.db.ownership import make_place
from postroom.db.runs import lost_lease
from postroom.settings import site


@click.group("db")
def command() -> None:
    """Upgrade the database, or claim it after a move.

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


@command.command("claim")
def claim() -> None:
    """Declare that this database is the one to send from.

    An SQLite file belongs to the site, machine and path where it was made. If it was copied or
    moved, `send` refuses it until you claim it: two copies would send every email twice. Delete
    the other copies first, as they cannot know of the claim. A PostgreSQL database belongs to a
    site.

    \b
    Example:
      postroom db claim
    """
    site_dir = site.find_site(Path.cwd())
    site_id = site.load_settings(site_dir).id
    with open_site_store(site_dir) as store, store.database.locked() as is_ours:
        if not is_ours:
            raise lost_lease()
        place = make_place(store.database, site_id, moves=moves_ledger())
        store.claim.replace(place)
        where = f", this machine and {place.path}" if place.machine else ""
        click.echo(f"{store.database.name}: claimed for {site_id}{where}")
