"""`postroom build`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from postroom import config, posts
from postroom.build import outputs
from postroom.cli import complain
from postroom.cli.instant import Instant, build_instant
from postroom.output import replace


@click.command("build")
@click.option("--output", type=click.Path(path_type=Path), help="Write here, not to `output:`.")
@click.option("--at", type=Instant(), help="Build as of this instant, such as 2026-11-22T09:00Z.")
@click.option("--drafts", is_flag=True, help="Publish drafts too, for a look at them.")
def command(output: Path | None, at: datetime | None, *, drafts: bool) -> None:
    """Build feeds, pages and digests into the output folder.

    Posts whose date has not come wait. If anything is wrong, every fault is named and nothing is
    changed. Files that did not change are not touched, files that are no longer made are removed,
    and files that Postroom did not make are left alone.

    \b
    postroom build                            into public/
    postroom build --at 2026-12-01T00:00:00Z  as it will look on that day
    """
    newsroom = config.find_newsroom(Path.cwd())
    site = config.load(newsroom)
    loaded = posts.load(newsroom, site, build_instant(at), drafts=drafts)
    complain(loaded.warnings, "warning")
    folder = output or newsroom / site.output
    files = outputs(newsroom, site, loaded.posts)
    written = replace(folder, files)
    complain(written.warnings, "warning")
    click.echo(_summary(loaded, folder))
    click.echo(
        f"{len(files)} files: {written.written} written, {written.unchanged} unchanged,"
        f" {written.removed} removed"
    )


def _summary(loaded: posts.Loaded, folder: Path) -> str:
    count = len(loaded.posts)
    parts = [f"{count} post{'s' * (count != 1)} → {folder.name}/"]
    if loaded.waiting:
        parts.append(f"{len(loaded.waiting)} waiting for their date")
    if loaded.drafts:
        parts.append(f"{len(loaded.drafts)} drafts")
    return ", ".join(parts)
