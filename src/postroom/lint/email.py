"""Both parts of a letter → where they differ, and what its foot lacks."""

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
    find_addresses,
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
# Of a picture the text has the description; of numbers and addresses what people read.
_PICTURE = re.compile(r"\.(?:avif|gif|jpe?g|png|svg|webp)\Z", re.IGNORECASE)
_CLOSING = ".,;:!?)]>'\"。，"  # noqa: RUF001


def _text_part(parts: EmailParts) -> Iterator[Problem]:
    if not parts.text.strip():
        yield file_problem(
            "email-text-part", "the text is empty", "write templates/email/email.txt"
        )


def _same_words(parts: EmailParts) -> Iterator[Problem]:
    if not parts.text.strip():
        return
    run, place = "".join(_WORD.findall(parts.text)), 0
    for block in parts.tree.iter(*_BLOCKS):
        said = visible_text(block)
        # Both parts have one order: what follows is sought where the last was found.
        found = parts.said.find(strip_whitespace(said), place)
        place = max(place, found)
        if found >= 0 or _holds_blocks(block):
            continue
        if _is_lost(block, run):
            yield file_problem(
                "email-same-words",
                f"the text lacks '{said[:60]}'",
                "let both templates say the same",
            )


def _is_lost(block: Element, run: str) -> bool:
    """Tell whether most words are lost: a text numbers links and names pictures in its own way."""
    words = [word for text in block.itertext() for word in _WORD.findall(text)]
    # Ideographs have no blanks: what is one word here is broken into lines there.
    return 2 * sum(word not in run for word in words) > len(words)


def _holds_blocks(block: Element) -> bool:
    return next((True for one in block.iter(*_BLOCKS) if one is not block), False)


def _same_links(parts: EmailParts) -> Iterator[Problem]:
    written = {form for address in find_addresses(parts.text) for form in _trimmed(address)}
    for link in parts.links:
        address = link.get("href", "")
        said = _is_said(link) and strip_whitespace(visible_text(link)) in parts.said
        if not (_stands(address, written) or said or url_fault(address)):
            yield file_problem(
                "email-same-links",
                f"the text lacks the link {address}",
                "let both templates have it",
            )
    linked = {form for link in parts.links for form in _forms(link.get("href", ""))}
    for address in dict.fromkeys(find_addresses(parts.text)):
        if linked.isdisjoint(_trimmed(address)) and address.rstrip(_CLOSING) not in parts.seen:
            what = f"the HTML lacks the link {address.rstrip(_CLOSING)}"
            yield file_problem("email-same-links", what, "let both templates have it")


def _stands(address: str, written: set[str]) -> bool:
    return not written.isdisjoint(_forms(address))


def _forms(address: str) -> tuple[str, ...]:
    return (address, address.partition("#")[0])


def _trimmed(address: str) -> set[str]:
    """Return an address as written, and without what closes the sentence around it."""
    return {form for one in (address, address.rstrip(_CLOSING)) for form in _forms(one)}


def _is_said(link: Element) -> bool:
    address, around = link.get("href", ""), link.getparent()
    described = around is not None and around.get("class") == "image"
    return described or address.startswith(("mailto:", "tel:")) or bool(_PICTURE.search(address))


def _contact(parts: EmailParts) -> Iterator[Problem]:
    contact = parts.site.contact
    values = {name: getattr(contact, name) for name in ("organization", "name", "phone", "tel")}
    values |= {"email": contact.email}
    if contact.message:
        values["message"] = urljoin(parts.site.url, contact.message.removeprefix("/"))
    for name, part in _lacking(parts, values.items()):
        yield file_problem(
            "email-contact", f"the {part} lacks contact.{name}", "let the template show it"
        )
    called = {link.get("href") for link in parts.links}
    for name in ("phone", "tel"):
        if values[name] and tel_url(values[name]) not in called:
            what = f"the HTML does not link contact.{name} as {tel_url(values[name])}"
            yield file_problem(
                "email-contact", what, "let the template link it, so that a touch calls it"
            )


