"""The HTML of a letter → what mail programs would drop, load, shrink or leave unreadable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import css_inline
from attrs import evolve
from lxml.html import HtmlElement

from postroom.colour import contrast, is_colour
from postroom.letters.compose import LIMIT
from postroom.letters.rules import HEADINGS, Findings, Parts, elements, shown, tight

_LOADS = ("src", "srcset", "background", "poster", "data")
_DROPPED = frozenset(
    "applet audio base button embed form frame iframe input link object script select svg "
    "textarea video".split()
)
_STYLED = re.compile(
    r"(?<![\w-])(?:display\s*:\s*(?:inline-)?(?:flex|grid)\b|(?:position|background-image)\s*:)[^;}]*"
)
_SIZE = re.compile(r"(?<![\w-])font-size\s*:\s*([^;}]*)")
_FONT = re.compile(r"(?<![\w-])font\s*:\s*([^;}]*)")
_LARGE = re.compile(r"(?:1[3-9]|[2-9][0-9]|[1-9][0-9]{2,})(?:\.[0-9]+)?px")
_REMOTE = re.compile(r"(?<![\w-])url\(|@import", re.IGNORECASE)
_EMPTY_WORDS = frozenset(
    {"", "click here", "here", "link", "more", "read more", "this", "this link"}
)
_HIDDEN = "display:none max-height:0 overflow:hidden mso-hide:all".split()
_DARK = re.compile(
    r"@media[^{]*prefers-color-scheme:\s*dark[^{]*\{((?:[^{}]*\{[^{}]*\})+)\s*\}", re.DOTALL
)
_CONDITION = re.compile(r"<!--\[if |<!\[endif\]")
_BY_HAND = "correct the template"


def html_findings(parts: Parts) -> Findings:
    """Yield what is wrong with the HTML part."""
    for rule in _RULES:
        yield from rule(parts)


def _styles(parts: Parts) -> str:
    """Return all that styles, also what only Outlook sees in conditional comments."""
    found = parts.tree.xpath("//@style | //style/text() | //comment()")
    # An attribute may end without a semicolon.
    return ";\n".join(str(getattr(one, "text", None) or one) for one in found)


def _light(parts: Parts) -> Findings:
    size = len(parts.html.encode())
    if size > LIMIT:
        yield "H1", f"{size} bytes, and Gmail cuts letters", f"keep it below {LIMIT}"
    for tag, element in elements(parts.tree):
        for name in _LOADS:
            if element.get(name):
                yield "H1", f"<{tag} {name}> loads something", "let it be a link"
    if found := _REMOTE.search(_styles(parts)):
        yield "H1", f"a style loads something by {found[0]}", "take it out"


def _outline(parts: Parts) -> Findings:
    levels = [int(tag[1]) for tag, _ in elements(parts.tree) if tag in HEADINGS]
    if levels.count(1) != 1:
        yield "H3", f"{levels.count(1)} first-level headings", "let the title be the only one"
    elif levels[0] != 1:
        yield "H3", f"<h{levels[0]}> stands before the title", "let the title come first"
    for above, below in pairwise(levels):
        if below > above + 1:
            yield "H3", f"<h{below}> follows <h{above}>", "skip no level"


def _named(parts: Parts) -> Findings:
    wrappers = parts.tree.xpath("//*[@role='article']")
    if not wrappers:
        yield "H3", "there is no role=article", "let a wrapper have it, with lang and dir"
    for element in (parts.tree, *wrappers):
        for name in ("lang", "dir"):
            if not element.get(name):
                yield "H3", f"<{element.tag}> has no {name}", "name language and direction"
    if not str(parts.tree.xpath("string(//head/title)")).strip():
        yield "H3", "there is no title", "let it be the subject"
    for table in parts.tree.iter("table"):
        if not table.xpath("tr/th | */tr/th") and table.get("role") != "presentation":
            yield "H3", "a table without headings has no role=presentation", _BY_HAND


def _plain_means(parts: Parts) -> Findings:
    for tag, element in elements(parts.tree):
        if tag in _DROPPED:
            yield "H5", f"<{tag}> is dropped by mail programs", "take it out"
        if any(str(name).startswith("on") for name in element.attrib):
            yield "H5", f"<{tag}> holds a script", "take it out"
    for found in _STYLED.findall(_styles(parts)):
        yield "H5", f"'{found.strip()}' is dropped by mail programs", "use tables and blocks"


def _large_enough(parts: Parts) -> Findings:
    styles = _styles(parts)
    sizes = [value.replace("!important", "").strip() for value in _SIZE.findall(styles)]
    # The size in `font: bold 15px/22px Georgia` stands before the height of the line.
    shorthands = (value.partition("/")[0].split() for value in _FONT.findall(styles))
    sizes += [word for words in shorthands for word in words if word[0].isdigit() and "px" in word]
    for size in sizes:
        if not _LARGE.fullmatch(size):
            yield "H5", f"a text has the size {size}", "give it 13px or more"


def _link_words(parts: Parts) -> Findings:
    for link in parts.tree.iter("a"):
        if shown(link).strip(" .…»>→").casefold() in _EMPTY_WORDS:
            what = f"the link to {link.get('href')} says '{shown(link)}'"
            yield "H5", what, "let it say where it leads"


def _outlook(parts: Parts) -> Findings:
    marks = [mark.startswith("<!--") for mark in _CONDITION.findall(parts.html)]
    if marks != [True, False] * (len(marks) // 2):
        yield "H6", "an [if has no [endif]", _BY_HAND
    inside = "".join(re.findall(r"<!--\[if mso.*?\]>(.*?)<!\[endif\]-->", parts.html, re.DOTALL))
    for tag in ("table", "tr", "td"):
        if len(re.findall(rf"<{tag}\b", inside)) != inside.count(f"</{tag}>"):
            yield "H6", f"Outlook alone sees a <{tag}> that is not closed", _BY_HAND


def _night(parts: Parts) -> Findings:
    styles = "\n".join(map(str, parts.tree.xpath("//style/text()")))
    if not _DARK.search(styles):
        yield "H6", "there are no rules for dark mode", "keep the style element when inlining"
    if "[data-ogsc]" not in styles:
        yield "H6", "there are no rules for Outlook's dark mode", "add some for [data-ogsc]"
    if not parts.tree.xpath("//meta[@name='color-scheme']"):
        yield "H6", "no meta color-scheme says that dark mode is known", _BY_HAND


def _preheader(parts: Parts) -> Findings:
    first = next(iter(parts.tree.xpath("//body/*[1]")), None)
    if first is None or str(parts.tree.xpath("string(//body/text()[1])")).strip():
        yield "H7", "no hidden line comes first", "let the template begin with it"
        return
    style = re.sub(r"\s", "", first.get("style", "")).split(";")
    if missing := [one for one in _HIDDEN if one not in style]:
        yield "H7", f"the first line lacks {', '.join(missing)}", "hide it with all four"
    line = shown(first)
    if not 40 <= len(line) <= 130:
        yield "H7", f"the hidden line has {len(line)} characters", "write a summary of 40 to 130"
    if line and tight(parts.text).startswith(tight(line)):
        yield "H7", "the text begins with the hidden line", "leave it out of the text"


def _directions(parts: Parts) -> Findings:
    contact = parts.site.contact
    lines = contact.address.splitlines()
    for value in (contact.phone, contact.tel, *lines):
        found = [_direction(one) for one in _holding(parts, value)]
        if found and "ltr" not in found:
            yield "H8", f"'{value}' has not dir=ltr", "give it one, or a text in Arabic turns it"
    for value in (contact.organization, contact.name, contact.email):
        found = [_direction(one) for one in _holding(parts, value)]
        if found and not any(found):
            yield "H8", f"'{value}' has no dir of its own", "give it dir=auto"


def _holding(parts: Parts, value: str) -> Iterator[HtmlElement]:
    """Yield the innermost elements whose text or line is exactly `value`."""
    for element in parts.tree.xpath("//body//*[not(self::style)]") if value else ():
        texts = [element.text, *(child.tail for child in element)]
        if any(" ".join((text or "").split()) == value for text in texts):
            yield element


def _direction(element: HtmlElement) -> str:
    """Return the direction given to an element, or to one around it below the wrapper."""
    for one in (element, *element.iterancestors()):
        if one.get("role") == "article":
            break
        if one.get("dir"):
            return one.get("dir", "")
    return ""


def _readable(parts: Parts) -> Findings:
    yield from _contrasts(parts.tree, "by day", "#000000", "#ffffff")
    dark = _DARK.search("\n".join(map(str, parts.tree.xpath("//style/text()"))))
    if dark is None:
        return
    # Rules for the night are put into the attributes, as a mail program applies them.
    inliner = css_inline.CSSInliner(
        inline_style_tags=False, extra_css=dark[1], load_remote_stylesheets=False
    )
    try:
        night = evolve(parts, html=inliner.inline(parts.html))
    except css_inline.InlineError as error:
        yield "H5", f"a style attribute cannot be read: {error}", _BY_HAND
    else:
        yield from _contrasts(night.tree, "by night", "#ffffff", "#000000")


def _contrasts(tree: HtmlElement, when: str, ink: str, paper: str) -> Findings:
    for body in tree.iter("body"):
        for text, colour, behind in _painted(body, ink, paper):
            if contrast(colour, behind) < 4.5:  # WCAG 2.2, SC 1.4.3
                what = f"'{text}' is {colour} on {behind} {when}"
                yield "H4", what, "choose colours with a contrast of 4.5"


def _painted(element: HtmlElement, ink: str, paper: str) -> Iterator[tuple[str, str, str]]:
    """Yield every text below `element` with its colour and the one behind it."""
    declared = dict(_declarations(element.get("style", "")))
    if declared.get("display") == "none":
        return
    ink = _colour(declared.get("color", "")) or ink
    behind = (
        declared.get("background-color") or declared.get("background") or element.get("bgcolor")
    )
    paper = _colour(behind or "") or paper
    for text in (element.text, *(child.tail for child in element)):
        if text and text.strip():
            yield " ".join(text.split())[:40], ink, paper
    for child in element:
        if isinstance(child.tag, str) and child.tag != "style":
            yield from _painted(child, ink, paper)


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for one in style.split(";"):
        name, _, value = one.partition(":")
        yield name.strip().lower(), value.replace("!important", "").strip().lower()


def _colour(value: str) -> str:
    """Return `value` as `#rrggbb`, or nothing if it is no colour written in hexadecimal."""
    if re.fullmatch(r"#[0-9a-f]{3}", value):
        return "#" + "".join(2 * digit for digit in value[1:])
    return value if is_colour(value) else {"white": "#ffffff", "black": "#000000"}.get(value, "")


_RULES = (
    _light,
    _outline,
    _named,
    _readable,
    _plain_means,
    _large_enough,
    _link_words,
    _outlook,
    _night,
    _preheader,
    _directions,
)
