"""`postroom new`."""

from __future__ import annotations

from pathlib import Path

import click

from postroom import config, newsroom
from postroom.cli.instant import build_instant


@click.command("new")
@click.argument("title")
def command(title: str) -> None:
    """Write a new post called TITLE, a draft with today's date and an id of its own.

    The id never changes, whatever becomes of the file's name, the title or the domain: feed readers
    know the post by it. Take out `draft: true` to publish.

    \b
    postroom new "We moved"
    """
    folder = config.find_newsroom(Path.cwd())
    site = config.load(folder)
    today = build_instant(None).astimezone(site.timezone).date()
    path = newsroom.new_post(folder, site, title, today)
    click.echo(path.relative_to(folder).as_posix())
