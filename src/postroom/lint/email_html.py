"""Rules for the HTML part of an email: links, styles and elements."""

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

_CORRECT = "correct the template"
_REMOVE = "remove it"
_NAME_TARGET = "write a text that names the target"


# Links.


def _link_texts(parts: EmailParts) -> Iterator[Problem]:
    for link in parts.links:
        text, url = visible_text(link), link.get("href")
        if not text and not _has_described_image(link):
            yield file_problem("email-empty-link", f"the link to {url} has no text", _NAME_TARGET)
        elif is_generic_link_text(text):
            message = f"the link to {url} says '{text}'"
            yield file_problem("email-link-words", message, _NAME_TARGET)


def _has_described_image(link: Element) -> bool:
    return any(image.get("alt", "").strip() for image in link.iter("img"))


def _link_urls(parts: EmailParts) -> Iterator[Problem]:
    ids = {element.get("id", "") for element in parts.elements if "id" in element.attrib}
    for link in parts.links:
        if fault := url_fault(link.get("href", ""), ids):
            target = f"the link '{visible_text(link)}' leads to '{link.get('href')}'"
            yield file_problem("email-bad-href", f"{target}, which {fault}", "write the full URL")


LINK_RULES = (_link_texts, _link_urls)

# Styles.

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
# The @ ends the search. Without it, many at-rules without a brace would take quadratic time.
DARK = re.compile(
    r"@media[^{}@]*prefers-color-scheme\s*:\s*dark[^{}@]*\{((?:[^{}]*\{[^{}]*\})+)\s*\}"
)


def _unsupported_styles(parts: EmailParts) -> Iterator[Problem]:
    for rule, pattern, hint in (
        ("email-flex-or-grid", _LAYOUT, "use tables and blocks"),
        ("email-position", _POSITION, "use tables and blocks"),
        ("email-background-image", _BACKGROUND, "use a colour"),
    ):
        for found in pattern.findall(parts.styles):
            yield file_problem(rule, f"mail programs remove '{found.strip()[:60]}'", hint)
    for element in parts.elements:
        if element.get("background"):
            message = f"<{element.tag!s} background> loads an image"
            yield file_problem("email-background-image", message, "use a colour")


def _remote_styles(parts: EmailParts) -> Iterator[Problem]:
    if found := _REMOTE.search(_BACKGROUND.sub("", parts.styles)):
        message = f"a style loads a resource with {found[0]}"
        yield file_problem("email-remote-load", message, _REMOVE)


def _font_sizes(parts: EmailParts) -> Iterator[Problem]:
    sizes = [_css_value(size) for size in _SIZE.findall(parts.styles)]
    # In `font: bold 15px/22px Georgia` the size stands before the slash.
    shorthands = (_css_value(font).partition("/")[0] for font in _FONT.findall(parts.styles))
    sizes += [
        word
        for shorthand in shorthands
        for word in shorthand.split()
        if _LENGTH.fullmatch(word) and not word.isdecimal()
    ]
    hint = "use 13px or more"
    for size in dict.fromkeys(sizes):
        if not _LARGE.fullmatch(size):
            yield file_problem("email-font-size", f"a text has the font size {size}", hint)
    if any(element.tag == "font" and element.get("size") for element in parts.elements):
        yield file_problem("email-font-size", "<font size> is not a size in pixels", hint)


def _css_value(written: str) -> str:
    return written.lower().replace("!important", "").strip()


