"""`postroom build`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from postroom import config, posts, sitepaths
from postroom.build import outputs
from postroom.cli import complain
from postroom.cli.instant import Instant, build_instant
from postroom.errors import Problem, UseError
from postroom.model import Site
from postroom.output import replace
from postroom.theme import Theme


@click.command("build")
@click.option("--output", type=click.Path(path_type=Path), help="Write here, not to `output:`.")
@click.option("--at", type=Instant(), help="Build as of this instant, such as 2026-11-22T09:00Z.")
@click.option("--drafts", is_flag=True, help="Publish drafts too, for a look at them.")
def command(output: Path | None, at: datetime | None, *, drafts: bool) -> None:
    """Build feeds, pages and digests into the output folder.

    Posts whose date or publishDate has not come wait, and those whose expiryDate has come are
    left out. If anything is wrong, every fault is named and nothing is
    changed. Files that did not change are not touched, files that are no longer made are removed,
    and files that Postroom did not make are left alone.

    \b
    postroom build                            into public/
    postroom build --at 2026-12-01T00:00:00Z  as it will look on that day
    """
    newsroom = config.find_newsroom(Path.cwd())
    site = config.load(newsroom)
    folder = Path.cwd() / output if output else newsroom / site.output
    if output and (fault := sitepaths.output_fault(newsroom, folder, config.sources(site))):
        what = f"'{output}' {fault}"
        raise UseError([Problem("--output", what=what, repair=config.OUTPUT_HINT)])
    loaded = posts.load(newsroom, site, build_instant(at), drafts=drafts)
    complain([*loaded.warnings, *unspoken(newsroom, site)], "warning")
    files = outputs(newsroom, site, loaded.posts)
    written = replace(folder, files)
    complain(written.warnings, "warning")
    click.echo(
        f"{_summary(loaded, folder)}: {written.written} files written,"
        f" {written.unchanged} unchanged, {written.removed} removed"
    )
    if not loaded.posts:
        click.echo('no post is published yet; write one with: postroom new "What happened"')


def unspoken(newsroom: Path, site: Site) -> list[Problem]:
    """Return a warning if the theme has no words for the newsroom's language."""
    if Theme(newsroom, site.language).speaks:
        return []
    what = f"the theme has no words for '{site.language}', so it speaks English"
    repair = f"translate templates/words/en.yaml as templates/words/{site.language}.yaml"
    rule = "settings-language"
    return [Problem(config.FILE_NAME, key="language", what=what, repair=repair, rule=rule)]


def _summary(loaded: posts.Loaded, folder: Path) -> str:
    count = len(loaded.posts)
    parts = [f"{count} post{'s' * (count != 1)} → {folder.name}/"]
    if loaded.waiting:
        parts.append(f"{len(loaded.waiting)} waiting for their date")
    if loaded.drafts:
        parts.append(f"{len(loaded.drafts)} draft{'s' * (len(loaded.drafts) != 1)}")
    if loaded.expired:
        parts.append(f"{len(loaded.expired)} expired")
    return ", ".join(parts)
