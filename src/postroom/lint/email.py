"""Run all lint rules on an email.

This module also holds the rules that compare the HTML part with the text part, and those that check
the footer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from email import message_from_bytes, policy
from email.message import Message
from itertools import chain
from urllib.parse import urljoin

from attrs import evolve
from lxml.etree import _Element as Element

from postroom.errors import Problem
from postroom.lint.context import file_problem
from postroom.lint.contrast import CONTRAST_RULES
from postroom.lint.email_headers import MESSAGE_RULES, lint_bytes, lint_recipient, read_parts
from postroom.lint.email_html import HTML_RULES, LINK_RULES, STYLE_RULES
from postroom.lint.email_parts import (
    HEADINGS,
    EmailParts,
    find_urls,
    strip_whitespace,
    visible_text,
)
from postroom.lint.links import url_fault
from postroom.mail.unsubscribe import preferences_url, unsubscribe_url
from postroom.models import Site
from postroom.newsletter.render import RenderedEmail
from postroom.theme.environment import tel_url

_BLOCKS = ("p", "li", "td", "th", "dt", "dd", "pre", *HEADINGS)
_WORD = re.compile(r"\w+")
# The text part describes images, and shows phone numbers and email addresses as text.
_IMAGE = re.compile(r"\.(?:avif|gif|jpe?g|png|svg|webp)\Z", re.IGNORECASE)
_CLOSING = ".,;:!?)]>'\"。，"  # noqa: RUF001
_IN_BOTH = "put it into both templates"
_SHOW = "show it in the template"


def _text_part(parts: EmailParts) -> Iterator[Problem]:
    if not parts.text.strip():
        yield file_problem("email-text-part", "is empty", "write templates/email/email.txt")


def _same_words(parts: EmailParts) -> Iterator[Problem]:
    if not parts.text.strip():
        return
    words, position = "".join(_WORD.findall(parts.text)), 0
    for block in parts.tree.iter(*_BLOCKS):
        text = visible_text(block)
        # Both parts have the same order, so each search starts at the previous match.
        found = parts.plain.find(strip_whitespace(text), position)
        position = max(position, found)
        if found >= 0 or _has_inner_blocks(block):
            continue
        if _is_missing(block, words):
            message = f"the text part lacks '{text[:60]}'"
            yield file_problem("email-same-words", message, _IN_BOTH)


def _is_missing(block: Element, text: str) -> bool:
    """Tell whether `text`, the text part of an email, lacks most words of an HTML block.

    Not all words are required, since the text part writes links and images differently.
    """
    words = [word for run in block.itertext() for word in _WORD.findall(run)]
    # Ideographs are written without spaces, so a line break may stand inside a "word".
    return 2 * sum(word not in text for word in words) > len(words)


def _has_inner_blocks(block: Element) -> bool:
    return next((True for inner in block.iter(*_BLOCKS) if inner is not block), False)


def _same_links(parts: EmailParts) -> Iterator[Problem]:
    in_text = {form for url in find_urls(parts.text) for form in _trimmed(url)}
    for link in parts.links:
        url = link.get("href", "")
        is_shown = _is_shown_as_text(link) and strip_whitespace(visible_text(link)) in parts.plain
        if in_text.isdisjoint(_forms(url)) and not is_shown and not url_fault(url):
            message = f"the text part lacks the link {url}"
            yield file_problem("email-same-links", message, _IN_BOTH)
    in_html = {form for link in parts.links for form in _forms(link.get("href", ""))}
    for url in dict.fromkeys(find_urls(parts.text)):
        if in_html.isdisjoint(_trimmed(url)) and url.rstrip(_CLOSING) not in parts.visible:
            message = f"the HTML part lacks the link {url.rstrip(_CLOSING)}"
            yield file_problem("email-same-links", message, _IN_BOTH)


def _forms(url: str) -> tuple[str, ...]:
    return (url, url.partition("#")[0])


def _trimmed(url: str) -> set[str]:
    """Return `url` with and without the punctuation at its end, which may not belong to it."""
    return {form for written in (url, url.rstrip(_CLOSING)) for form in _forms(written)}


def _is_shown_as_text(link: Element) -> bool:
    url, around = link.get("href", ""), link.getparent()
    is_image = around is not None and around.get("class") == "image"
    return is_image or url.startswith(("mailto:", "tel:")) or bool(_IMAGE.search(url))


def _contact(parts: EmailParts) -> Iterator[Problem]:
    contact = parts.site.contact
    values = {name: getattr(contact, name) for name in ("organization", "name", "phone", "tel")}
    values |= {"email": contact.email}
    if contact.message:
        values["message"] = urljoin(parts.site.url, contact.message.removeprefix("/"))
    for name, part in _missing_values(parts, values.items()):
        yield file_problem("email-contact", f"the {part} part lacks contact.{name}", _SHOW)
    linked = {link.get("href") for link in parts.links}
    for name in ("phone", "tel"):
        if values[name] and tel_url(values[name]) not in linked:
            message = f"the HTML part does not link contact.{name} as {tel_url(values[name])}"
            yield file_problem("email-contact", message, "link it in the template")


def _postal_address(parts: EmailParts) -> Iterator[Problem]:
    address = parts.site.contact.address
    if parts.personal and not address.strip():
        message = "the settings have no postal address"
        yield file_problem("email-postal-address", message, "set contact.address")
    for line, part in _missing_values(parts, ((line, line) for line in address.splitlines())):
        message = f"the {part} part lacks '{line}'"
        hint = "show contact.address in the template"
        yield file_problem("email-postal-address", message, hint)


def _signature(parts: EmailParts) -> Iterator[Problem]:
    contact = parts.site.contact
    if parts.personal and not (contact.organization or contact.name):
        message = "the settings name no organization or person"
        yield file_problem("email-signed", message, "set contact.organization or contact.name")


def _missing_values(
    parts: EmailParts, values: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Find values of the settings, such as a phone number, that an email does not show.

    `values` are pairs of a name and a value. For each value that the HTML part or the text part
    lacks, yield its name and the name of that part: `HTML` or `text`.
    """
    for name, value in values:
        text = strip_whitespace(value)
        in_link = any(text in link.get("href", "") for link in parts.links)
        if text not in parts.visible and not in_link:
            yield name, "HTML"
        if text not in parts.plain:
            yield name, "text"