def _conditional_comments(parts: EmailParts) -> Iterator[Problem]:
    rule = "email-conditional-comments"
    opens = [mark.startswith("<!--") for mark in _CONDITION.findall(parts.html)]
    if opens != [True, False] * (len(opens) // 2):
        yield file_problem(rule, "an [if has no [endif]", _CORRECT)
    conditional = [comment for comment in parts.comments if comment.startswith("[if ")]
    html = "".join(comment.partition("]>")[2] for comment in conditional)
    for tag in ("table", "tr", "td"):
        if len(re.findall(rf"<{tag}\b", html)) != html.count(f"</{tag}>"):
            yield file_problem(rule, f"a <{tag}> for Outlook is not closed", _CORRECT)


def _dark_mode(parts: EmailParts) -> Iterator[Problem]:
    if not DARK.search(parts.sheets):
        message = "there are no rules for dark mode"
        yield file_problem("email-dark-mode", message, "keep the style element when inlining")
    if "[data-ogsc]" not in parts.sheets:
        message = "there are no rules for Outlook's dark mode"
        yield file_problem("email-dark-mode", message, "add rules with [data-ogsc]")
    names = {element.get("name") for element in parts.elements if element.tag == "meta"}
    if "color-scheme" not in names:
        yield file_problem("email-dark-mode", "there is no meta element color-scheme", _CORRECT)


STYLE_RULES = (
    _unsupported_styles,
    _remote_styles,
    _font_sizes,
    _conditional_comments,
    _dark_mode,
)

# Elements.

_LOADS = ("src", "srcset", "poster", "data")
_REMOVED_TAGS = frozenset(
    "applet audio base button embed form frame frameset iframe input link math object option "
    "select svg textarea video".split()
)
_HIDDEN = "display:none max-height:0 overflow:hidden mso-hide:all".split()
_TABLE = re.compile(r"<table\b[^>]*>", re.IGNORECASE)


def _size(parts: EmailParts) -> Iterator[Problem]:
    size = len(parts.html.encode("utf-8", "replace"))
    if size > MAX_HTML_BYTES:
        message = f"the HTML part has {size:,} bytes, and Gmail cuts it"
        yield file_problem("email-size", message, f"keep it below {MAX_HTML_BYTES:,} bytes")


def _language(parts: EmailParts) -> Iterator[Problem]:
    if not parts.tree.get("lang"):
        yield file_problem("email-language", "<html> has no lang", "write the language")
    if not parts.tree.get("dir"):
        yield file_problem("email-direction", "<html> has no dir", "write dir=ltr or dir=rtl")
    wrappers = [element for element in parts.elements if element.get("role") == "article"]
    if not wrappers:
        hint = "add a wrapper with role, lang and dir"
        yield file_problem("email-wrapper", "there is no role=article", hint)
    for element in wrappers:
        for name in ("lang", "dir"):
            if not element.get(name):
                message = f"the element with role=article has no {name}"
                yield file_problem("email-wrapper", message, "write lang and dir")


def _title(parts: EmailParts) -> Iterator[Problem]:
    if not any(visible_text(e) for e in parts.elements if e.tag == "title"):
        yield file_problem("email-title", "there is no title", "write the subject into <title>")


def _headings(parts: EmailParts) -> Iterator[Problem]:
    levels = [int(element.tag[1]) for element in parts.elements if element.tag in HEADINGS]
    if (count := levels.count(1)) != 1:
        message = f"has {count or 'no'} first-level heading{'s' if count else ''}"
        yield file_problem("email-first-heading", message, "write one, for the title")
    elif levels[0] != 1:
        message = f"<h{levels[0]}> stands before the title"
        yield file_problem("email-first-heading", message, "write the title first")
    for above, below in pairwise(levels):
        if below > above + 1:
            message = f"<h{below}> follows <h{above}>"
            yield file_problem("email-heading-order", message, "skip no level")


def _layout_tables(parts: EmailParts) -> Iterator[Problem]:
    rule = "email-layout-table"
    for table in parts.elements:
        if table.tag != "table" or table.get("role") in {"presentation", "none"}:
            continue
        # A table in the text of a post has the class `data`.
        if table.get("class") != "data" and not table.xpath("tr/th | */tr/th"):
            message = "a table without header cells has no role=presentation"
            yield file_problem(rule, message, _CORRECT)
    for tag in _TABLE.findall("\n".join(parts.comments)):
        if 'role="presentation"' not in tag:
            yield file_problem(rule, "a table for Outlook has no role=presentation", _CORRECT)


def _ids(parts: EmailParts) -> Iterator[Problem]:
    counts = Counter(element.get("id") for element in parts.elements if "id" in element.attrib)
    for identity, count in counts.items():
        if count > 1:
            message = f"id='{identity}' occurs {count} times"
            yield file_problem("email-duplicate-id", message, "make each id unique")


def _removed_elements(parts: EmailParts) -> Iterator[Problem]:
    for element in parts.elements:
        if element.tag == "script":
            yield file_problem("email-script", "mail programs remove <script>", _REMOVE)
        elif element.tag in _REMOVED_TAGS:
            message = f"mail programs remove <{element.tag!s}>"
            yield file_problem("email-dropped-element", message, _REMOVE)
        for name in element.attrib:
            if str(name).startswith("on"):
                message = f"<{element.tag!s} {name!s}> contains a script"
                yield file_problem("email-script", message, _REMOVE)


def _remote_elements(parts: EmailParts) -> Iterator[Problem]:
    for element in parts.elements:
        if element.tag in _REMOVED_TAGS or element.tag == "script":
            continue  # reported by another rule
        for name in _LOADS:
            if element.get(name) and (element.tag, name) != ("img", "src"):
                message = f"<{element.tag!s} {name!s}> loads a resource"
                yield file_problem("email-remote-load", message, "write a link instead")


def _images(parts: EmailParts) -> Iterator[Problem]:
    # The theme's emails have no images. A template of a site may load them from the site itself.
    for image in parts.elements:
        if image.tag == "img":
            yield from _lint_image(image, image.get("src", ""), parts.site.url)


def _lint_image(image: Element, source: str, site_url: str) -> Iterator[Problem]:
    if "alt" not in image.attrib:
        hint = "describe it, or write alt='' if it is decorative"
        yield file_problem("email-image-alt", f"the image {source} has no alt", hint)
    sizes = [image.get(name, "") for name in ("width", "height")]
    if not all(size.isdecimal() for size in sizes):
        message = f"the image {source} has no width and height in pixels"
        yield file_problem("email-image-size", message, "write both")
    elif min(map(int, (size[:5] for size in sizes))) < 3:
        yield file_problem("email-pixel", f"the image {source} is too small to see", _REMOVE)
    if re.search(r"display\s*:\s*none|visibility\s*:\s*hidden", image.get("style", "")):
        yield file_problem("email-pixel", f"the image {source} is hidden", _REMOVE)
    origin = _origin(source)
    if origin is None or origin[0] != "https":
        message = f"the image '{source}' has no https URL"
        yield file_problem("email-image-address", message, "publish it with the site")
    elif origin != _origin(site_url, "https"):
        message = f"<img> loads from {origin[1]}"
        yield file_problem("email-remote-load", message, "publish the image with the site")


def _origin(url: str, scheme: str = "") -> tuple[str, str] | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return (scheme or parts.scheme, parts.hostname) if parts.hostname else None


def _preheader(parts: EmailParts) -> Iterator[Problem]:
    body = next((element for element in parts.elements if element.tag == "body"), None)
    first = None if body is None else next(body.iterchildren("*"), None)
    if body is None or first is None or _begins_with_text(body):
        hint = "begin the body with a hidden element"
        yield file_problem("email-preheader", "there is no preheader", hint)
        return
    style = strip_whitespace(first.get("style", "")).split(";")
    if missing := [declaration for declaration in _HIDDEN if declaration not in style]:
        message = f"the first element lacks {', '.join(missing)}"
        yield file_problem("email-preheader", message, "hide it with all four")
        return
    line = visible_text(first)
    # An ideograph says as much as two Latin letters, and is as wide.
    if display_width(line) < MIN_PREHEADER or len(line) > MAX_PREHEADER:
        message = f"the length of the preheader is {len(line)}"
        hint = f"write a summary of {MIN_PREHEADER} to {MAX_PREHEADER}"
        yield file_problem("email-preheader-length", message, hint)
    if line and parts.plain.startswith(strip_whitespace(line)):
        message = "the text part begins with the preheader"
        yield file_problem("email-preheader", message, "remove it from the text part")


def _begins_with_text(body: Element) -> bool:
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
    by_value: dict[str, list[str]] = {value: [] for value in (*numbers, *names) if value.strip()}
    for text, element in _texts(parts):
        if text in by_value:
            by_value[text].append(_direction(element))
    for value, directions in by_value.items():
        if value in numbers and directions and "ltr" not in directions:
            message = f"the element around '{value}' has no dir=\"ltr\""
            hint = "add it, because beside Arabic text the number would be read in another order"
            yield file_problem("email-data-direction", message, hint)
        elif directions and not any(directions):
            message = f"the element around '{value}' has no attribute dir"
            hint = 'write <span dir="auto"> around it'
            yield file_problem("email-data-direction", message, hint)


def _texts(parts: EmailParts) -> Iterator[tuple[str, Element]]:
    """Yield each piece of text between two tags, with the element that contains it."""
    for element in parts.elements:
        if element.tag not in {"style", "title", "script"}:
            for text in (element.text, *(child.tail for child in element)):
                if text and not text.isspace():
                    yield " ".join(text.split()), element


def _direction(element: Element) -> str:
    """Return the direction of an element, or of one around it below the wrapper."""
    for around in (element, *element.iterancestors()):
        if around.get("role") == "article":
            break
        if around.get("dir"):
            return around.get("dir", "")
    return ""


HTML_RULES = (
    _size,
    _language,
    _title,
    _headings,
    _layout_tables,
    _ids,
    _removed_elements,
    _remote_elements,
    _images,
    _preheader,
    _directions,
)
