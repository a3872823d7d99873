"""Make plain text of the elements inside a paragraph or a heading.

Titles, summaries and the text part of an email all use this module. Its input is sanitised HTML:
tags are complete, and neither text nor attributes contain < or >.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from posixpath import basename
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from attrs import define, field, frozen

from postroom.settings.validation import normalize_url

_TOKEN = re.compile(r"<(/?)([a-z][a-z0-9]*)([^<>]*)>|([^<]+)")
_ATTRIBUTE = re.compile(r'([a-z]+)="([^"]*)"')
_WHITE_SPACE = re.compile(r"[ \t\r\n\f]+")


Token = tuple[str, str, str, str]
"""A tag, as the `/` of an end tag, the name and the attributes, or a text, which is last."""


def tokens_of(source: str) -> list[Token]:
    """Return the tags and texts of sanitised HTML."""
    return _TOKEN.findall(source)


def attributes_of(written: str) -> dict[str, str]:
    """Return the values of the attributes of a tag."""
    return {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(written)}


def file_name(url: str) -> str:
    """Return the name of the file at `url`, or `url` itself if its path ends with a slash."""
    return basename(unquote(urlsplit(url).path)) or url


@frozen
class _Open:
    """An element that is not closed yet; `start` is the index of the first piece of its text."""

    name: str
    attributes: dict[str, str]
    start: int


def _replaces_links(element: _Open) -> bool:
    """Tell whether the text of an element is replaced, with the links in it."""
    if element.name in _MEDIA:
        return "src" in element.attributes
    return element.attributes.get("class") == "footnote-reference"


@define
class InlineText:
    """Collects the text of inline elements.

    In full, links are numbered in `links`, which maps URLs to numbers, deleted text and
    descriptions of images are marked, and notes have references. Otherwise only the words stay,
    on one line, and deleted text is left out.
    """

    in_full: bool = False
    pieces: list[str] = field(factory=list)
    links: dict[str, int] = field(factory=dict)
    _open: list[_Open] = field(factory=list)
    note: str = ""
    """The number of the note that begins here."""
    _explained: set[str] = field(factory=set)
    _quotes: int = 0
    _after_gap: bool = False

    def add(self, text: str) -> None:
        """Add text as it is written in HTML."""
        words = html.unescape(_WHITE_SPACE.sub(" ", text) if "\n" in text else text)
        if self._after_gap:
            self._close_gap(words)
        self.pieces.append(words)

    def take(self, closing: str, name: str, attributes: str) -> None:
        """Process a tag. Tags without a meaning for text are ignored."""
        if name == "br":
            self.pieces.append("\n" if self.in_full else " ")
        elif name == "img":
            self._image(attributes_of(attributes))
        elif name == "input":
            self.pieces.append("[x] " if " checked" in attributes else "[ ] ")
        elif name == "source":
            self._source(attributes)
        elif name in self._closers:
            if closing:
                self._close(name)
            else:
                self._begin(name, attributes_of(attributes) if attributes else {})

    def take_all(self) -> str:
        """Return the text so far and forget it; elements that are open go on in the next text."""
        open_elements = self._open[:]
        while self._open:
            self._close(self._open[-1].name)
        text = "".join(self.pieces)
        self.pieces.clear()
        for element in open_elements:
            # A link has its number once.
            if element.name != "a" or not text.strip():
                self._begin(element.name, element.attributes)
        return text

    def is_in_media(self) -> bool:
        """Tell whether an audio or video is open, whose content is for old browsers only."""
        return any(element.name in _MEDIA for element in self._open)

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "q":
            self._quotes += 1
        elif name == "kbd" and self.pieces and self.pieces[-1] == _KEY_END:
            self.pieces.append(" ")
        self._open.append(_Open(name, attributes, len(self.pieces)))

    def _close(self, name: str) -> None:
        if self._open and self._open[-1].name == name:
            element = self._open.pop()
            text = "".join(self.pieces[element.start :])
            self._closers[name](self, element, text)

    def _replace(self, element: _Open, text: str) -> None:
        del self.pieces[element.start :]
        if text:
            self.pieces.append(text)

    def _image(self, attributes: dict[str, str]) -> None:
        description = attributes.get("alt", "")
        if self.in_full and not description and any(each.name == "a" for each in self._open):
            # A link needs a text.
            description = file_name(attributes.get("src", ""))
        if description:
            self.pieces.append(f"[{description}]" if self.in_full else description)

    def _source(self, attributes: str) -> None:
        """Give the URL of the first source to the audio or video around it."""
        url = attributes_of(attributes).get("src", "")
        if url and self._open and self._open[-1].name in _MEDIA:
            self._open[-1].attributes.setdefault("src", url)

    def _close_media(self, element: _Open, text: str) -> None:
        """Replace an audio or video, and the text for old browsers in it, with a link."""
        url = element.attributes.get("src", "")
        words = media_words(element.attributes) if url else text
        self._replace(element, words)
        self._number(url, words)

    def _close_link(self, element: _Open, text: str) -> None:
        kind = element.attributes.get("class", "")
        if kind == "footnote-back":
            self._replace(element, "")
        elif not any(map(_replaces_links, self._open)):
            url = element.attributes.get("href", "")
            if self.in_full and text and normalize_url(text) == url:
                self._replace(element, url)
            else:
                self._number(url, text)

    def _number(self, url: str, text: str) -> None:
        """Append the number of the link to `url`, such as ` [1]`, to its `text`.

        A link whose text is the URL itself gets no number.
        """
        words = text.strip()
        if not (url and words and self.in_full):
            return
        if words in {url, url.removeprefix("mailto:")} or normalize_url(words) == url:
            return
        number = self.links.setdefault(url, len(self.links) + 1)
        # A space at the end of the link stays behind the number.
        space = text.endswith(" ")
        if space:
            self.pieces[-1] = self.pieces[-1].rstrip(" ")
        self.pieces.append(f" [{number}] " if space else f" [{number}]")

    def _close_raised(self, element: _Open, text: str) -> None:
        kind = element.attributes.get("class", "")
        if kind == "footnote-reference":
            self._replace(element, f"[^{text.strip()}]" if self.in_full else "")
        elif kind == "footnote-definition-label":
            self._replace(element, "")
            self.note = text.strip()
        else:
            before = self.pieces[element.start - 1][-1:] if element.start else ""
            self._replace(element, _raised(text, before))

    def _close_lowered(self, element: _Open, text: str) -> None:
        self._replace(element, _shifted(text, "_", _LOWERED))

    def _close_deleted(self, element: _Open, text: str) -> None:
        if self.in_full:
            self._replace(element, f"~~{text}~~" if text.strip() else text)
        else:
            self._replace(element, "")
            self._after_gap = True

    def _close_gap(self, words: str) -> None:
        """Remove the space between text that was left out and a sign that follows it."""
        self._after_gap = False
        if self.pieces and words[:1] in _FOLLOWS_AT_ONCE:
            self.pieces[-1] = self.pieces[-1].rstrip(" ")

    def _close_quotation(self, element: _Open, text: str) -> None:
        opening, closing = _QUOTATION_MARKS[self._quotes % 2]
        self._quotes -= 1
        self._replace(element, f"{opening}{text.strip()}{closing}")

    def _close_reading(self, element: _Open, text: str) -> None:
        self._replace(element, f"({text.strip()})" if text.strip() else "")

    def _drop(self, element: _Open, _text: str) -> None:
        self._replace(element, "")

    def _close_ruby(self, element: _Open, text: str) -> None:
        # The base and its reading may be on lines of their own in the source.
        self._replace(element, re.sub(r"\s+(?=\()|(?<=\))\s+", "", text.strip()))

    def _close_key(self, _element: _Open, _text: str) -> None:
        self.pieces.append(_KEY_END)

    def _close_abbreviation(self, element: _Open, text: str) -> None:
        """Explain an abbreviation where it first stands."""
        meaning = element.attributes.get("title", "").strip()
        if meaning and meaning != text.strip() and text not in self._explained:
            self._explained.add(text)
            self.pieces.append(f" ({meaning})")

    _closers: ClassVar[dict[str, Callable[[InlineText, _Open, str], None]]] = {
        "a": _close_link,
        "abbr": _close_abbreviation,
        "audio": _close_media,
        "del": _close_deleted,
        "kbd": _close_key,
        "q": _close_quotation,
        "rp": _drop,
        "rt": _close_reading,
        "ruby": _close_ruby,
        "s": _close_deleted,
        "sub": _close_lowered,
        "sup": _close_raised,
        "video": _close_media,
    }


_MEDIA = frozenset({"audio", "video"})
_KEY_END = ""
"""The piece behind a key. Two keys without a space between them are apart on a page."""
_FOLLOWS_AT_ONCE = tuple(",.;:!?)")
# Those inside others, and those outside.
_QUOTATION_MARKS = (("‘", "’"), ("“", "”"))  # noqa: RUF001

# Unicode 15, Superscripts and Subscripts; the other characters of that kind are phonetic signs.
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")  # noqa: RUF001
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")  # noqa: RUF001
_SIGNS = {"TM": "™", "SM": "℠", "®": "®", "©": "©", "™": "™"}
_ENDINGS = frozenset("st nd rd th er re ère nde eme ème me lle mes lles os as".split())
"""Endings that are raised as a matter of style: 1st, 2nd, Mlle."""
_SHORT_ENDINGS = frozenset("eaodrºª")
"""Endings of one character that are raised behind a digit, as in the French 2e."""


def _raised(text: str, before: str) -> str:
    """Return a superscript as text; `before` is the character before it."""
    word = text.strip()
    if "[" in word:  # a reference in brackets, or the number of a link
        return text
    if word.upper() in _SIGNS:
        return _SIGNS[word.upper()]
    if word.lower() in _ENDINGS or (before.isdecimal() and word in _SHORT_ENDINGS):
        return text
    return _shifted(text, "^", _RAISED)


def _shifted(text: str, sign: str, table: dict[int, int]) -> str:
    """Return a superscript or subscript: in its own characters, or else behind a sign."""
    word = text.strip()
    if all(ord(character) in table for character in word):
        return word.translate(table)
    is_word = all(character.isalpha() or character.isdecimal() for character in word)
    return f"{sign}{word}" if is_word else f"{sign}({word})"


def inline_text(source: str) -> str:
    """Return the text of sanitised HTML on one line.

    Deleted text is left out; if there is no other text, it is marked.
    """
    if "<" not in source:
        return " ".join(html.unescape(source).split())
    text = _one_line(source, InlineText())
    if text or not _DELETED.search(source):
        return text
    return _one_line(_DELETED.sub("~~", source), InlineText())


_DELETED = re.compile(r"</?(?:del|s)\b[^<>]*>")


def _one_line(source: str, collected: InlineText) -> str:
    for closing, name, attributes, text in tokens_of(source):
        if text:
            collected.add(text)
        elif name in SEPARATE:
            collected.pieces.append(" ")
        else:
            collected.take(closing, name, attributes)
    return " ".join(collected.take_all().split())


SEPARATE = frozenset(
    "blockquote caption dd details div dl dt figcaption figure h1 h2 h3 h4 h5 h6 hr li ol p pre "
    "section summary table tbody td tfoot th thead tr ul".split()
)
"""Elements that separate the words before them from those inside."""


_QUOTATION = re.compile(r"<(/?)q\b[^<>]*>")


def mark_quotations(source: str) -> str:
    """Return sanitised HTML with quotation marks instead of <q>, as in plain text."""
    depth = 0

    def mark(tag: re.Match[str]) -> str:
        nonlocal depth
        depth += 0 if tag[1] else 1
        found = _QUOTATION_MARKS[depth % 2][bool(tag[1])]
        depth -= 1 if tag[1] else 0
        return found

    return _QUOTATION.sub(mark, source)


def media_words(attributes: Mapping[str, str]) -> str:
    """Return the text of a link to an audio or video: its title, or the name of its file."""
    return attributes.get("title") or file_name(attributes.get("src", ""))


def media_link(element: str) -> str:
    """Return a link to the file of `element`, an audio or video, as HTML.

    An element without a file is replaced by its content.
    """
    (_, _, written, _), *content = tokens_of(element)
    attributes = attributes_of(written)
    for closing, name, inner, _ in content:
        if name == "source" and not closing:
            attributes.setdefault("src", attributes_of(inner).get("src", ""))
    url = attributes.get("src", "")
    if not url:
        return _MEDIA_TAG.sub("", element)
    return f'<a href="{html.escape(url)}">{html.escape(media_words(attributes))}</a>'


_MEDIA_TAG = re.compile(r"</?(?:audio|video|source|track)\b[^<>]*>")
