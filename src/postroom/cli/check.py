"""`postroom check`."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import click
from attrs import evolve, frozen

from postroom.cli.build import missing_translation
from postroom.cli.console import pluralize, print_problems
from postroom.cli.context import InstantType, build_instant
from postroom.errors import ContentError, PostroomError, Problem
from postroom.lint.context import LintContext
from postroom.lint.external_links import HostThrottle, LinkChecker, load_link_cache
from postroom.lint.posts import ExternalLink, lint_settings
from postroom.lint.regressions import lint_regressions, read_earlier_feed
from postroom.lint.runner import (
    LintFinding,
    LintTarget,
    format_annotations,
    format_json,
    grade,
    run_rules,
    summarize,
)
from postroom.mail.unsubscribe import unsubscribe_url
from postroom.models import Site
from postroom.newsletter.personalize import prepare_issue
from postroom.newsletter.render import render_email
from postroom.posts import edit, loader
from postroom.posts.source import scan_folder
from postroom.publish.build import make_outputs
from postroom.publish.output import find_foreign_files, replace_output
from postroom.scheduling.periods import group_by_period
from postroom.settings.site import find_site, key_lines, load_settings
from postroom.theme.environment import Theme

_ANSWERS = Path(".postroom/links.json")


@frozen
class _Wanted:
    """What a call asks for."""

    fix: bool
    links: bool
    against: Path | None
    at: datetime
    quiet: bool


@click.command("check")
@click.option("--fix", is_flag=True, help="Repair what can be repaired safely.")
@click.option("--links", is_flag=True, help="Ask other sites whether links still lead somewhere.")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR|FEED",
    help="Name what changed for readers of this earlier output, or feed.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="For people (default), for programs, or as annotations of GitHub Actions.",
)
@click.option("--at", type=InstantType(), help="As of this instant, such as 2026-11-22T09:00Z.")
def command(  # noqa: PLR0913 - options are arguments
    *, fix: bool, links: bool, strict: bool, against: Path | None, form: str, at: datetime | None
) -> int:
    """Look at the newsroom as it would go out, and say what is wrong, and how to repair it.

    Posts, settings, feeds, pages, digests and letters are looked at. docs/checks.md lists the
    rules; `checks:` in postroom.yaml switches each off, or makes it a warning or an error.

    \b
    --fix writes into posts, and changes nothing else in them:
      the id that a post without one has been published under
      the usual spelling of a topic

    \b
    postroom check
    postroom check --fix
    postroom check --strict --links --format github
    """
    folder = Path.cwd()
    try:
        folder = find_site(folder)
        site = load_settings(folder)
        wanted = _Wanted(fix, links, against, build_instant(at), quiet=form != "text")
        found = grade(_problems(folder, site, wanted), site.checks)
        code = int(any(strict or one.severity == "error" for one in found))
    except PostroomError as error:
        if form == "text":
            raise
        found, code = grade(error.problems, {}), error.exit_code
    _say(found, form, folder)
    return code


def _problems(folder: Path, site: Site, wanted: _Wanted) -> list[Problem]:
    written = _written(folder, site, wanted)
    earlier = read_earlier_feed(wanted.against) if wanted.against else None
    outside: list[ExternalLink] = []
    lines = key_lines(folder)
    settings = [*lint_settings(site), *missing_translation(folder, site)]
    found = [evolve(one, line=lines.get(one.key, 0)) for one in settings]
    with tempfile.TemporaryDirectory(prefix="postroom-check-") as made:
        output = Path(made, "output")
        replace_output(output, make_outputs(folder, site, written.loaded.posts))
        letter = _letter(folder, written)
        found += run_rules(
            written, LintTarget(output, find_foreign_files(folder / site.output), letter), outside
        )
    if earlier:
        found += lint_regressions(earlier, written)
    if wanted.links:
        found += _dead(outside, folder)
    return found


def _letter(folder: Path, written: LintContext) -> bytes:
    """Return the newest letter as a subscriber would get it; nothing if none can be sent yet."""
    site = written.site
    there = group_by_period(written.loaded.posts, site)
    if not there or not site.mail.sender or not site.mail.unsubscribe.startswith("https:"):
        return b""  # `doctor` says what is lacking
    theme = Theme(folder, site.language)
    letter = render_email(there[0], site, theme, unsubscribe=unsubscribe_url(site))
    prepared = prepare_issue(letter, site, written.at.astimezone(site.timezone))
    return prepared.message("reader@example.com", "x" * 22, prepared.message_id("x"))


def _written(folder: Path, site: Site, wanted: _Wanted) -> LintContext:
    scanned = scan_folder(folder, site.posts, site.output)
    loaded, drafts = loader.read_every_post(scanned, site, wanted.at)
    if wanted.fix and _repaired(folder, loaded, quiet=wanted.quiet):
        scanned = scan_folder(folder, site.posts, site.output)
        loaded, drafts = loader.read_every_post(scanned, site, wanted.at)
    return LintContext(site, wanted.at, scanned, loaded, drafts)


def _repaired(folder: Path, loaded: loader.LoadedPosts, *, quiet: bool) -> bool:
    """Write ids and topics, then raise `ContentError` for ids that cannot be written."""
    problems: list[Problem] = []
    done: list[str] = []
    for path, identity in loaded.unnamed:
        try:
            edit.write_id(folder / path, path, identity)
            done.append(f"{path}: wrote id {identity}")
        except ContentError as error:
            problems += error.problems
    done += (
        f"{odd.path}: wrote topic {odd.usual}"
        for odd in loaded.odd_topics
        if odd.usual and edit.write_topic(folder / odd.path, odd.written, odd.usual)
    )
    for line in done:
        click.echo(line, err=quiet)
    if problems:
        raise ContentError(problems)
    return bool(done)


def make_link_checker() -> LinkChecker:
    """Return what asks other sites, at their pace."""
    return LinkChecker(HostThrottle(time.monotonic, time.sleep))


def _dead(outside: list[ExternalLink], folder: Path) -> list[Problem]:
    """Return a problem for each link to another site that leads to nothing."""
    answers = load_link_cache(folder / _ANSWERS, time.time())
    unknown = [one.address for one in outside if one.address not in answers.ok]
    faults = make_link_checker().faults(unknown)
    now = time.time()
    answers.ok.update((address, now) for address, fault in faults.items() if not fault)
    with suppress(OSError):  # where nothing can be kept, all is asked again the next time
        answers.write()
    repair = "link to where it is now, or take the link out"
    return [
        evolve(one.problem, message=f"'{one.address}' {fault}", hint=repair)
        for one in outside
        if (fault := faults.get(one.address, ""))
    ]


def _say(found: tuple[LintFinding, ...], form: str, folder: Path) -> None:
    if form == "json":
        click.echo(format_json(found), nl=False)
        return
    if form == "github":
        click.echo(format_annotations(found, _from_repository(folder)), nl=False)
    else:
        for severity in ("error", "warning"):
            print_problems([str(one) for one in found if one.severity == severity], severity)
    errors, warnings = summarize(found)
    click.echo(f"{pluralize(errors, 'error')}, {pluralize(warnings, 'warning')}")


def _from_repository(folder: Path) -> str:
    """Return the path of the newsroom as seen from the root of its repository."""
    real = Path(os.path.realpath(folder))
    for root in (real, *real.parents):
        if (root / ".git").exists():
            return real.relative_to(root).as_posix()
    return ""
