"""Find the summary of a post: the text of its first paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator

from postroom.markdown.inline import inline_text
from postroom.models import Html
from postroom.text import shorten

_TAG = re.compile(r"<(/?)(p|ul|ol|dl|blockquote|table|figure|pre|div)\b([^<>]*)>")
# Images and media say what they show only where nothing else does.
_MEDIA = re.compile(r"<img\b[^<>]*>|<(audio|video)\b.*?</\1>", re.DOTALL)


def first_paragraph(html: Html, length: int = 200) -> str:
    """Return the text of the first paragraph of `html`, of at most `length` characters.

    Headings, images, lists, quotes, tables and code are used only if there is nothing else.
    """
    for paragraph in _paragraphs(html):
        if text := inline_text(_MEDIA.sub("", paragraph)):
            return shorten(text, length)
    return shorten(inline_text(html), length)


def _paragraphs(html: str) -> Iterator[str]:
    """Yield the HTML inside each paragraph that is not part of a list, a quote or the like."""
    containers: list[bool] = []
    start = 0
    for tag in _TAG.finditer(html):
        closing, name, attributes = tag.groups()
        if name == "p":
            if not closing:
                start = tag.end()
            elif not any(containers):
                yield html[start : tag.start()]
        elif not closing:
            containers.append(name != "div" or "footnote-definition" in attributes)
        elif containers:
            containers.pop()
