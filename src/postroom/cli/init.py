"""`postroom init`."""

from __future__ import annotations

from pathlib import Path

import click

from postroom.cli.context import build_instant
from postroom.posts import scaffold


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Make a new newsroom in DIRECTORY that builds at once.

    It holds postroom.yaml, two sample posts and a .gitignore. Files that are there already are
    never overwritten; a .gitignore gets the lines that it lacks, so a git repository can become a
    newsroom: postroom init .

    \b
    postroom init my-news
    cd my-news
    postroom build
    """
    files = scaffold.create_site(directory, build_instant(None).date())
    for name in files:
        click.echo(f"{directory / name}")
    way = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    click.echo(f"Next: {way}postroom build")
