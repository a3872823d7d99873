"""`postroom check`: lint posts, settings and the output of a build."""

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
from postroom.models import Site
from postroom.newsletter.personalize import prepare_issue
from postroom.newsletter.render import render_issue
from postroom.posts import edit, loader
from postroom.posts.source import scan_folder
from postroom.publish.build import make_outputs
from postroom.publish.output import find_foreign_files, replace_output
from postroom.scheduling.periods import issues_by_period
from postroom.settings.site import find_site, key_lines, load_settings
from postroom.theme.environment import Theme

_LINK_CACHE = Path(".postroom/links.json")


@frozen
class _Options:
    """The options with which `postroom check` was called."""

    fix: bool
    links: bool
    against: Path | None
    at: datetime
    quiet: bool


@click.command("check")
@click.option("--fix", is_flag=True, help="Repair what can be repaired safely.")
@click.option("--links", is_flag=True, help="Request links to other sites, and report broken ones.")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR|FEED",
    help="Report ids, URLs and posts of this earlier output or feed that are lost.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="Text (default), JSON, or annotations for GitHub Actions.",
)
@click.option("--at", type=InstantType(), help="As of this instant, such as 2026-11-22T09:00Z.")
def command(  # noqa: PLR0913 - options are arguments
    *, fix: bool, links: bool, strict: bool, against: Path | None, form: str, at: datetime | None
) -> int:
    """Check posts, settings, feeds, pages and emails as they would be published.

    Each finding says where it is, what is wrong and how to fix it. docs/checks.md lists the
    rules; `checks:` in postroom.yaml switches each one off, or makes it a warning or an error.

    \b
    --fix changes two things in posts, and nothing else:
      it writes the id under which a post without one has been published
      it writes topics as most posts do

    \b
    Example:
      postroom check --strict --links
    """
    folder = Path.cwd()
    try:
        folder = find_site(folder)
        site = load_settings(folder)
        options = _Options(fix, links, against, build_instant(at), quiet=form != "text")
        findings = grade(_lint(folder, site, options), site.checks)
        code = int(any(strict or finding.severity == "error" for finding in findings))
    except PostroomError as error:
        if form == "text":
            raise
        findings, code = grade(error.problems, {}), error.exit_code
    _print_findings(findings, form, folder)
    return code


def _lint(folder: Path, site: Site, options: _Options) -> list[Problem]:
    context = _load_context(folder, site, options)
    earlier = read_earlier_feed(options.against) if options.against else None
    external: list[ExternalLink] = []
    lines = key_lines(folder)
    settings = [*lint_settings(site), *missing_translation(folder, site)]
    problems = [evolve(problem, line=lines.get(problem.key, 0)) for problem in settings]
    with tempfile.TemporaryDirectory(prefix="postroom-check-") as temporary:
        output = Path(temporary, "output")
        replace_output(output, make_outputs(folder, site, context.loaded.posts))
        foreign = find_foreign_files(folder / site.output)
        target = LintTarget(output, foreign, _newest_message(folder, context))
        problems += run_rules(context, target, external)
    if earlier:
        problems += lint_regressions(earlier, context)
    if options.links:
        problems += _broken_links(external, folder)
    return problems


def _newest_message(folder: Path, context: LintContext) -> bytes:
    """Return the newest issue as the message to one subscriber, b"" if none can be sent yet."""
    site = context.site
    issues = issues_by_period(context.loaded.posts, site)
    if not issues or not site.mail.sender or not site.mail.unsubscribe.startswith("https:"):
        return b""  # `postroom doctor` reports what is missing
    posts = {post.id: post for post in context.loaded.posts}
    email = render_issue(issues[0], posts, site, Theme(folder, site.language))
    prepared = prepare_issue(email, site, context.at.astimezone(site.timezone))
    return prepared.message("reader@example.com", "x" * 22, prepared.message_id("x"))


def _load_context(folder: Path, site: Site, options: _Options) -> LintContext:
    scanned = scan_folder(folder, site.posts, site.output)
    loaded, sources = loader.read_every_post(scanned, site, options.at)
    if options.fix and _fix(folder, loaded, quiet=options.quiet):
        scanned = scan_folder(folder, site.posts, site.output)
        loaded, sources = loader.read_every_post(scanned, site, options.at)
    return LintContext(site, options.at, scanned, loaded, sources)


def _fix(folder: Path, loaded: loader.LoadedPosts, *, quiet: bool) -> bool:
    """Write missing ids and the usual spelling of topics into posts; return whether any changed.

    Raises `ContentError` if an id cannot be written.
    """
    problems: list[Problem] = []
    changes: list[str] = []
    for path, identity in loaded.unnamed:
        try:
            edit.write_id(folder / path, path, identity)
            changes.append(f"{path}: wrote id {identity}")
        except ContentError as error:
            problems += error.problems
    changes += (
        f"{odd.path}: wrote topic {odd.usual}"
        for odd in loaded.odd_topics
        if odd.usual and edit.write_topic(folder / odd.path, odd.written, odd.usual)
    )
    for line in changes:
        click.echo(line, err=quiet)
    if problems:
        raise ContentError(problems)
    return bool(changes)


def make_link_checker() -> LinkChecker:
    """Return a checker that requests links of other sites, at most one a second for each host."""
    return LinkChecker(HostThrottle(time.monotonic, time.sleep))


def _broken_links(external: list[ExternalLink], folder: Path) -> list[Problem]:
    """Return a problem for each broken link to another site."""
    cache = load_link_cache(folder / _LINK_CACHE, time.time())
    unknown = [link.url for link in external if link.url not in cache.ok]
    faults = make_link_checker().faults(unknown)
    now = time.time()
    cache.ok.update((url, now) for url, fault in faults.items() if not fault)
    with suppress(OSError):  # without a cache, the next run requests every link again
        cache.write()
    hint = "correct the link, or remove it"
    return [
        evolve(link.problem, message=f"'{link.url}' {fault}", hint=hint)
        for link in external
        if (fault := faults.get(link.url, ""))
    ]


def _print_findings(findings: tuple[LintFinding, ...], form: str, folder: Path) -> None:
    if form == "json":
        click.echo(format_json(findings), nl=False)
        return
    if form == "github":
        click.echo(format_annotations(findings, _path_in_repository(folder)), nl=False)
    else:
        for severity in ("error", "warning"):
            lines = [str(finding) for finding in findings if finding.severity == severity]
            print_problems(lines, severity)
    errors, warnings = summarize(findings)
    click.echo(f"{pluralize(errors, 'error')}, {pluralize(warnings, 'warning')}")


def _path_in_repository(folder: Path) -> str:
    """Return the path of the site relative to the root of its repository."""
    real = Path(os.path.realpath(folder))
    for root in (real, *real.parents):
        if (root / ".git").exists():
            return real.relative_to(root).as_posix()
    return ""
