"""Give headings and footnotes of a post their ids, and keep the ids of a post apart from the theme.

All functions but the first take sanitised HTML: attributes are in double quotes, and each < begins
a tag.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from html import escape, unescape

from attrs import define, field, frozen

from postroom.models import Html

THEME_IDS = frozenset({"archive", "digests", "follow", "main", "topics"})
"""The ids of the theme's own pages."""
_PREFIX = "post-"


def own_id(written: str) -> str:
    """Return the id of an element of a post, from the one that its author wrote.

    An id of the theme gets the prefix `post-`, since no two elements of a page may share an id
    (HTML Living Standard, the id attribute). Fragments of links to posts change likewise.
    """
    return _PREFIX + written if written in THEME_IDS else written


_HEADING = re.compile(r'<h([1-6])((?: [^"<>= ]+="[^"]*")*)>(.*?)</h\1>', re.DOTALL)
_ANY_TAG = re.compile(r'<[^"<>]*(?:"[^"]*"[^"<>]*)*>')
# A tag up to its id: its name, and the attributes before the id.
_TO_ID = re.compile(r'(<[a-z][a-z0-9]*(?: [^"<>= ]+="[^"]*")*?) id="([^"]*)"')
_ID = ' id="'
_REFERENCE = re.compile(r'<sup class="footnote-reference"><a href="[^"]*">([0-9]{1,6})</a></sup>')
_NOTE = re.compile(
    r'<div class="footnote-definition"(?: id="[^"]*")?><sup class="footnote-definition-label">'
    r"([0-9]{1,6})</sup>"
)
# The variation selector keeps programs from drawing the arrow as an emoji.
_BACK_SIGN = "\u21a9\ufe0e"
_DIV = re.compile(r"<(/?)div\b")
_BACK = re.compile(
    rf' ?<a class="footnote-back" href="[^"]*">{_BACK_SIGN}(?:<sup>[0-9]+</sup>)?</a>'
)


def add_anchors(html: Html, page: str) -> Html:
    """Return `html` with ids of headings, and with its footnotes at the end, linked both ways.

    `page` is the URL of the post, to which all links to its ids lead. No id occurs twice.
    """
    made = str(html)
    if ' class="footnote-' in made:
        made = _NOTE.sub(lambda note: _TO_ID.sub(r"\1", note[0]), made)
    if "<h" in made or _ID in made:
        made = _identify(made)
    if ' class="footnote-' in made:
        made = _move_notes(made, escape(page))
    return Html(made)


def without_anchors(html: Html) -> Html:
    """Return `html` without ids and without links from footnotes back to the text.

    Where the texts of several posts are on one page, as in a feed reader, ids would occur twice.
    Links to the ids lead to the page of the post.
    """
    made = _BACK.sub("", html)
    if _ID in made:
        made = _TO_ID.sub(r"\1", made)
    return Html(made)


@define
class _Ids:
    """The ids of one post; `taken` counts how often a number was added to each."""

    taken: dict[str, int] = field(factory=dict)

    def keep(self, written: str) -> str:
        """Return the final form of an id that the author wrote, or "" if it is taken."""
        final = own_id(written)
        if not written or {written, final} & self.taken.keys():
            return ""
        self.taken |= {written: 0, final: 0}
        return final

    def make(self, slug: str) -> str:
        """Return the id of a heading: its slug, with a number if it is taken."""
        base = slug or "section"
        candidate = base
        while {candidate, own_id(candidate)} & self.taken.keys():
            self.taken[base] = self.taken.get(base, 0) + 1
            candidate = f"{base}-{self.taken[base]}"
        return self.keep(candidate)


