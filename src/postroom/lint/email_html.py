"""The links of a letter → those that lead nowhere, or do not say where."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

from lxml.etree import _Element as Element

from postroom.errors import Problem
from postroom.lint.context import file_problem
from postroom.lint.email_parts import (
    HEADINGS,
    EmailParts,
    strip_whitespace,
    visible_text,
)
from postroom.lint.links import is_generic_link_text, url_fault
from postroom.newsletter.render import MAX_HTML_BYTES, MAX_PREHEADER, MIN_PREHEADER
from postroom.text import display_width


def _words(parts: EmailParts) -> Iterator[Problem]:
    for link in parts.links:
        words, address = visible_text(link), link.get("href")
        if not words and not _pictured(link):
            yield file_problem(
                "email-empty-link",
                f"the link to {address} has no words",
                "let it say where it leads",
            )
        elif is_generic_link_text(words):
            what = f"the link to {address} says '{words}'"
            yield file_problem("email-link-words", what, "let it say where it leads")


def _pictured(link: Element) -> bool:
    return any(image.get("alt", "").strip() for image in link.iter("img"))


def _addresses(parts: EmailParts) -> Iterator[Problem]:
    ids = {one.get("id", "") for one in parts.elements if "id" in one.attrib}
    for link in parts.links:
        if fault := url_fault(link.get("href", ""), ids):
            what = f"the link '{visible_text(link)}' leads to '{link.get('href')}', which {fault}"
            yield file_problem("email-bad-href", what, "write the whole address")


LINK_RULES = (_words, _addresses)

_BY_HAND = "correct the template"
_LAYOUT = re.compile(r"(?<![\w-])display\s*:\s*(?:inline-)?(?:flex|grid)\b[^;}]*", re.IGNORECASE)
_POSITION = re.compile(r"(?<![\w-])position\s*:[^;}]*", re.IGNORECASE)
_BACKGROUND = re.compile(
    r"(?<![\w-])(?:background-image\s*:[^;}]*|background\s*:[^;}]*\burl\([^;}]*)", re.IGNORECASE
)
_REMOTE = re.compile(r"(?<![\w-])(?:url\(|image-set\(|@import)", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\w-])font-size\s*:\s*([^;}]*)", re.IGNORECASE)
_FONT = re.compile(r"(?<![\w-])font\s*:\s*([^;}]*)", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9.]+[a-z%]*")
_LARGE = re.compile(r"(?:1[3-9]|[2-9][0-9]|[1-9][0-9]{2,})(?:\.[0-9]+)?px")
_CONDITION = re.compile(r"<!--\[if |<!\[endif\]")
# An @ ends the search: many rules without a brace would else be read over and over.
DARK = re.compile(
    r"@media[^{}@]*prefers-color-scheme\s*:\s*dark[^{}@]*\{((?:[^{}]*\{[^{}]*\})+)\s*\}"
)


def _dropped(parts: EmailParts) -> Iterator[Problem]:
    for rule, pattern, repair in (
        ("email-flex-or-grid", _LAYOUT, "use tables and blocks"),
        ("email-position", _POSITION, "use tables and blocks"),
        ("email-background-image", _BACKGROUND, "use a colour"),
    ):
        for found in pattern.findall(parts.styles):
            yield file_problem(rule, f"'{found.strip()[:60]}' is dropped by mail programs", repair)
    for element in parts.elements:
        if element.get("background"):
            what = f"<{element.tag!s} background> loads something"
            yield file_problem("email-background-image", what, "use a colour")


def _remote(parts: EmailParts) -> Iterator[Problem]:
    if found := _REMOTE.search(_BACKGROUND.sub("", parts.styles)):
        yield file_problem(
            "email-remote-load", f"a style loads something by {found[0]}", "take it out"
        )


def _large_enough(parts: EmailParts) -> Iterator[Problem]:
    sizes = [_value(size) for size in _SIZE.findall(parts.styles)]
    # The size in `font: bold 15px/22px Georgia` stands before the height of the line.
    shorthands = (_value(font).partition("/")[0].split() for font in _FONT.findall(parts.styles))
    sizes += [
        word
        for words in shorthands
        for word in words
        if _LENGTH.fullmatch(word) and not word.isdecimal()
    ]
    for size in dict.fromkeys(sizes):
        if not _LARGE.fullmatch(size):
            yield file_problem(
                "email-font-size", f"a text has the size {size}", "give it 13px or more"
            )
    if any(element.tag == "font" and element.get("size") for element in parts.elements):
        yield file_problem("email-font-size", "<font size> says no pixels", "give it 13px or more")


def _value(written: str) -> str:
    return written.lower().replace("!important", "").strip()


def _outlook(parts: EmailParts) -> Iterator[Problem]:
    marks = [mark.startswith("<!--") for mark in _CONDITION.findall(parts.html)]
    if marks != [True, False] * (len(marks) // 2):
        yield file_problem("email-conditional-comments", "an [if has no [endif]", _BY_HAND)
    inside = "".join(one.partition("]>")[2] for one in parts.comments if one.startswith("[if "))
    for tag in ("table", "tr", "td"):
        if len(re.findall(rf"<{tag}\b", inside)) != inside.count(f"</{tag}>"):
            what = f"Outlook alone sees a <{tag}> that is not closed"
            yield file_problem("email-conditional-comments", what, _BY_HAND)


def _night(parts: EmailParts) -> Iterator[Problem]:
    if not DARK.search(parts.sheets):
        what = "there are no rules for dark mode"
        yield file_problem("email-dark-mode", what, "keep the style element when inlining")
    if "[data-ogsc]" not in parts.sheets:
        what = "there are no rules for Outlook's dark mode"
        yield file_problem("email-dark-mode", what, "add some for [data-ogsc]")
    names = {one.get("name") for one in parts.elements if one.tag == "meta"}
    if "color-scheme" not in names:
        yield file_problem(
            "email-dark-mode", "no meta color-scheme says that dark mode is known", _BY_HAND
        )


STYLE_RULES = (_dropped, _remote, _large_enough, _outlook, _night)
_LOADS = ("src", "srcset", "poster", "data")
_DROPPED = frozenset(
    "applet audio base button embed form frame frameset iframe input link math object option "
    "select svg textarea video".split()
)
_HIDDEN = "display:none max-height:0 overflow:hidden mso-hide:all".split()
_TABLE = re.compile(r"<table\b[^>]*>", re.IGNORECASE)


def _light(parts: EmailParts) -> Iterator[Problem]:
    size = len(parts.html.encode("utf-8", "replace"))
    if size > MAX_HTML_BYTES:
        yield file_problem(
            "email-size", f"{size} bytes, and Gmail cuts letters", f"keep it below {MAX_HTML_BYTES}"
        )


def _language(parts: EmailParts) -> Iterator[Problem]:
    if not parts.tree.get("lang"):
        yield file_problem("email-language", "<html> has no lang", "name the language")
    if not parts.tree.get("dir"):
        yield file_problem("email-direction", "<html> has no dir", "name the direction")
    wrappers = [one for one in parts.elements if one.get("role") == "article"]
    if not wrappers:
        yield file_problem(
            "email-wrapper", "there is no role=article", "let a wrapper have it, with lang and dir"
        )
    for element in wrappers:
        for name in ("lang", "dir"):
            if not element.get(name):
                yield file_problem(
                    "email-wrapper", f"the wrapper has no {name}", "name language and direction"
                )


def _title(parts: EmailParts) -> Iterator[Problem]:
    if not any(visible_text(one) for one in parts.elements if one.tag == "title"):
        yield file_problem("email-title", "there is no title", "let it be the subject")


def _outline(parts: EmailParts) -> Iterator[Problem]:
    levels = [int(one.tag[1]) for one in parts.elements if one.tag in HEADINGS]
    if levels.count(1) != 1:
        what = f"{levels.count(1)} first-level headings"
        yield file_problem("email-first-heading", what, "let the title be the only one")
    elif levels[0] != 1:
        yield file_problem(
            "email-first-heading",
            f"<h{levels[0]}> stands before the title",
            "let the title come first",
        )
    for above, below in pairwise(levels):
        if below > above + 1:
            yield file_problem(
                "email-heading-order", f"<h{below}> follows <h{above}>", "skip no level"
            )


def _tables(parts: EmailParts) -> Iterator[Problem]:
    for table in parts.elements:
        if table.tag != "table" or table.get("role") in {"presentation", "none"}:
            continue
        # Of a post's own table, marked as data, rows and columns are meant.
        if table.get("class") != "data" and not table.xpath("tr/th | */tr/th"):
            what = "a table without headings has no role=presentation"
            yield file_problem("email-layout-table", what, _BY_HAND)
    for tag in _TABLE.findall("\n".join(parts.comments)):
        if 'role="presentation"' not in tag:
            what = "a table that Outlook alone sees has no role=presentation"
            yield file_problem("email-layout-table", what, _BY_HAND)


def _ids(parts: EmailParts) -> Iterator[Problem]:
    counts = Counter(one.get("id") for one in parts.elements if "id" in one.attrib)
    for name, number in counts.items():
        if number > 1:
            yield file_problem(
                "email-duplicate-id", f"id='{name}' stands {number} times", "let each have its own"
            )


def _runs(parts: EmailParts) -> Iterator[Problem]:
    for element in parts.elements:
        if element.tag == "script":
            yield file_problem(
                "email-script", "<script> is dropped by mail programs", "take it out"
            )
        elif element.tag in _DROPPED:
            what = f"<{element.tag!s}> is dropped by mail programs"
            yield file_problem("email-dropped-element", what, "take it out")
        for name in element.attrib:
            if str(name).startswith("on"):
                yield file_problem(
                    "email-script", f"<{element.tag!s} {name!s}> holds a script", "take it out"
                )


def _loads(parts: EmailParts) -> Iterator[Problem]:
    for element in parts.elements:
        if element.tag in _DROPPED or element.tag == "script":
            continue  # it is named already
        for name in _LOADS:
            address = element.get(name)
            if address and (element.tag, name) != ("img", "src"):
                yield file_problem(
                    "email-remote-load",
                    f"<{element.tag!s} {name!s}> loads something",
                    "let it be a link",
                )


def _pictures(parts: EmailParts) -> Iterator[Problem]:
    # A letter of ours has no pictures; a newsroom's own template may, as its own host gives them.
    for image in parts.elements:
        if image.tag == "img":
            yield from _picture(image, image.get("src", ""), parts.site.url)


def _picture(image: Element, source: str, home: str) -> Iterator[Problem]:
    if "alt" not in image.attrib:
        yield file_problem(
            "email-image-alt", f"the picture {source} has no alt", "describe it, or write alt=''"
        )
    sizes = [image.get(name, "") for name in ("width", "height")]
    if not all(size.isdecimal() for size in sizes):
        what = f"the picture {source} has no width and height in pixels"
        yield file_problem("email-image-size", what, "write both")
    elif min(map(int, (size[:5] for size in sizes))) < 3:
        yield file_problem(
            "email-pixel", f"the picture {source} is too small to be seen", "take it out"
        )
    if re.search(r"display\s*:\s*none|visibility\s*:\s*hidden", image.get("style", "")):
        yield file_problem("email-pixel", f"the picture {source} is hidden", "take it out")
    address = _split(source)
    if address is None or address[0] != "https":
        what = f"the picture '{source}' has no https address"
        yield file_problem("email-image-address", what, "put it where the pages are")
    elif address != _split(home, "https"):
        what = f"<img> loads from {address[1]}"
        yield file_problem("email-remote-load", what, "put the picture where the pages are")


def _split(address: str, scheme: str = "") -> tuple[str, str] | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return (scheme or parts.scheme, parts.hostname) if parts.hostname else None


def _preheader(parts: EmailParts) -> Iterator[Problem]:
    body = next((one for one in parts.elements if one.tag == "body"), None)
    first = None if body is None else next(body.iterchildren("*"), None)
    if body is None or first is None or _begins_with_words(body):
        yield file_problem(
            "email-preheader", "no hidden line comes first", "let the template begin with it"
        )
        return
    style = strip_whitespace(first.get("style", "")).split(";")
    if missing := [one for one in _HIDDEN if one not in style]:
        yield file_problem(
            "email-preheader", f"the first line lacks {', '.join(missing)}", "hide it with all four"
        )
        return
    line = visible_text(first)
    # An ideograph says as much as two letters, and takes as much room.
    if display_width(line) < MIN_PREHEADER or len(line) > MAX_PREHEADER:
        what = f"the hidden line has {len(line)} characters"
        yield file_problem(
            "email-preheader-length", what, f"write a summary of {MIN_PREHEADER} to {MAX_PREHEADER}"
        )
    if line and parts.said.startswith(strip_whitespace(line)):
        yield file_problem(
            "email-preheader", "the text begins with the hidden line", "leave it out of the text"
        )


def _begins_with_words(body: Element) -> bool:
    before = [body.text]
    for child in body:
        if isinstance(child.tag, str):
            break
        before.append(child.tail)
    return any(text and not text.isspace() for text in before)


def _directions(parts: EmailParts) -> Iterator[Problem]:
    contact = parts.site.contact
    numbers = (contact.phone, contact.tel, *contact.address.splitlines())
    names = (contact.organization, contact.name, contact.email)
    held: dict[str, list[str]] = {value: [] for value in (*numbers, *names) if value.strip()}
    for words, element in _texts(parts):
        if words in held:
            held[words].append(_direction(element))
    for value, found in held.items():
        if value in numbers and found and "ltr" not in found:
            what = f"'{value}' has not dir=ltr"
            yield file_problem(
                "email-data-direction", what, "give it one, or a text in Arabic turns it"
            )
        elif found and not any(found):
            yield file_problem(
                "email-data-direction", f"'{value}' has no dir of its own", "give it dir=auto"
            )


def _texts(parts: EmailParts) -> Iterator[tuple[str, Element]]:
    """Yield the words between any two tags, with the element they stand in."""
    for element in parts.elements:
        if element.tag not in {"style", "title", "script"}:
            for text in (element.text, *(child.tail for child in element)):
                if text and not text.isspace():
                    yield " ".join(text.split()), element


def _direction(element: Element) -> str:
    """Return the direction given to an element, or to one around it below the wrapper."""
    for one in (element, *element.iterancestors()):
        if one.get("role") == "article":
            break
        if one.get("dir"):
            return one.get("dir", "")
    return ""


HTML_RULES = (
    _light,
    _language,
    _title,
    _outline,
    _tables,
    _ids,
    _runs,
    _loads,
    _pictures,
    _preheader,
    _directions,
)
