"""`postroom digest`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from postroom.cli.console import print_problems
from postroom.cli.context import InstantType, build_instant
from postroom.errors import Problem, UseError
from postroom.models import Digest, Site
from postroom.newsletter.mime import draft_message
from postroom.newsletter.render import RenderedEmail, render_email
from postroom.posts import loader
from postroom.scheduling.periods import group_by_period
from postroom.settings.site import find_site, load_settings
from postroom.theme.environment import Theme


@click.command("digest")
@click.argument("period", required=False)
@click.option("--text", "form", flag_value="text", default=True, help="The text part (default).")
@click.option("--html", "form", flag_value="html", help="The HTML part.")
@click.option("--eml", "form", flag_value="eml", help="A whole message that a mail program opens.")
@click.option("--at", type=InstantType(), help="As of this instant, such as 2026-11-22T09:00Z.")
def command(period: str | None, form: str, at: datetime | None) -> None:
    """Show the letter of PERIOD, of the newest period with posts by default.

    A period is named as the settings cut them: 2026-11 for a month, 2026-W47 for a week,
    2026-11-22 for a day.

    \b
    postroom digest
    postroom digest 2026-11 --html > email.html
    postroom digest --eml > letter.eml
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    instant = build_instant(at)
    loaded = loader.load_posts(site_dir, site, instant)
    print_problems(loaded.warnings, "warning")
    digest = _chosen(group_by_period(loaded.posts, site), period)
    letter = render_email(digest, site, Theme(site_dir, site.language))
    click.echo(_as(form, letter, digest, site, instant), nl=False)


def _chosen(there: tuple[Digest, ...], period: str | None) -> Digest:
    if not there:
        repair = "write one with: postroom new TITLE"
        raise UseError([Problem("digest", message="no post is published yet", hint=repair)])
    for digest in there:
        if period in (None, digest.period):
            return digest
    names = ", ".join(digest.period for digest in there[:12])
    what = f"no post stands in the period '{period}'"
    raise UseError([Problem("digest", message=what, hint=f"choose one of {names}")])


def _as(form: str, letter: RenderedEmail, digest: Digest, site: Site, at: datetime) -> bytes:
    if form == "html":
        return letter.html.encode()
    if form == "text":
        return letter.text.encode()
    host = urlsplit(site.url).hostname or "localhost"
    sender = site.mail.sender or f"{site.title} <{site.contact.email or f'news@{host}'}>"
    mark = hashlib.sha256(f"{site.id} {digest.period}".encode()).hexdigest()[:24]
    return draft_message(
        letter,
        sender=sender,
        recipient=sender,
        date=at.astimezone(site.timezone),
        message_id=f"<{digest.period}.{mark}@{host}>",
    )