def _list_links(parts: EmailParts) -> Iterator[Problem]:
    if parts.personal:
        page = unsubscribe_url(parts.site, "")
        yield from _list_link(parts, "email-unsubscribe", page, "unsubscribe")
        page = preferences_url(parts.site, "")
        # The page is optional; an email that links it must do so in both parts.
        if page in parts.text or any(link.get("href", "").startswith(page) for link in parts.links):
            yield from _list_link(parts, "email-preferences", page, "preferences")


def _list_link(parts: EmailParts, rule: str, page: str, name: str) -> Iterator[Problem]:
    links = [link for link in parts.links if link.get("href", "").startswith(page)]
    if not any(visible_text(link) for link in links):
        yield file_problem(rule, f"the HTML part has no link to the {name} page", _SHOW)
    if page not in parts.text:
        yield file_problem(rule, f"the text part has no link to the {name} page", _SHOW)


FOOTER_RULES = (
    _text_part,
    _same_words,
    _same_links,
    _contact,
    _postal_address,
    _signature,
    _list_links,
)
_PART_RULES = (*HTML_RULES, *STYLE_RULES, *CONTRAST_RULES, *LINK_RULES, *FOOTER_RULES)


def lint_email(message: bytes, site: Site, path: str = "email") -> list[Problem]:
    """Return every problem of `message`, the email of one subscriber.

    `path` names the email in the problems. No content of `message` makes this function raise.
    """
    return _at(path, chain(lint_bytes(message), _guarded(_lint_message, message, site)))


def lint_rendered_email(email: RenderedEmail, site: Site, path: str = "email") -> list[Problem]:
    """Return every problem of an email that is not yet personalized for a subscriber.

    Rules for unsubscribe links are left out. `path` names the email in the problems. No content of
    `email` makes this function raise.
    """
    return _at(path, _lint_parts(EmailParts(email.html, email.text, site)))


def _lint_message(data: bytes, site: Site) -> Iterator[Problem]:
    message = message_from_bytes(data, policy=policy.compat32)
    for rule in MESSAGE_RULES:
        yield from _guarded(rule, message, site)
    yield from _guarded(_lint_contents, message, site)


def _lint_contents(message: Message, site: Site) -> Iterator[Problem]:
    text, html = read_parts(message)
    if html or text:
        parts = EmailParts(html, text, site, personal=True)
        yield from _lint_parts(parts)
        yield from _guarded(lint_recipient, message, parts)


def _lint_parts(parts: EmailParts) -> Iterator[Problem]:
    for rule in _PART_RULES:
        yield from _guarded(rule, parts)


def _guarded(rule: Callable[..., Iterator[Problem]], *args: object) -> Iterator[Problem]:
    """Yield the problems that `rule` finds; if the rule raises, yield a problem that says so."""
    try:
        yield from rule(*args)
    except Exception as error:  # noqa: BLE001 - the email package raises anything at strange bytes
        message = f"cannot be parsed ({rule.__name__.strip('_')}: {type(error).__name__})"
        yield file_problem("email-readable", message, "look at the source of the email")


def _at(path: str, problems: Iterable[Problem]) -> list[Problem]:
    """Return `problems` without duplicates, and set the path of each to `path`."""
    return [evolve(problem, path=path) for problem in dict.fromkeys(problems)]
