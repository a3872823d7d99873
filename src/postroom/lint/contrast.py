"""A stylesheet of the theme → text whose colour is too near to the one behind it.

This is a look at colours as they are written, not a browser: a rule that names one of both colours
is held against the body's other one, by day and by night.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

import css_inline
from attrs import evolve, frozen
from lxml import etree
from lxml.etree import _Element as Element

from postroom.contrast import contrast, is_colour
from postroom.errors import Problem
from postroom.lint.email_html import DARK
from postroom.lint.email_parts import EmailFindings, EmailParts, parse_html

_LEAST = 4.5
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_PIECE = re.compile(r"([^{};]*)([{};])")
_VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,[^()]*)?\)")
_COMMA = re.compile(r",(?![^(]*\))")
_PAGE = (":root", "html", "body")
_BACKGROUND = ("background", "background-color")
_NAMES = {"white": "#ffffff", "black": "#000000"}


@frozen
class _Rule:
    """A rule of a stylesheet; `when` is the condition it stands under."""

    when: str
    selector: str
    values: Mapping[str, str]


def contrast_problems(css: str, path: str) -> Iterator[Problem]:
    """Yield a problem for each rule of `css` that is hard to read (WCAG 2.2, SC 1.4.3)."""
    rules = list(_rules(css))
    for when in dict.fromkeys(rule.when for rule in rules if rule.selector in _PAGE):
        # What stands under a condition comes on top of what always holds.
        styles: dict[str, dict[str, str]] = {}
        for rule in rules:
            if rule.when in {"", when}:
                styles.setdefault(rule.selector, {}).update(rule.values)
        for what in _unreadable(styles, _scheme(when)):
            repair = f"choose colours with {_LEAST} or more"
            yield Problem(path, message=what, hint=repair, rule="page-contrast")


def _scheme(when: str) -> str:
    if "dark" in when:
        return "by night"
    return "in print" if "print" in when else "by day"


def _unreadable(styles: Mapping[str, Mapping[str, str]], when: str) -> Iterator[str]:
    page = {name: value for one in _PAGE for name, value in styles.get(one, {}).items()}
    ink, paper = _ink(page, page) or "#000000", _paper(page, page) or "#ffffff"
    for selector, values in styles.items():
        # What is written and is no plain colour, such as `inherit`, is not known.
        text = _ink(values, page) if "color" in values else ink
        behind = _paper(values, page) if values.keys() & _BACKGROUND else paper
        painted = values.keys() & {"color", *_BACKGROUND}
        if painted and text and behind and (ratio := contrast(text, behind)) < _LEAST:
            yield f"'{selector}' is {text} on {behind} {when}, a contrast of {ratio:.2f}"


def _ink(values: Mapping[str, str], known: Mapping[str, str]) -> str:
    return _colour(values.get("color", ""), known)


def _paper(values: Mapping[str, str], known: Mapping[str, str]) -> str:
    return _colour(values.get("background-color") or values.get("background", ""), known)


def _colour(value: str, known: Mapping[str, str]) -> str:
    """Return `value` as `#rrggbb` once its variable is looked up; nothing if it is no colour."""
    if variable := _VARIABLE.fullmatch(value):
        value = known.get(variable[1], "")
    if re.fullmatch(r"#[0-9a-fA-F]{3}", value):
        value = "#" + "".join(2 * digit for digit in value[1:])
    return value if is_colour(value) else _NAMES.get(value, "")


def _rules(css: str) -> Iterator[_Rule]:
    """Yield the rules of `css`, and those that stand under a condition."""
    open_: list[str] = []
    values: dict[str, str] = {}
    for text, end in _PIECE.findall(_COMMENT.sub("", css)):
        words = " ".join(text.split())
        if end == "{":
            open_.append(words)
            values = {}
            continue
        name, colon, value = words.partition(":")
        if colon:
            values[name.strip().lower()] = value.replace("!important", "").strip()
        if end == "}" and open_:
            selector = open_.pop()
            if values and not selector.startswith("@"):
                for one in _COMMA.split(selector):
                    yield _Rule(" and ".join(open_), one.strip(), values)
            values = {}


"""WCAG 2.2, SC 1.4.3."""
# CSS Color 4 §6.1: those that people write by hand.
_EMAIL_NAMES = {
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


def _readable(parts: EmailParts) -> EmailFindings:
    yield from _contrasts(parts.tree, "by day", _DAY)
    if dark := DARK.search(parts.sheets):
        # Rules for the night are put into the attributes, as a mail program applies them.
        inliner = css_inline.CSSInliner(
            inline_style_tags=False, extra_css=dark[1], load_remote_stylesheets=False
        )
        try:
            night = parse_html(inliner.inline(parts.html))
        except css_inline.InlineError as error:
            what = f"a style attribute cannot be read: {error}"
            yield "style-syntax", what, "correct the template"
        else:
            yield from _contrasts(night, "by night", _NIGHT)


def _contrasts(tree: Element, when: str, first: _Paint) -> EmailFindings:
    texts: dict[_Paint, str] = {}
    for text, paint in _painted(tree, first):
        texts.setdefault(paint, text)
    for paint, text in texts.items():
        yield from _contrast(" ".join(text.split())[:40], paint, when)


def _contrast(text: str, paint: _Paint, when: str) -> EmailFindings:
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
        _email_colour(ink) or (around.link if is_link and not ink else around.ink),
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
    read = [_email_colour(word) for word in words]
    alone = read[0] if len(read) == 1 and "url(" not in value else ""
    return next(filter(is_colour, read), alone)


def _email_colour(value: str) -> str:
    """Return a colour as `#rrggbb`, a strange one as written, and nothing for that around."""
    if value in _AS_AROUND:
        return ""
    if re.fullmatch(r"#[0-9a-f]{3}", value):
        return "#" + "".join(2 * digit for digit in value[1:])
    if channels := _RGB.fullmatch(value):
        return "#" + "".join(f"{min(255, int(channel)):02x}" for channel in channels.groups())
    return _EMAIL_NAMES.get(value, value)


CONTRAST_RULES = (_readable,)
