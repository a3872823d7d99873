"""`postroom digest`: show the email of a period."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import click
from attrs import evolve

from postroom.cli.console import print_problems
from postroom.cli.context import InstantType, build_instant
from postroom.errors import Problem, UseError
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER
from postroom.models import Issue
from postroom.newsletter.mime import compose_message, split_address
from postroom.newsletter.personalize import PreparedIssue
from postroom.newsletter.requirements import missing_mail_settings
from postroom.scheduling.periods import digest_of_issue
from postroom.send.content import ContentSource
from postroom.settings.site import find_site, load_settings


@click.command("digest")
@click.argument("period", required=False)
@click.option("--text", "form", flag_value="text", default=True, help="The text part (default).")
@click.option("--html", "form", flag_value="html", help="The HTML part.")
@click.option("--eml", "form", flag_value="eml", help="A whole message, to read in a mail program.")
@click.option("--draft", is_flag=True, help="With --eml: a draft, to edit and send yourself.")
@click.option("--at", type=InstantType(), help="As of this instant, such as 2026-11-22T09:00Z.")
def command(period: str | None, form: str, *, draft: bool, at: datetime | None) -> None:
    """Show the email that subscribers would receive for PERIOD, by default the newest with posts.

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
    if draft:
        # The people to whom somebody sends a draft cannot unsubscribe by our links.
        site = evolve(site, mail=evolve(site.mail, unsubscribe=""))
    instant = build_instant(at)
    content = ContentSource(site_dir, site, lambda warnings: print_problems(warnings, "warning"))
    issue, name = _find(content, instant, period)
    if form == "eml":
        data = _make_message(content, issue, name, instant, is_draft=draft)
    else:
        email = content.render_email(issue)
        data = (email.html if form == "html" else email.text).encode()
    click.echo(data, nl=False)


def _find(content: ContentSource, at: datetime, period: str | None) -> tuple[Issue, str]:
    """Return the issue of a period, by default of the newest, and the name of the period."""
    issues = content.issues_by_period(at)
    if not issues:
        hint = "write one with: postroom new TITLE"
        raise UseError([Problem("digest", message="no post is published yet", hint=hint)])
    names = [digest_of_issue(issue, content.posts, content.site).period for issue in issues]
    if period is None:
        return issues[0], names[0]
    if period in names:
        return issues[names.index(period)], period
    message = f"the period '{period}' has no posts"
    hint = f"choose one of {', '.join(names[:12])}"
    raise UseError([Problem("digest", message=message, hint=hint)])


def _make_message(
    content: ContentSource, issue: Issue, period: str, at: datetime, *, is_draft: bool
) -> bytes:
    """Return the message that `send` would send to a subscriber at the site's own address.

    Without the settings for sending, and for a draft, it is a message without the fields of a list.
    """
    site = content.site
    host = urlsplit(site.url).hostname or "localhost"
    sender = site.mail.sender or f"{site.title} <{site.contact.email or f'news@{host}'}>"
    key = hashlib.sha256(f"{site.id} {period}".encode()).hexdigest()
    if not is_draft and not list(missing_mail_settings(site)):
        prepared = PreparedIssue(content.render(issue, at))
        recipient = split_address(sender)[1]
        return prepared.message(recipient, TOKEN_PLACEHOLDER, prepared.message_id(key))
    return compose_message(
        content.render_email(issue),
        sender=sender,
        recipient=sender,
        date=at.astimezone(site.timezone),
        message_id=f"<{period}.{key[:24]}@{host}>",
        is_draft=is_draft,
    )
