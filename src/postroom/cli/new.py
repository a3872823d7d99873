"""`postroom new`."""

from __future__ import annotations

from pathlib import Path

import click

from postroom.cli.context import build_instant
from postroom.posts import scaffold
from postroom.settings.site import find_site, load_settings


@click.command("new")
@click.argument("title")
def command(title: str) -> None:
    """Write a new post called TITLE, a draft with today's date and an id of its own.

    The id never changes, whatever becomes of the file's name, the title or the domain: feed readers
    know the post by it. Take out `draft: true` to publish.

    \b
    postroom new "We moved"
    """
    folder = find_site(Path.cwd())
    site = load_settings(folder)
    today = build_instant(None).astimezone(site.timezone).date()
    path = scaffold.create_post(folder, site, title, today)
    click.echo(path.relative_to(folder).as_posix())
