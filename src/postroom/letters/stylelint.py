"""What styles a letter → what mail programs would drop, load, shrink or invent."""

from __future__ import annotations

import re

from postroom.letters.parts import Parts
from postroom.letters.rules import Findings

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


def _dropped(parts: Parts) -> Findings:
    for rule, pattern, repair in (
        ("flex-or-grid", _LAYOUT, "use tables and blocks"),
        ("position", _POSITION, "use tables and blocks"),
        ("background-image", _BACKGROUND, "use a colour"),
    ):
        for found in pattern.findall(parts.styles):
            yield rule, f"'{found.strip()[:60]}' is dropped by mail programs", repair
    for element in parts.elements:
        if element.get("background"):
            what = f"<{element.tag!s} background> loads something"
            yield "background-image", what, "use a colour"


def _remote(parts: Parts) -> Findings:
    if found := _REMOTE.search(_BACKGROUND.sub("", parts.styles)):
        yield "remote-load", f"a style loads something by {found[0]}", "take it out"


def _large_enough(parts: Parts) -> Findings:
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
            yield "font-size", f"a text has the size {size}", "give it 13px or more"
    if any(element.tag == "font" and element.get("size") for element in parts.elements):
        yield "font-size", "<font size> says no pixels", "give it 13px or more"


def _value(written: str) -> str:
    return written.lower().replace("!important", "").strip()


def _outlook(parts: Parts) -> Findings:
    marks = [mark.startswith("<!--") for mark in _CONDITION.findall(parts.html)]
    if marks != [True, False] * (len(marks) // 2):
        yield "conditional-comments", "an [if has no [endif]", _BY_HAND
    inside = "".join(one.partition("]>")[2] for one in parts.comments if one.startswith("[if "))
    for tag in ("table", "tr", "td"):
        if len(re.findall(rf"<{tag}\b", inside)) != inside.count(f"</{tag}>"):
            what = f"Outlook alone sees a <{tag}> that is not closed"
            yield "conditional-comments", what, _BY_HAND


def _night(parts: Parts) -> Findings:
    if not DARK.search(parts.sheets):
        what = "there are no rules for dark mode"
        yield "dark-mode", what, "keep the style element when inlining"
    if "[data-ogsc]" not in parts.sheets:
        what = "there are no rules for Outlook's dark mode"
        yield "dark-mode", what, "add some for [data-ogsc]"
    names = {one.get("name") for one in parts.elements if one.tag == "meta"}
    if "color-scheme" not in names:
        yield "dark-mode", "no meta color-scheme says that dark mode is known", _BY_HAND


STYLE_RULES = (_dropped, _remote, _large_enough, _outlook, _night)
