"""`postroom init`: make a new site."""

from __future__ import annotations

from pathlib import Path

import click

from postroom.cli.context import build_instant
from postroom.posts import scaffold


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Make a new site in DIRECTORY, ready to build.

    It holds postroom.yaml, two sample posts and a .gitignore. Existing files are never overwritten;
    an existing .gitignore gets the lines that it lacks, so a git repository can become a site:
    postroom init .

    \b
    Example:
      postroom init my-news
      cd my-news
      postroom build
    """
    files = scaffold.create_site(directory, build_instant(None).date())
    for name in files:
        click.echo(f"{directory / name}")
    change_folder = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    click.echo(f"Next: {change_folder}postroom build")