def _postal(parts: EmailParts) -> Iterator[Problem]:
    address = parts.site.contact.address
    if parts.personal and not address.strip():
        yield file_problem(
            "email-postal-address", "no postal address is known", "set contact.address"
        )
    for line, part in _lacking(parts, ((line, line) for line in address.splitlines())):
        what = f"the {part} lacks '{line}'"
        yield file_problem("email-postal-address", what, "let the template show contact.address")


def _signs(parts: EmailParts) -> Iterator[Problem]:
    contact = parts.site.contact
    if parts.personal and not (contact.organization or contact.name):
        yield file_problem(
            "email-signed", "nobody signs", "set contact.organization or contact.name"
        )


def _lacking(parts: EmailParts, values: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the name of each value that a part lacks, and which part."""
    for name, value in values:
        seen = strip_whitespace(value) in parts.seen
        if not seen and not any(
            strip_whitespace(value) in link.get("href", "") for link in parts.links
        ):
            yield name, "HTML"
        if strip_whitespace(value) not in parts.said:
            yield name, "text"


def _ways(parts: EmailParts) -> Iterator[Problem]:
    if parts.personal:
        yield from _way(parts, "email-unsubscribe", unsubscribe_url(parts.site, ""), "leave at")
        prefer = preferences_url(parts.site, "")
        # A newsroom need not have such a page; a letter that leads to it does so in both parts.
        if prefer in parts.text or any(
            one.get("href", "").startswith(prefer) for one in parts.links
        ):
            yield from _way(parts, "email-preferences", prefer, "choose at")


def _way(parts: EmailParts, rule: str, page: str, what: str) -> Iterator[Problem]:
    links = [link for link in parts.links if link.get("href", "").startswith(page)]
    if not any(visible_text(link) for link in links):
        yield file_problem(
            rule, f"the HTML has no link to the page to {what}", "let the template show it"
        )
    if page not in parts.text:
        yield file_problem(
            rule, f"the text has no link to the page to {what}", "let the template show it"
        )


FOOT_RULES = (_text_part, _same_words, _same_links, _contact, _postal, _signs, _ways)

_PART_RULES = (*HTML_RULES, *STYLE_RULES, *CONTRAST_RULES, *LINK_RULES, *FOOT_RULES)


def lint_email(message: bytes, site: Site, path: str = "email") -> list[Problem]:
    """Return every problem of one subscriber's finished message; `path` is where it lies.

    A problem's `rule` names it for all rooms, its `key` in `RULES`. Nothing is raised,
    whatever `message` holds.
    """
    return _at(path, chain(lint_bytes(message), _guarded(_message, message, site)))


def lint_rendered_email(letter: RenderedEmail, site: Site, path: str = "email") -> list[Problem]:
    """Return every problem of the letter as everyone sees it, without a subscriber's links.

    A problem's `rule` names it for all rooms, its `key` in `RULES`. Nothing is raised,
    whatever `letter` holds.
    """
    return _at(path, _parts(EmailParts(letter.html, letter.text, site)))


def _message(message: bytes, site: Site) -> Iterator[Problem]:
    read = message_from_bytes(message, policy=policy.compat32)
    for rule in MESSAGE_RULES:
        yield from _guarded(rule, read, site)
    yield from _guarded(_contents, read, site)


def _contents(message: Message, site: Site) -> Iterator[Problem]:
    text, html = read_parts(message)
    if html or text:
        parts = EmailParts(html, text, site, personal=True)
        yield from _parts(parts)
        yield from _guarded(lint_recipient, message, parts)


def _parts(parts: EmailParts) -> Iterator[Problem]:
    for rule in _PART_RULES:
        yield from _guarded(rule, parts)


def _guarded(rule: Callable[..., Iterator[Problem]], *letter: object) -> Iterator[Problem]:
    try:
        yield from rule(*letter)
    except Exception as error:  # noqa: BLE001 - the email package raises anything at strange bytes
        what = f"cannot be taken apart ({rule.__name__.strip('_')}: {type(error).__name__})"
        yield file_problem("email-readable", what, "look at the letter")


def _at(path: str, problems: Iterable[Problem]) -> list[Problem]:
    """Return each problem once, with the path of the email."""
    return [evolve(problem, path=path) for problem in dict.fromkeys(problems)]
