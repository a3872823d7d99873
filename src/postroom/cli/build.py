"""`postroom build`: build the output."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from postroom.cli.console import pluralize, print_problems
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
@click.option("--drafts", is_flag=True, help="Publish drafts too, to preview them.")
def command(output: Path | None, at: datetime | None, *, drafts: bool) -> None:
    """Build feeds, pages and digests into the output folder.

    Posts with a date or publishDate in the future wait; posts whose expiryDate has come are left
    out. If anything is wrong, every fault is named and nothing is changed. Unchanged files are not
    touched, files that are no longer made are removed, and files that Postroom did not make are
    left alone.

    \b
    Example:
      postroom build                            into public/
      postroom build --at 2026-12-01T00:00:00Z  as the site will look on that day
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    folder = Path.cwd() / output if output else site_dir / site.output
    if output and (fault := paths.output_fault(site_dir, folder, sources(site))):
        message = f"'{output}' {fault}"
        raise UseError([Problem("--output", message=message, hint=OUTPUT_HINT)])
    loaded = loader.load_posts(site_dir, site, build_instant(at), drafts=drafts)
    print_problems([*loaded.warnings, *missing_translation(site_dir, site)], "warning")
    files = make_outputs(site_dir, site, loaded.posts)
    written = replace_output(folder, files)
    print_problems(written.warnings, "warning")
    click.echo(
        f"{_summary(loaded, folder)}: {pluralize(written.written, 'file')} written,"
        f" {written.unchanged:,} unchanged, {written.removed:,} removed"
    )
    if not loaded.posts:
        click.echo('no post is published yet; write one with: postroom new "What happened"')


def missing_translation(site_dir: Path, site: Site) -> list[Problem]:
    """Return a warning if the theme has no translations for the language of the site."""
    if Theme(site_dir, site.language).has_translations:
        return []
    message = f"the theme has no translations for '{site.language}', so it uses English"
    hint = (
        f"translate templates/translations/en.yaml as templates/translations/{site.language}.yaml"
    )
    rule = "settings-language"
    return [Problem(FILE_NAME, key="language", message=message, hint=hint, rule=rule)]


def _summary(loaded: loader.LoadedPosts, folder: Path) -> str:
    parts = [f"{pluralize(len(loaded.posts), 'post')} → {folder.name}/"]
    if loaded.waiting:
        parts.append(f"{len(loaded.waiting):,} waiting for their date")
    if loaded.drafts:
        parts.append(pluralize(len(loaded.drafts), "draft"))
    if loaded.expired:
        parts.append(f"{len(loaded.expired):,} expired")
    return ", ".join(parts)
