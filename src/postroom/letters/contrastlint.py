"""The colours of a letter → which text cannot be read on what stands behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import css_inline
from attrs import evolve, frozen
from lxml import etree
from lxml.etree import _Element as Element

from postroom.colour import contrast, is_colour
from postroom.letters.parts import Parts, parsed
from postroom.letters.rules import Findings
from postroom.letters.stylelint import DARK

_LEAST = 4.5
"""WCAG 2.2, SC 1.4.3."""
# CSS Color 4 §6.1: those that people write by hand.
_NAMES = {
    "black": "#000000",
    "silver": "#c0c0c0",
    "gray": "#808080",
    "grey": "#808080",
    "white": "#ffffff",
    "maroon": "#800000",
    "red": "#ff0000",
    "purple": "#800080",
    "fuchsia": "#ff00ff",
    "green": "#008000",
    "lime": "#00ff00",
    "olive": "#808000",
    "yellow": "#ffff00",
    "navy": "#000080",
    "blue": "#0000ff",
    "teal": "#008080",
    "aqua": "#00ffff",
    "orange": "#ffa500",
}
_AS_AROUND = frozenset({"", "inherit", "currentcolor", "transparent", "none", "unset", "initial"})
_RGB = re.compile(r"rgb\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)")
_WORD = re.compile(r"[a-z-]+\([^)]*\)|[^\s]+")
_UNSEEN = frozenset({"head", "script", "style", "title"})


@frozen(cache_hash=True)
class _Paint:
    """The colours of text, of what stands behind it and of links; a strange one as written."""

    ink: str
    paper: str
    link: str
    hidden: bool = False


_DAY = _Paint("#000000", "#ffffff", "#0000ee")
_NIGHT = _Paint("#ffffff", "#000000", "#9e9eff")
"""What a browser takes where a letter says nothing."""


def _readable(parts: Parts) -> Findings:
    yield from _contrasts(parts.tree, "by day", _DAY)
    if dark := DARK.search(parts.sheets):
        # Rules for the night are put into the attributes, as a mail program applies them.
        inliner = css_inline.CSSInliner(
            inline_style_tags=False, extra_css=dark[1], load_remote_stylesheets=False
        )
        try:
            night = parsed(inliner.inline(parts.html))
        except css_inline.InlineError as error:
            what = f"a style attribute cannot be read: {error}"
            yield "style-syntax", what, "correct the template"
        else:
            yield from _contrasts(night, "by night", _NIGHT)


def _contrasts(tree: Element, when: str, first: _Paint) -> Findings:
    texts: dict[_Paint, str] = {}
    for text, paint in _painted(tree, first):
        texts.setdefault(paint, text)
    for paint, text in texts.items():
        yield from _contrast(" ".join(text.split())[:40], paint, when)


def _contrast(text: str, paint: _Paint, when: str) -> Findings:
    strange = [colour for colour in (paint.ink, paint.paper) if not is_colour(colour)]
    for colour in strange:
        what = f"'{text}' stands in '{colour}' {when}, of which no contrast can be computed"
        yield "contrast", what, "write it as #rrggbb"
    if not strange and contrast(paint.ink, paint.paper) < _LEAST:
        what = f"'{text}' is {paint.ink} on {paint.paper} {when}"
        yield "contrast", what, "choose colours with a contrast of 4.5"


def _painted(tree: Element, first: _Paint) -> Iterator[tuple[str, _Paint]]:
    """Yield every text that can be seen, with its colours."""
    around = [first]
    for event, element in etree.iterwalk(tree, events=("start", "end", "comment")):
        if event == "start":
            around.append(_within(around[-1], element))
        elif event == "end":
            around.pop()
        text = element.text if event == "start" else element.tail
        if text and not text.isspace() and not around[-1].hidden:
            yield text, around[-1]


def _within(around: _Paint, element: Element) -> _Paint:
    if around.hidden or element.tag in _UNSEEN:
        return evolve(around, hidden=True)
    is_link = element.tag == "a" and "href" in element.attrib
    return _mixed(around, element.get("style", ""), element.get("bgcolor", ""), is_link=is_link)


@lru_cache(maxsize=512)
def _mixed(around: _Paint, style: str, behind: str, *, is_link: bool) -> _Paint:
    declared = dict(_declarations(style))
    hidden = declared.get("display") == "none"
    behind = declared.get("background-color") or declared.get("background") or behind.lower()
    ink = declared.get("color", "")
    return _Paint(
        _colour(ink) or (around.link if is_link and not ink else around.ink),
        _behind(behind) or around.paper,
        around.link,
        hidden,
    )


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for one in style.split(";"):
        name, _, value = one.partition(":")
        yield name.strip().lower(), value.lower().replace("!important", "").strip()


def _behind(value: str) -> str:
    """Return the colour in the shorthand for a background, which is a colour and other words."""
    words = _WORD.findall(value)
    read = [_colour(word) for word in words]
    alone = read[0] if len(read) == 1 and "url(" not in value else ""
    return next(filter(is_colour, read), alone)


def _colour(value: str) -> str:
    """Return a colour as `#rrggbb`, a strange one as written, and nothing for that around."""
    if value in _AS_AROUND:
        return ""
    if re.fullmatch(r"#[0-9a-f]{3}", value):
        return "#" + "".join(2 * digit for digit in value[1:])
    if channels := _RGB.fullmatch(value):
        return "#" + "".join(f"{min(255, int(channel)):02x}" for channel in channels.groups())
    return _NAMES.get(value, value)


CONTRAST_RULES = (_readable,)
