"""A stylesheet of the theme → text whose colour is too near to the one behind it.

This is a look at colours as they are written, not a browser: a rule that names one of both colours
is held against the body's other one, by day and by night.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from attrs import frozen

from postroom.colour import contrast, is_colour
from postroom.errors import Problem

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
            yield Problem(path, what=what, repair=repair, rule="page-contrast")


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
