"""`postroom send --test`: the newest letter, to oneself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from postroom import address, planning, posts
from postroom.cli import complain
from postroom.cli.instant import present
from postroom.digest import digests
from postroom.errors import Problem, UseError
from postroom.letters.headers import parted
from postroom.letters.personal import prepare
from postroom.model import Bookmark, Letter, Site
from postroom.smtp import Mailer
from postroom.theme import Theme
from postroom.tokens import mint


def send_trial(newsroom: Path, site: Site, mailer: Mailer, recipient: str) -> int:
    """Send the letter of the newest period to `recipient`; nothing is read or written of the rows.

    Its links to leave are nobody's. Raises `UseError` for no possible address and no posts.
    """
    try:
        to = address.check(recipient)
    except address.AddressError as error:
        raise UseError([Problem("--to", what=str(error))]) from None
    now = present()
    loaded = posts.load(newsroom, site, now)
    complain(loaded.warnings, "warning")
    found = digests(loaded.posts, site)
    if not found:
        raise UseError([Problem("--test", what="there is no post to send", repair="write one")])
    held = {post.id: post for post in found[0].posts}
    # The boundary of a letter is the day after its period.
    letter = Letter(found[0].every, Bookmark(found[0].last + timedelta(days=1)), tuple(held), "")
    rendered = planning.write(letter, held, site, Theme(newsroom, site.language))
    prepared = prepare(rendered, site, now.astimezone(site.timezone))
    message = prepared.message(to.ascii, mint(), prepared.message_id(mint()))
    mailer.open()
    try:
        reply = mailer.send(parted(site.mail.bounces or site.mail.sender)[1], to.ascii, message)
    finally:
        mailer.close()
    if reply.kind != "accepted":
        what = f"the mail server said: {reply.code} {reply.text}".strip()
        complain([Problem("send --test", what=what)])
        return 1
    click.echo(f"{rendered.subject}: sent to {to.shown}; nothing is recorded")
    return 0
