"""The rules of a good letter, by their numbers, and what the functions that check them share.

M is for messages, H for HTML, and N for what laws and mailbox providers ask of a newsletter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import field, frozen
from lxml import html as lxml_html
from lxml.etree import ParserError
from lxml.html import HtmlElement

from postroom.model import Site

RULES: Mapping[str, str] = {
    "M1": "A message has the fields of a letter and no other.",
    "M2": "No field decodes to a line break or another control character.",
    "M3": "No field that programs read is encoded.",
    "M4": "From is the sender of the settings, name and all.",
    "M5": "A text and an HTML part, in that order, in UTF-8, lines of 78 bytes at most.",
    "M6": "Each field of identity stands once; one person is addressed, nobody gets a copy.",
    "M7": "The Message-ID is of the sender's domain; the date can be read.",
    "M8": "List-Id, List-Unsubscribe and List-Unsubscribe-Post stand once.",
    "M9": "A signature covers all that matters, both List-Unsubscribe fields included.",
    "H1": "90 KB of HTML at most, and nothing is loaded.",
    "H2": "Every heading and link of one part stands in the other.",
    "H3": "One title, no level skipped, language and direction, layout tables that say so.",
    "H4": "A contrast of 4.5 by day and by night.",
    "H5": "No text below 13 pixels, nothing that mail programs drop, links with words.",
    "H6": "Conditional comments are whole, and rules for the night are there.",
    "H7": "First comes a hidden line of 40 to 130 characters for the list of letters.",
    "H8": "Numbers and postal addresses run from left to right, names in their own direction.",
    "H9": "Both parts say who writes and how to reach them, and lead to the reader's choices.",
    "N3": "One https address with an opaque token, and one click is enough to leave by it.",
    "N7": "Both parts show the page to leave at, and it is the reader's own.",
    "N10": "One sender; lines of 998 bytes at most.",
    "N12": "List-Id is the one of the settings' id.",
    "N15": "Both parts name a postal address.",
    "N16": "Somebody signs, and an answer reaches them.",
    "N21": "Both parts lead to the same pages.",
    "N22": "No line break stands alone, and no NUL.",
}

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
Finding = tuple[str, str, str]
"""The number of a rule, what was found, and how to repair it."""
Findings = Iterator[Finding]


@frozen
class Parts:
    """The two parts of a letter and the settings they were made by.

    `personal` says that they are one subscriber's, who must be able to leave.
    """

    html: str = field(repr=False)
    text: str = field(repr=False)
    site: Site
    personal: bool = False
    tree: HtmlElement = field(init=False, repr=False, eq=False)

    @tree.default
    def _parsed(self) -> HtmlElement:
        # As bytes: text that names an encoding, as XHTML does, is refused.
        parser = lxml_html.HTMLParser(encoding="utf-8")
        try:
            return lxml_html.document_fromstring(self.html.encode(), parser)
        except ParserError:  # there is nothing in it
            return lxml_html.document_fromstring("<html></html>")


def elements(tree: HtmlElement) -> Iterator[tuple[str, HtmlElement]]:
    """Yield the name and the element of every element in a tree, and no comments."""
    return ((one.tag, one) for one in tree.iter() if isinstance(one.tag, str))


def shown(element: HtmlElement) -> str:
    """Return the words of an element on one line."""
    return " ".join(str(element.text_content()).split())


def tight(text: str) -> str:
    """Return `text` without blanks: the lines of a text part may break anywhere between words."""
    return "".join(text.split())
