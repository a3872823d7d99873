"""`postroom digest`: show the email of a period."""

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
from postroom.newsletter.mime import compose_message
from postroom.newsletter.render import RenderedEmail, render_email
from postroom.posts import loader
from postroom.scheduling.periods import group_by_period
from postroom.settings.site import find_site, load_settings
from postroom.theme.environment import Theme


@click.command("digest")
@click.argument("period", required=False)
@click.option("--text", "form", flag_value="text", default=True, help="The text part (default).")
@click.option("--html", "form", flag_value="html", help="The HTML part.")
@click.option("--eml", "form", flag_value="eml", help="A whole message, to read in a mail program.")
@click.option("--draft", is_flag=True, help="With --eml: a draft, to edit and send yourself.")
@click.option("--at", type=InstantType(), help="As of this instant, such as 2026-11-22T09:00Z.")
def command(period: str | None, form: str, *, draft: bool, at: datetime | None) -> None:
    """Show the email of PERIOD, by default of the newest period with posts.

    Periods are named by digest.every in the settings: 2026-11 for a month, 2026-W47 for a week,
    2026-11-22 for a day.

    \b
    Example:
      postroom digest
      postroom digest 2026-11 --html > email.html
      postroom digest --eml > email.eml
    """
    if draft and form != "eml":
        hint = "write postroom digest --eml --draft"
        raise UseError([Problem("digest", key="--draft", message="needs --eml", hint=hint)])
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    instant = build_instant(at)
    loaded = loader.load_posts(site_dir, site, instant)
    print_problems(loaded.warnings, "warning")
    digest = _find(group_by_period(loaded.posts, site), period)
    email = render_email(digest, site, Theme(site_dir, site.language))
    click.echo(_encode("draft" if draft else form, email, digest, site, instant), nl=False)


def _find(digests: tuple[Digest, ...], period: str | None) -> Digest:
    if not digests:
        hint = "write one with: postroom new TITLE"
        raise UseError([Problem("digest", message="no post is published yet", hint=hint)])
    for digest in digests:
        if period in (None, digest.period):
            return digest
    names = ", ".join(digest.period for digest in digests[:12])
    message = f"the period '{period}' has no posts"
    raise UseError([Problem("digest", message=message, hint=f"choose one of {names}")])


def _encode(form: str, email: RenderedEmail, digest: Digest, site: Site, at: datetime) -> bytes:
    if form == "html":
        return email.html.encode()
    if form == "text":
        return email.text.encode()
    host = urlsplit(site.url).hostname or "localhost"
    sender = site.mail.sender or f"{site.title} <{site.contact.email or f'news@{host}'}>"
    key = hashlib.sha256(f"{site.id} {digest.period}".encode()).hexdigest()[:24]
    return compose_message(
        email,
        sender=sender,
        recipient=sender,
        date=at.astimezone(site.timezone),
        message_id=f"<{digest.period}.{key}@{host}>",
        is_draft=form == "draft",
    )
