"""The HTML part and the text part of an email, parsed once for all rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import field, frozen
from lxml import etree
from lxml.etree import _Element as Element

from postroom.models import Site

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_URL = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"]+", re.IGNORECASE)


def parse_html(html: str) -> Element:
    """Return the tree of `html`; an empty <html> if there is none."""
    # As bytes, because lxml refuses a string that declares an encoding, as XHTML does.
    parser = etree.HTMLParser(encoding="utf-8", remove_pis=True)
    try:
        tree = etree.fromstring(html.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:
        tree = None
    return etree.Element("html") if tree is None else tree


@frozen
class EmailParts:
    """The two parts of an email, with the settings from which they were rendered.

    `personal` is true for the email of one subscriber, which must have an unsubscribe link.
    """

    html: str = field(repr=False)
    text: str = field(repr=False)
    site: Site
    personal: bool = False
    tree: Element = field(init=False, repr=False, eq=False)
    elements: tuple[Element, ...] = field(init=False, repr=False, eq=False)
    """All elements in document order, without comments."""
    comments: tuple[str, ...] = field(init=False, repr=False, eq=False)
    links: tuple[Element, ...] = field(init=False, repr=False, eq=False)
    """All `a` elements with an href."""
    visible: str = field(init=False, repr=False, eq=False)
    """The text of the HTML part without whitespace: a text part may break lines anywhere."""
    plain: str = field(init=False, repr=False, eq=False)
    """The text part without whitespace."""
    sheets: str = field(init=False, repr=False, eq=False)
    """The contents of all style elements."""
    styles: str = field(init=False, repr=False, eq=False)
    """All CSS: style elements, style attributes, and the conditional comments for Outlook."""

    @tree.default
    def _parse_tree(self) -> Element:
        return parse_html(self.html)

    @elements.default
    def _list_elements(self) -> tuple[Element, ...]:
        return tuple(self.tree.iter(etree.Element))

    @comments.default
    def _list_comments(self) -> tuple[str, ...]:
        return tuple(comment.text or "" for comment in self.tree.iter(etree.Comment))

    @links.default
    def _list_links(self) -> tuple[Element, ...]:
        return tuple(e for e in self.elements if e.tag == "a" and "href" in e.attrib)

    @visible.default
    def _join_visible(self) -> str:
        return strip_whitespace("".join(self.tree.itertext()))

    @plain.default
    def _join_plain(self) -> str:
        return strip_whitespace(self.text)

    @sheets.default
    def _join_sheets(self) -> str:
        return "\n".join(e.text or "" for e in self.elements if e.tag == "style")

    @styles.default
    def _join_styles(self) -> str:
        attributes = dict.fromkeys(element.get("style", "") for element in self.elements)
        # An attribute may end without a semicolon.
        return ";\n".join((self.sheets, *attributes, *self.comments))


def visible_text(element: Element) -> str:
    """Return the text of an element on one line."""
    return " ".join("".join(element.itertext()).split())


def strip_whitespace(text: str) -> str:
    """Return `text` without whitespace."""
    return "".join(text.split())


def find_urls(text: str) -> Iterator[str]:
    """Yield each web, mailto and tel URL in a text, with the punctuation that follows it."""
    return (found[0] for found in _URL.finditer(text))