def _identify(html: str) -> str:
    """Return `html` with an id for each heading, and with each other id once."""
    ids = _Ids()
    # Footnotes get theirs afterwards.
    for number in _REFERENCE.findall(html):
        ids.taken |= {f"fn-{number}": 0, f"fnref-{number}": 0}

    def keep(tag: re.Match[str]) -> str:
        return tag[1] + _attribute(ids.keep(unescape(tag[2])))

    def name(heading: re.Match[str]) -> str:
        level, attributes, inner = heading.groups()
        if _ID in attributes:
            return heading[0]
        identity = _attribute(ids.make(heading_slug(inner)))
        return f"<h{level}{identity}{attributes}>{inner}</h{level}>"

    # Ids that the author wrote come first: they are the ones that others link to.
    if _ID in html:
        html = _TO_ID.sub(keep, html)
    return _HEADING.sub(name, html)


def _attribute(identity: str) -> str:
    return f' id="{escape(identity)}"' if identity else ""


def heading_slug(inner: str) -> str:
    """Return the slug of a heading with the HTML `inner`, by the rule of GitHub.

    It is lower case, spaces become hyphens, and other signs than - and _ are left out.
    """
    text = unescape(_ANY_TAG.sub("", _REFERENCE.sub("", inner)))
    words = unicodedata.normalize("NFC", text).lower().strip()
    return "".join(map(_in_slug, " ".join(words.split("\n"))))


def _in_slug(character: str) -> str:
    if character in "-_":
        return character
    if character == " ":
        return "-"
    category = unicodedata.category(character)
    return character if category[0] in "LM" or category in {"Nd", "Nl", "Pc"} else ""


@frozen
class _Note:
    """A footnote: its number, the HTML behind the number, and its place in the HTML of the post."""

    number: str
    inner: str
    start: int
    end: int


def _find_notes(html: str) -> Iterator[_Note]:
    position = 0
    while found := _NOTE.search(html, position):
        position = _end_of_div(html, found.end())
        yield _Note(found[1], html[found.end() : position], found.start(), position)


def _end_of_div(html: str, position: int) -> int:
    """Return the position of the end tag of the div whose content begins at `position`."""
    depth = 1
    for tag in _DIV.finditer(html, position):
        depth += -1 if tag[1] else 1
        if not depth:
            return tag.start()
    return len(html)


def _move_notes(html: str, page: str) -> str:
    """Return `html` with its footnotes at the end, and with links to them and back."""
    references: Counter[str] = Counter()

    def link(reference: re.Match[str]) -> str:
        number = reference[1]
        references[number] += 1
        identity = _reference_id(number, references[number])
        return (
            f'<sup class="footnote-reference" id="{identity}">'
            f'<a href="{page}#fn-{number}">{number}</a></sup>'
        )

    html = _REFERENCE.sub(link, html)
    rest: list[str] = []
    notes: dict[str, str] = {}
    position = 0
    for note in _find_notes(html):
        rest.append(html[position : note.start])
        position = note.end + len("</div>")
        # A label that is defined twice has one number; the parser links to the first.
        identity = "" if note.number in notes else f' id="fn-{note.number}"'
        inner = _with_links_back(note, references[note.number], page)
        made = (
            f'<div class="footnote-definition"{identity}>'
            f'<sup class="footnote-definition-label">{note.number}</sup>{inner}</div>\n'
        )
        notes[note.number] = notes.get(note.number, "") + made
    body = "".join((*rest, html[position:])).strip("\n")
    in_order = sorted(notes, key=int)
    return "\n".join((body, "".join(notes[number] for number in in_order)))


def _reference_id(number: str, occurrence: int) -> str:
    return f"fnref-{number}" if occurrence == 1 else f"fnref-{number}-{occurrence}"


def _with_links_back(note: _Note, references: int, page: str) -> str:
    """Return the HTML of `note` with a link to each of its references at its end."""
    links = ""
    for occurrence in range(1, references + 1):
        target = f"{page}#{_reference_id(note.number, occurrence)}"
        sign = _BACK_SIGN if occurrence == 1 else f"{_BACK_SIGN}<sup>{occurrence}</sup>"
        links += f' <a class="footnote-back" href="{target}">{sign}</a>'
    text = note.inner.rstrip()
    if text.endswith("</p>"):
        return f"{text.removesuffix('</p>')}{links}</p>\n"
    return f"{text}{links}\n"
