"""Rules for the contrast between text and background, in stylesheets and in emails.

Colours are read from the source; nothing is rendered as in a browser. If a rule of a stylesheet
sets only the text colour or only the background, the other colour is that of the body. Light and
dark mode are checked separately.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

import css_inline
from attrs import evolve, frozen
from lxml import etree
from lxml.etree import _Element as Element

from postroom.contrast import MIN_CONTRAST, contrast, is_colour, parse_colour
from postroom.errors import Problem
from postroom.lint.context import file_problem
from postroom.lint.email_html import DARK
from postroom.lint.email_parts import EmailParts, parse_html

_HINT = f"choose colours with a contrast of {MIN_CONTRAST} or more"

# Stylesheets of the site.

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_SEGMENT = re.compile(r"([^{};]*)([{};])")
_VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,[^()]*)?\)")
_COMMA = re.compile(r",(?![^(]*\))")
_PAGE = (":root", "html", "body")
_BACKGROUND = ("background", "background-color")


@frozen
class _StyleRule:
    """A rule of a stylesheet; `condition` holds the at-rules around it, such as `@media`."""

    condition: str
    selector: str
    values: Mapping[str, str]


def lint_stylesheet(css: str, path: str) -> Iterator[Problem]:
    """Yield a problem for each rule of `css` with too little contrast (WCAG 2.2, SC 1.4.3)."""
    rules = list(_parse_rules(css))
    for condition in dict.fromkeys(rule.condition for rule in rules if rule.selector in _PAGE):
        # Rules under a condition add to those without one.
        styles: dict[str, dict[str, str]] = {}
        for rule in rules:
            if rule.condition in {"", condition}:
                styles.setdefault(rule.selector, {}).update(rule.values)
        for message in _unreadable(styles, _mode(condition)):
            yield Problem(path, message=message, hint=_HINT, rule="page-contrast")


def _mode(condition: str) -> str:
    if "dark" in condition:
        return "in dark mode"
    return "in print" if "print" in condition else "in light mode"


def _unreadable(styles: Mapping[str, Mapping[str, str]], mode: str) -> Iterator[str]:
    page = {name: value for part in _PAGE for name, value in styles.get(part, {}).items()}
    page_text = _text_colour(page, page) or "#000000"
    page_background = _background_colour(page, page) or "#ffffff"
    for selector, values in styles.items():
        # A value that is no plain colour, such as `inherit`, cannot be compared.
        text = _text_colour(values, page) if "color" in values else page_text
        has_background = bool(values.keys() & _BACKGROUND)
        behind = _background_colour(values, page) if has_background else page_background
        is_painted = has_background or "color" in values
        if is_painted and text and behind and (ratio := contrast(text, behind)) < MIN_CONTRAST:
            yield f"'{selector}' is {text} on {behind} {mode}, a contrast of {ratio:.2f}"


def _text_colour(values: Mapping[str, str], variables: Mapping[str, str]) -> str:
    return _resolve_colour(values.get("color", ""), variables)


def _background_colour(values: Mapping[str, str], variables: Mapping[str, str]) -> str:
    value = values.get("background-color") or values.get("background", "")
    return _resolve_colour(value, variables)


def _resolve_colour(value: str, variables: Mapping[str, str]) -> str:
    """Return the colour in `value` as `#rrggbb`, or an empty string if it is no colour.

    If `value` is a CSS variable, the colour is looked up in `variables`.
    """
    if variable := _VARIABLE.fullmatch(value):
        value = variables.get(variable[1], "")
    return parse_colour(value)


def _parse_rules(css: str) -> Iterator[_StyleRule]:
    """Yield the rules of `css`, those inside at-rules such as `@media` included."""
    open_: list[str] = []
    values: dict[str, str] = {}
    for text, end in _SEGMENT.findall(_COMMENT.sub("", css)):
        words = " ".join(text.split())
        if end == "{":
            open_.append(words)
            values = {}
            continue
        name, colon, value = words.partition(":")
        if colon:
            values[name.strip().lower()] = value.replace("!important", "").strip()
        if end == "}" and open_:
            selectors = open_.pop()
            if values and not selectors.startswith("@"):
                for selector in _COMMA.split(selectors):
                    yield _StyleRule(" and ".join(open_), selector.strip(), values)
            values = {}


# Emails.

_INHERITED = frozenset({"", "inherit", "currentcolor", "transparent", "none", "unset", "initial"})
_VALUE = re.compile(r"[a-z-]+\([^)]*\)|[^\s]+")
_NOT_SHOWN = frozenset({"head", "script", "style", "title"})


@frozen(cache_hash=True)
class _Paint:
    """The colours of text, background and links that apply to an element of an email.

    A colour that cannot be converted to `#rrggbb` is kept as it is written.
    """

    text: str
    background: str
    link: str
    hidden: bool = False


_LIGHT_DEFAULT = _Paint("#000000", "#ffffff", "#0000ee")
_DARK_DEFAULT = _Paint("#ffffff", "#000000", "#9e9eff")
"""The colours of a browser where an email sets none."""


def _email_contrast(parts: EmailParts) -> Iterator[Problem]:
    yield from _tree_contrast(parts.tree, "in light mode", _LIGHT_DEFAULT)
    if dark := DARK.search(parts.sheets):
        # Put the rules for dark mode into the attributes, as a mail program applies them.
        inliner = css_inline.CSSInliner(
            inline_style_tags=False, extra_css=dark[1], load_remote_stylesheets=False
        )
        try:
            tree = parse_html(inliner.inline(parts.html))
        except css_inline.InlineError as error:
            message = f"a style attribute cannot be parsed: {error}"
            yield file_problem("email-style-syntax", message, "correct the template")
        else:
            yield from _tree_contrast(tree, "in dark mode", _DARK_DEFAULT)


def _tree_contrast(tree: Element, mode: str, default: _Paint) -> Iterator[Problem]:
    texts: dict[_Paint, str] = {}
    for text, paint in _painted_texts(tree, default):
        texts.setdefault(paint, text)
    for paint, text in texts.items():
        yield from _text_contrast(" ".join(text.split())[:40], paint, mode)


def _text_contrast(text: str, paint: _Paint, mode: str) -> Iterator[Problem]:
    unknown = [colour for colour in (paint.text, paint.background) if not is_colour(colour)]
    for colour in unknown:
        message = f"the contrast of '{text}' cannot be computed from '{colour}' {mode}"
        yield file_problem("email-contrast", message, "write the colour as #rrggbb")
    if not unknown and contrast(paint.text, paint.background) < MIN_CONTRAST:
        message = f"'{text}' is {paint.text} on {paint.background} {mode}"
        yield file_problem("email-contrast", message, _HINT)


def _painted_texts(tree: Element, default: _Paint) -> Iterator[tuple[str, _Paint]]:
    """Yield every visible text with its colours."""
    stack = [default]
    for event, element in etree.iterwalk(tree, events=("start", "end", "comment")):
        if event == "start":
            stack.append(_element_paint(stack[-1], element))
        elif event == "end":
            stack.pop()
        text = element.text if event == "start" else element.tail
        if text and not text.isspace() and not stack[-1].hidden:
            yield text, stack[-1]


def _element_paint(around: _Paint, element: Element) -> _Paint:
    if around.hidden or element.tag in _NOT_SHOWN:
        return evolve(around, hidden=True)
    is_link = element.tag == "a" and "href" in element.attrib
    return _style_paint(
        around, element.get("style", ""), element.get("bgcolor", ""), is_link=is_link
    )


@lru_cache(maxsize=512)
def _style_paint(around: _Paint, style: str, bgcolor: str, *, is_link: bool) -> _Paint:
    declared = dict(_declarations(style))
    behind = declared.get("background-color") or declared.get("background") or bgcolor.lower()
    text = declared.get("color", "")
    return _Paint(
        _email_colour(text) or (around.link if is_link and not text else around.text),
        _shorthand_colour(behind) or around.background,
        around.link,
        hidden=declared.get("display") == "none",
    )


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        yield name.strip().lower(), value.lower().replace("!important", "").strip()


def _shorthand_colour(value: str) -> str:
    """Return the colour in a `background` property, which may also hold an image or a position."""
    colours = [_email_colour(word) for word in _VALUE.findall(value)]
    single = colours[0] if len(colours) == 1 and "url(" not in value else ""
    return next(filter(is_colour, colours), single)


def _email_colour(value: str) -> str:
    """Return the colour `value` as `#rrggbb`, or an empty string if it is inherited.

    A colour that cannot be converted is returned as it is written.
    """
    return "" if value in _INHERITED else parse_colour(value) or value


CONTRAST_RULES = (_email_contrast,)
