"""What the rooms of the letter lint yield; the rules themselves stand in `postroom.rules`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import field, frozen
from lxml import etree
from lxml.etree import _Element as Element

from postroom.models import Site

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def parse_html(html: str) -> Element:
    """Return the tree of `html`, of nothing if there is nothing in it."""
    # As bytes: text that names an encoding, as XHTML does, is refused.
    parser = etree.HTMLParser(encoding="utf-8", remove_pis=True)
    try:
        tree = etree.fromstring(html.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:
        tree = None
    return etree.Element("html") if tree is None else tree


@frozen
class EmailParts:
    """The two parts of a letter and the settings they were made by.

    `personal` says that they are one subscriber's, who must be able to leave.
    """

    html: str = field(repr=False)
    text: str = field(repr=False)
    site: Site
    personal: bool = False
    tree: Element = field(init=False, repr=False, eq=False)
    elements: tuple[Element, ...] = field(init=False, repr=False, eq=False)
    """All elements in the order of the letter, no comments."""
    comments: tuple[str, ...] = field(init=False, repr=False, eq=False)
    links: tuple[Element, ...] = field(init=False, repr=False, eq=False)
    """All elements `a` that lead somewhere, or would."""
    seen: str = field(init=False, repr=False, eq=False)
    """All words of the HTML, without blanks: the lines of a text part may break anywhere."""
    said: str = field(init=False, repr=False, eq=False)
    """All words of the text, without blanks."""
    sheets: str = field(init=False, repr=False, eq=False)
    """The contents of all style elements."""
    styles: str = field(init=False, repr=False, eq=False)
    """All that styles: sheets, attributes, and what only Outlook sees in conditional comments."""

    @tree.default
    def _tree(self) -> Element:
        return parse_html(self.html)

    @elements.default
    def _elements(self) -> tuple[Element, ...]:
        return tuple(self.tree.iter(etree.Element))

    @comments.default
    def _comments(self) -> tuple[str, ...]:
        return tuple(comment.text or "" for comment in self.tree.iter(etree.Comment))

    @links.default
    def _links(self) -> tuple[Element, ...]:
        return tuple(one for one in self.elements if one.tag == "a" and "href" in one.attrib)

    @seen.default
    def _seen(self) -> str:
        return strip_whitespace("".join(self.tree.itertext()))

    @said.default
    def _said(self) -> str:
        return strip_whitespace(self.text)

    @sheets.default
    def _sheets(self) -> str:
        return "\n".join(one.text or "" for one in self.elements if one.tag == "style")

    @styles.default
    def _styles(self) -> str:
        own = dict.fromkeys(one.get("style", "") for one in self.elements)
        # An attribute may end without a semicolon.
        return ";\n".join((self.sheets, *own, *self.comments))


def visible_text(element: Element) -> str:
    """Return the words of an element on one line."""
    return " ".join("".join(element.itertext()).split())


def strip_whitespace(text: str) -> str:
    """Return `text` without blanks."""
    return "".join(text.split())


_ADDRESS = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"]+", re.IGNORECASE)


def find_addresses(text: str) -> Iterator[str]:
    """Yield what in a text is written as the address of a link, with what stands close behind."""
    return (found[0] for found in _ADDRESS.finditer(text))
