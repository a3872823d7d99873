"""Both parts of a letter → where they differ, and what its foot lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urldefrag, urljoin

from lxml.html import HtmlElement

from postroom.letters.personal import unsubscribe_page
from postroom.letters.rules import HEADINGS, Findings, Parts, shown, tight

_ADDRESS = re.compile(r"\b(?:https?://|mailto:)[^\s<>\"]+[^\s<>\".,;:)\]]")
# Of a picture the text has the description; of numbers and addresses what people read.
_PICTURE = re.compile(r"\.(?:avif|gif|jpe?g|png|svg|webp)\Z", re.IGNORECASE)


def foot_findings(parts: Parts) -> Findings:
    """Yield what both parts should say and do not."""
    for rule in _RULES:
        yield from rule(parts)


def _links(parts: Parts) -> list[HtmlElement]:
    return [link for link in parts.tree.iter("a") if link.get("href")]


def _same_headings(parts: Parts) -> Findings:
    text = tight(parts.text)
    for heading in parts.tree.iter(*HEADINGS):
        if tight(shown(heading)) not in text:
            yield "H2", f"the text lacks '{shown(heading)}'", "let both templates say the same"


def _same_links(parts: Parts) -> Findings:
    for link in _links(parts):
        address = urldefrag(link.get("href", ""))[0]
        if not any(form in parts.text for form in _forms(address, shown(link))):
            yield "N21", f"the text lacks the link {address}", "let both templates have it"
    html = parts.html.replace("&amp;", "&")
    for address in dict.fromkeys(_ADDRESS.findall(parts.text)):
        if urldefrag(address)[0] not in html:
            yield "N21", f"the HTML lacks the link {address}", "let both templates have it"


def _forms(address: str, words: str) -> Iterator[str]:
    yield address
    if address.startswith(("mailto:", "tel:")) or _PICTURE.search(address):
        yield words


def _contact(parts: Parts) -> Findings:
    contact = parts.site.contact
    values = {name: getattr(contact, name) for name in ("organization", "name", "phone", "tel")}
    values |= {"email": contact.email}
    if contact.message:
        values["message"] = urljoin(parts.site.url, contact.message.removeprefix("/"))
    for name, value in values.items():
        for part in _lacking(parts, value):
            yield "H9", f"the {part} lacks contact.{name}", "let the template show it"


def _postal(parts: Parts) -> Findings:
    address = parts.site.contact.address
    if parts.personal and not address:
        yield "N15", "no postal address is known", "set contact.address"
    for line in address.splitlines():
        for part in _lacking(parts, line):
            yield "N15", f"the {part} lacks '{line}'", "let the template show contact.address"


def _signs(parts: Parts) -> Findings:
    contact = parts.site.contact
    if parts.personal and not (contact.organization or contact.name):
        yield "N16", "nobody signs", "set contact.organization or contact.name"


def _lacking(parts: Parts, value: str) -> Iterator[str]:
    seen = [shown(parts.tree), *(link.get("href", "") for link in _links(parts))]
    if not any(tight(value) in tight(one) for one in seen):
        yield "HTML"
    if tight(value) not in tight(parts.text):
        yield "text"


def _ways(parts: Parts) -> Findings:
    if not parts.personal:
        return
    page = unsubscribe_page(parts.site, "")
    links = [link for link in _links(parts) if link.get("href", "").startswith(page)]
    if not any(shown(link) for link in links):
        yield "N7", "the HTML has no link to the page to leave at", "let the template show it"
    if page not in parts.text:
        yield "N7", "the text has no link to the page to leave at", "let the template show it"


_RULES = (_same_headings, _same_links, _contact, _postal, _signs, _ways)
