"""The rules for pages, and for what an earlier build gave to readers."""

from __future__ import annotations

from postroom.rules.rule import Rule

PAGES = (
    Rule(
        "page-id",
        "error",
        "An id that stands twice sends links, labels and screen readers to the wrong place.",
        "HTML Living Standard, the id attribute",
    ),
    Rule(
        "page-title",
        "warning",
        "Pages of one title, or of none, cannot be told apart in tabs and search results.",
        "WCAG 2.2, SC 2.4.2",
    ),
    Rule(
        "page-language",
        "error",
        "A voice reads a page in the language that is named.",
        "WCAG 2.2, SC 3.1.1",
    ),
    Rule(
        "page-heading",
        "warning",
        "One first-level heading says what a page is; a skipped level sounds like a missing part.",
        "WCAG 2.2, SC 1.3.1",
    ),
    Rule(
        "page-alt",
        "error",
        "Of a picture without alt a voice reads the name of the file.",
        "WCAG 2.2, SC 1.1.1",
    ),
    Rule(
        "page-empty-link",
        "error",
        "A voice has nothing to say for it.",
        "WCAG 2.2, SC 2.4.4",
    ),
    Rule(
        "page-link",
        "error",
        "It leads to nothing. What posts themselves link to is told as theirs.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "page-anchor",
        "warning",
        "Without the part it names, a link ends at the top of the page.",
        "HTML Living Standard, scrolling to a fragment",
    ),
    Rule(
        "page-contrast",
        "error",
        "Text with a contrast below 4.5 is lost on many people, and on everybody in the sun.",
        "WCAG 2.2, SC 1.4.3",
    ),
)

EARLIER = (
    Rule(
        "earlier-id",
        "error",
        "A new id is a new post: every reader shows it again, and every subscriber gets it again.",
        "RFC 4287 §4.2.6.1",
    ),
    Rule(
        "earlier-address",
        "warning",
        "Links to the old address break, unless the host redirects them.",
        "W3C, Cool URIs don't change",
    ),
    Rule(
        "earlier-gone",
        "warning",
        "A deleted post leaves broken links and stays in readers; `withdrawn` takes it back.",
        "RFC 9110 §15.5.11",
    ),
    Rule(
        "earlier-history",
        "warning",
        "Archive documents should never change: readers do not fetch them again.",
        "RFC 5005 §4",
    ),
)
