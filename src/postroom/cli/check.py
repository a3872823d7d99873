"""`postroom check`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from postroom import config, newsroom, posts
from postroom.build import outputs
from postroom.check import findings
from postroom.cli import complain
from postroom.cli.instant import Instant, build_instant
from postroom.errors import ContentError, Problem


@click.command("check")
@click.option("--fix", is_flag=True, help="Write missing ids into the posts.")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--at", type=Instant(), help="As of this instant, such as 2026-11-22T09:00Z.")
def command(*, fix: bool, strict: bool, at: datetime | None) -> int:
    """Look at posts and feeds as they would go out, and say what is wrong.

    Nothing is written, except by --fix: it gives every post without an id the one it has been
    published under, and changes nothing else in the file.

    \b
    postroom check
    postroom check --fix
    """
    folder = config.find_newsroom(Path.cwd())
    site = config.load(folder)
    instant = build_instant(at)
    loaded = posts.load(folder, site, instant)
    if fix and loaded.unnamed:
        _write_ids(folder, loaded)
        loaded = posts.load(folder, site, instant)
    found = findings(loaded.warnings, outputs(folder, site, loaded.posts), site.output, site.checks)
    for severity in ("error", "warning"):
        complain([str(one) for one in found if one.severity == severity], severity)
    errors = sum(one.severity == "error" for one in found)
    click.echo(f"{_counted(errors, 'error')}, {_counted(len(found) - errors, 'warning')}")
    return int(errors > 0 or (strict and bool(found)))


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _write_ids(folder: Path, loaded: posts.Loaded) -> None:
    """Write every id that can be written, then raise `ContentError` for those that cannot."""
    problems: list[Problem] = []
    for path, identity in loaded.unnamed:
        try:
            newsroom.write_id(folder / path, path, identity)
            click.echo(f"{path}: wrote id {identity}")
        except ContentError as error:
            problems += error.problems
    if problems:
        raise ContentError(problems)
