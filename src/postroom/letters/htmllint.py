"""The HTML of a letter → where its elements are not what mail programs and voices need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

from lxml.etree import _Element as Element

from postroom.letters.compose import LEAST, LIMIT, MOST
from postroom.letters.parts import HEADINGS, Parts, shown, tight
from postroom.letters.rules import Findings
from postroom.markdown.lines import columns

_BY_HAND = "correct the template"
_LOADS = ("src", "srcset", "poster", "data")
_DROPPED = frozenset(
    "applet audio base button embed form frame frameset iframe input link math object option "
    "select svg textarea video".split()
)
_HIDDEN = "display:none max-height:0 overflow:hidden mso-hide:all".split()
_TABLE = re.compile(r"<table\b[^>]*>", re.IGNORECASE)


def _light(parts: Parts) -> Findings:
    size = len(parts.html.encode("utf-8", "replace"))
    if size > LIMIT:
        yield "size", f"{size} bytes, and Gmail cuts letters", f"keep it below {LIMIT}"


def _language(parts: Parts) -> Findings:
    if not parts.tree.get("lang"):
        yield "language", "<html> has no lang", "name the language"
    if not parts.tree.get("dir"):
        yield "direction", "<html> has no dir", "name the direction"
    wrappers = [one for one in parts.elements if one.get("role") == "article"]
    if not wrappers:
        yield "wrapper", "there is no role=article", "let a wrapper have it, with lang and dir"
    for element in wrappers:
        for name in ("lang", "dir"):
            if not element.get(name):
                yield "wrapper", f"the wrapper has no {name}", "name language and direction"


def _title(parts: Parts) -> Findings:
    if not any(shown(one) for one in parts.elements if one.tag == "title"):
        yield "title", "there is no title", "let it be the subject"


def _outline(parts: Parts) -> Findings:
    levels = [int(one.tag[1]) for one in parts.elements if one.tag in HEADINGS]
    if levels.count(1) != 1:
        what = f"{levels.count(1)} first-level headings"
        yield "first-heading", what, "let the title be the only one"
    elif levels[0] != 1:
        yield "first-heading", f"<h{levels[0]}> stands before the title", "let the title come first"
    for above, below in pairwise(levels):
        if below > above + 1:
            yield "heading-order", f"<h{below}> follows <h{above}>", "skip no level"


def _tables(parts: Parts) -> Findings:
    for table in parts.elements:
        if table.tag != "table" or table.get("role") in {"presentation", "none"}:
            continue
        # Of a post's own table, marked as data, rows and columns are meant.
        if table.get("class") != "data" and not table.xpath("tr/th | */tr/th"):
            what = "a table without headings has no role=presentation"
            yield "layout-table", what, _BY_HAND
    for tag in _TABLE.findall("\n".join(parts.comments)):
        if 'role="presentation"' not in tag:
            what = "a table that Outlook alone sees has no role=presentation"
            yield "layout-table", what, _BY_HAND


def _ids(parts: Parts) -> Findings:
    counts = Counter(one.get("id") for one in parts.elements if "id" in one.attrib)
    for name, number in counts.items():
        if number > 1:
            yield "duplicate-id", f"id='{name}' stands {number} times", "let each have its own"


def _runs(parts: Parts) -> Findings:
    for element in parts.elements:
        if element.tag == "script":
            yield "script", "<script> is dropped by mail programs", "take it out"
        elif element.tag in _DROPPED:
            what = f"<{element.tag!s}> is dropped by mail programs"
            yield "dropped-element", what, "take it out"
        for name in element.attrib:
            if str(name).startswith("on"):
                yield "script", f"<{element.tag!s} {name!s}> holds a script", "take it out"


def _loads(parts: Parts) -> Findings:
    for element in parts.elements:
        if element.tag in _DROPPED or element.tag == "script":
            continue  # it is named already
        for name in _LOADS:
            address = element.get(name)
            if address and (element.tag, name) != ("img", "src"):
                yield (
                    "remote-load",
                    f"<{element.tag!s} {name!s}> loads something",
                    "let it be a link",
                )


def _pictures(parts: Parts) -> Findings:
    # A letter of ours has no pictures; a newsroom's own template may, as its own host gives them.
    for image in parts.elements:
        if image.tag == "img":
            yield from _picture(image, image.get("src", ""), parts.site.url)


def _picture(image: Element, source: str, home: str) -> Findings:
    if "alt" not in image.attrib:
        yield "image-alt", f"the picture {source} has no alt", "describe it, or write alt=''"
    sizes = [image.get(name, "") for name in ("width", "height")]
    if not all(size.isdecimal() for size in sizes):
        what = f"the picture {source} has no width and height in pixels"
        yield "image-size", what, "write both"
    elif min(map(int, (size[:5] for size in sizes))) < 3:
        yield "pixel", f"the picture {source} is too small to be seen", "take it out"
    if re.search(r"display\s*:\s*none|visibility\s*:\s*hidden", image.get("style", "")):
        yield "pixel", f"the picture {source} is hidden", "take it out"
    address = _split(source)
    if address is None or address[0] != "https":
        what = f"the picture '{source}' has no https address"
        yield "image-address", what, "put it where the pages are"
    elif address != _split(home, "https"):
        what = f"<img> loads from {address[1]}"
        yield "remote-load", what, "put the picture where the pages are"


def _split(address: str, scheme: str = "") -> tuple[str, str] | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return (scheme or parts.scheme, parts.hostname) if parts.hostname else None


def _preheader(parts: Parts) -> Findings:
    body = next((one for one in parts.elements if one.tag == "body"), None)
    first = None if body is None else next(body.iterchildren("*"), None)
    if body is None or first is None or _begins_with_words(body):
        yield "preheader", "no hidden line comes first", "let the template begin with it"
        return
    style = tight(first.get("style", "")).split(";")
    if missing := [one for one in _HIDDEN if one not in style]:
        yield "preheader", f"the first line lacks {', '.join(missing)}", "hide it with all four"
        return
    line = shown(first)
    # An ideograph says as much as two letters, and takes as much room.
    if columns(line) < LEAST or len(line) > MOST:
        what = f"the hidden line has {len(line)} characters"
        yield "preheader-length", what, f"write a summary of {LEAST} to {MOST}"
    if line and parts.said.startswith(tight(line)):
        yield "preheader", "the text begins with the hidden line", "leave it out of the text"


def _begins_with_words(body: Element) -> bool:
    before = [body.text]
    for child in body:
        if isinstance(child.tag, str):
            break
        before.append(child.tail)
    return any(text and not text.isspace() for text in before)


def _directions(parts: Parts) -> Findings:
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
            yield "data-direction", what, "give it one, or a text in Arabic turns it"
        elif found and not any(found):
            yield "data-direction", f"'{value}' has no dir of its own", "give it dir=auto"


def _texts(parts: Parts) -> Iterator[tuple[str, Element]]:
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
