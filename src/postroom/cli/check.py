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

from postroom import config, newsroom, posts
from postroom.build import outputs
from postroom.check import Finding, Made, Written, findings, graded
from postroom.check.asked import asked
from postroom.check.earlier import earlier_problems, read_earlier
from postroom.check.formats import as_annotations, as_json, counts
from postroom.check.outside import Pace, Web
from postroom.check.settings import settings_problems
from postroom.check.texts import Outside
from postroom.cli import complain, counted
from postroom.cli.build import unspoken
from postroom.cli.instant import Instant, build_instant
from postroom.digest import digests
from postroom.errors import ContentError, PostroomError, Problem
from postroom.letters.compose import compose
from postroom.letters.personal import prepare, unsubscribe_page
from postroom.model import Site
from postroom.output import foreign, replace
from postroom.posts.folder import scan
from postroom.theme import Theme

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
@click.option("--at", type=Instant(), help="As of this instant, such as 2026-11-22T09:00Z.")
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
        folder = config.find_newsroom(folder)
        site = config.load(folder)
        wanted = _Wanted(fix, links, against, build_instant(at), quiet=form != "text")
        found = graded(_problems(folder, site, wanted), site.checks)
        code = int(any(strict or one.severity == "error" for one in found))
    except PostroomError as error:
        if form == "text":
            raise
        found, code = graded(error.problems, {}), error.exit_code
    _say(found, form, folder)
    return code


def _problems(folder: Path, site: Site, wanted: _Wanted) -> list[Problem]:
    written = _written(folder, site, wanted)
    earlier = read_earlier(wanted.against) if wanted.against else None
    outside: list[Outside] = []
    lines = config.key_lines(folder)
    settings = [*settings_problems(site), *unspoken(folder, site)]
    found = [evolve(one, line=lines.get(one.key, 0)) for one in settings]
    with tempfile.TemporaryDirectory(prefix="postroom-check-") as made:
        output = Path(made, "output")
        replace(output, outputs(folder, site, written.loaded.posts))
        letter = _letter(folder, written)
        found += findings(written, Made(output, foreign(folder / site.output), letter), outside)
    if earlier:
        found += earlier_problems(earlier, written)
    if wanted.links:
        found += _dead(outside, folder)
    return found


def _letter(folder: Path, written: Written) -> bytes:
    """Return the newest letter as a subscriber would get it; nothing if none can be sent yet."""
    site = written.site
    there = digests(written.loaded.posts, site)
    if not there or not site.mail.sender or not site.mail.unsubscribe.startswith("https:"):
        return b""  # `doctor` says what is lacking
    theme = Theme(folder, site.language)
    letter = compose(there[0], site, theme, unsubscribe=unsubscribe_page(site))
    prepared = prepare(letter, site, written.at.astimezone(site.timezone))
    return prepared.message("reader@example.com", "x" * 22, prepared.message_id("x"))


def _written(folder: Path, site: Site, wanted: _Wanted) -> Written:
    scanned = scan(folder, site.posts, site.output)
    loaded, drafts = posts.read_whole(scanned, site, wanted.at)
    if wanted.fix and _repaired(folder, loaded, quiet=wanted.quiet):
        scanned = scan(folder, site.posts, site.output)
        loaded, drafts = posts.read_whole(scanned, site, wanted.at)
    return Written(site, wanted.at, scanned, loaded, drafts)


def _repaired(folder: Path, loaded: posts.Loaded, *, quiet: bool) -> bool:
    """Write ids and topics, then raise `ContentError` for ids that cannot be written."""
    problems: list[Problem] = []
    done: list[str] = []
    for path, identity in loaded.unnamed:
        try:
            newsroom.write_id(folder / path, path, identity)
            done.append(f"{path}: wrote id {identity}")
        except ContentError as error:
            problems += error.problems
    done += (
        f"{odd.path}: wrote topic {odd.usual}"
        for odd in loaded.odd_topics
        if odd.usual and newsroom.write_topic(folder / odd.path, odd.written, odd.usual)
    )
    for line in done:
        click.echo(line, err=quiet)
    if problems:
        raise ContentError(problems)
    return bool(done)


def web() -> Web:
    """Return what asks other sites, at their pace."""
    return Web(Pace(time.monotonic, time.sleep))


def _dead(outside: list[Outside], folder: Path) -> list[Problem]:
    """Return a problem for each link to another site that leads to nothing."""
    answers = asked(folder / _ANSWERS, time.time())
    unknown = [one.address for one in outside if one.address not in answers.well]
    faults = web().faults(unknown)
    now = time.time()
    answers.well.update((address, now) for address, fault in faults.items() if not fault)
    with suppress(OSError):  # where nothing can be kept, all is asked again the next time
        answers.write()
    repair = "link to where it is now, or take the link out"
    return [
        evolve(one.problem, what=f"'{one.address}' {fault}", repair=repair)
        for one in outside
        if (fault := faults.get(one.address, ""))
    ]


def _say(found: tuple[Finding, ...], form: str, folder: Path) -> None:
    if form == "json":
        click.echo(as_json(found), nl=False)
        return
    if form == "github":
        click.echo(as_annotations(found, _from_repository(folder)), nl=False)
    else:
        for severity in ("error", "warning"):
            complain([str(one) for one in found if one.severity == severity], severity)
    errors, warnings = counts(found)
    click.echo(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}")


def _from_repository(folder: Path) -> str:
    """Return the path of the newsroom as seen from the root of its repository."""
    real = Path(os.path.realpath(folder))
    for root in (real, *real.parents):
        if (root / ".git").exists():
            return real.relative_to(root).as_posix()
    return ""
