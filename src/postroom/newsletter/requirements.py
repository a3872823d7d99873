"""Report settings that are missing or unusable for sending emails."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from postroom.errors import Problem
from postroom.mail.tokens import unsubscribe_address
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER
from postroom.models import Site
from postroom.newsletter.mime import is_plain_address, split_address
from postroom.settings.site import FILE_NAME


def missing_settings(site: Site) -> Iterator[Problem]:
    """Yield a problem for each setting that is missing or unusable for sending.

    The `key` of the problem is the name of the setting.
    """
    yield from missing_mail_settings(site)
    if not site.contact.address:
        # 16 CFR 316.2(p) and 15 USC 7704(a)(5) in the United States, and similar laws elsewhere.
        message = "is missing, and emails must name a postal address"
        yield _problem("contact.address", message, "write the postal address of your organization")


def missing_mail_settings(site: Site) -> Iterator[Problem]:
    """Yield a problem for each setting that is missing or unusable for the headers of an email."""
    mail = site.mail
    if not mail.sender:
        hint = f"write from: {site.title} <news@…>"
        yield _problem("mail.from", "is missing, and emails need a sender", hint)
    if not mail.unsubscribe:
        message = "is missing, and emails need a link to unsubscribe"
        yield _problem("mail.unsubscribe", message, "write the URL where postroom serve answers")
    elif urlsplit(mail.unsubscribe).scheme != "https":  # RFC 8058 §3.1
        message = f"'{mail.unsubscribe}' is not https, which one-click unsubscribing needs"
        yield _problem("mail.unsubscribe", message, "write a URL with https")
    if mail.bounces:
        bounces = split_address(mail.bounces)[1]
        local = unsubscribe_address(bounces, TOKEN_PLACEHOLDER).rpartition("@")[0]
        if not is_plain_address(bounces) or len(local) > 64:  # RFC 5321 §4.5.3.1.1
            message = f"'{mail.bounces}' is too long or not plain ASCII"
            yield _problem("mail.bounces", message, "write a shorter email address in ASCII")


def _problem(key: str, message: str, hint: str) -> Problem:
    return Problem(FILE_NAME, key=key, message=message, hint=hint)
