"""`postroom new`: write a new post."""

from __future__ import annotations

from pathlib import Path

import click

from postroom.cli.context import build_instant
from postroom.posts import scaffold
from postroom.settings.site import find_site, load_settings


@click.command("new")
@click.argument("title")
def command(title: str) -> None:
    """Write a new post called TITLE: a draft with today's date and a new id.

    The id never changes, even if you rename the file, reword the title or move to another domain:
    feed readers know the post by it. Remove `draft: true` to publish.

    \b
    Example:
      postroom new "We moved"
    """
    folder = find_site(Path.cwd())
    site = load_settings(folder)
    today = build_instant(None).astimezone(site.timezone).date()
    path = scaffold.create_post(folder, site, title, today)
    click.echo(path.relative_to(folder).as_posix())
