"""`postroom build`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from postroom.cli.console import print_problems
from postroom.cli.context import InstantType, build_instant
from postroom.errors import Problem, UseError
from postroom.models import Site
from postroom.posts import loader
from postroom.publish.build import make_outputs
from postroom.publish.output import replace_output
from postroom.settings import paths
from postroom.settings.site import FILE_NAME, OUTPUT_HINT, find_site, load_settings, sources
from postroom.theme.environment import Theme


@click.command("build")
@click.option("--output", type=click.Path(path_type=Path), help="Write here, not to `output:`.")
@click.option(
    "--at", type=InstantType(), help="Build as of this instant, such as 2026-11-22T09:00Z."
)
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
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    folder = Path.cwd() / output if output else site_dir / site.output
    if output and (fault := paths.output_fault(site_dir, folder, sources(site))):
        what = f"'{output}' {fault}"
        raise UseError([Problem("--output", message=what, hint=OUTPUT_HINT)])
    loaded = loader.load_posts(site_dir, site, build_instant(at), drafts=drafts)
    print_problems([*loaded.warnings, *missing_translation(site_dir, site)], "warning")
    files = make_outputs(site_dir, site, loaded.posts)
    written = replace_output(folder, files)
    print_problems(written.warnings, "warning")
    click.echo(
        f"{_summary(loaded, folder)}: {written.written} files written,"
        f" {written.unchanged} unchanged, {written.removed} removed"
    )
    if not loaded.posts:
        click.echo('no post is published yet; write one with: postroom new "What happened"')


def missing_translation(site_dir: Path, site: Site) -> list[Problem]:
    """Return a warning if the theme has no words for the newsroom's language."""
    if Theme(site_dir, site.language).has_translations:
        return []
    what = f"the theme has no words for '{site.language}', so it speaks English"
    repair = (
        f"translate templates/translations/en.yaml as templates/translations/{site.language}.yaml"
    )
    rule = "settings-language"
    return [Problem(FILE_NAME, key="language", message=what, hint=repair, rule=rule)]


def _summary(loaded: loader.LoadedPosts, folder: Path) -> str:
    count = len(loaded.posts)
    parts = [f"{count} post{'s' * (count != 1)} → {folder.name}/"]
    if loaded.waiting:
        parts.append(f"{len(loaded.waiting)} waiting for their date")
    if loaded.drafts:
        parts.append(f"{len(loaded.drafts)} draft{'s' * (len(loaded.drafts) != 1)}")
    if loaded.expired:
        parts.append(f"{len(loaded.expired)} expired")
    return ", ".join(parts)
