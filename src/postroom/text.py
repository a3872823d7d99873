"""Words → lines of a given width, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_SPOKEN = {"+": " plus ", "#": " sharp ", "&": " and ", "%": " percent ", "@": " at "}


def slugify(text: str) -> str:
    """Return `text` as one segment of an address: lower case, of any script, with hyphens."""
    small = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    hyphened = re.sub("-+", "-", "".join(_in_slug(character) for character in small)).strip("-")
    # A file system takes names of 255 bytes, and `.html` may follow.
    return hyphened[:120].encode()[:240].decode(errors="ignore").strip("-")


def _in_slug(character: str) -> str:
    category = unicodedata.category(character)
    # Letters, marks and numbers of every script: \w alone would split words of Hindi or Thai.
    # Their joiners, which nobody sees, are left out: they do not part words either.
    return character if category[0] in "LMN" else "" if category == "Cf" else "-"


def topic_slug(name: str) -> str:
    """Return the segment of a topic's address: readable, in any script; `C++` is `c-plus-plus`.

    Names with the same one are the same topic.
    """
    return slugify(re.sub(r"[+#&%@]", lambda sign: _SPOKEN[sign[0]], name))


# Blanks at which a line may end: all but the no-break ones.
_WORD = re.compile(r"[^ \t\n\r\x0b\x0c]+")
# UAX #11: characters that take two columns; those before Hangul may part from each other, save
# that UAX #14 lets no line end with an opening mark or begin with a closing one.
_IDEOGRAPHS = "\u2e80-\u9fff\uf900-\ufaff\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
_WIDE = re.compile(f"[{_IDEOGRAPHS}\u1100-\u115f\uac00-\ud7a3]")
_OPENING, _CLOSING = "「『（【《〈〔［｛", "」』）】》〉〕］｝、。，．：；！？…ー々"  # noqa: RUF001
_PIECE = re.compile(
    rf"(?:[a-z]+://[^{_OPENING}{_CLOSING}]+|[{_OPENING}]*(?:[{_IDEOGRAPHS}]|[^{_IDEOGRAPHS}]+))"
    rf"[{_CLOSING}]*"
)


def wrap(text: str, width: int = 72, first: str = "", rest: str = "") -> list[str]:
    """Return `text` in lines of at most `width` columns; words and addresses are never broken."""
    lines: list[str] = []
    line, used, fresh = first, len(first), True
    for blank, piece, size in _pieces(text):
        if not fresh and used + len(blank) + size > width:
            lines.append(line)
            line, used, fresh = rest, len(rest), True
        if fresh:
            line, used, fresh = line + piece, used + size, False
        else:
            line, used = line + blank + piece, used + len(blank) + size
    return lines if fresh else [*lines, line]


def _pieces(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield what no line may break, the blank before it and its columns."""
    wide = _WIDE.search(text)
    for word in _WORD.findall(text):
        blank = " "
        for piece in _PIECE.findall(word) if wide else (word,):
            yield blank, piece, display_width(piece) if wide else len(piece)
            blank = ""


def display_width(text: str) -> int:
    """Return how many columns `text` takes on a screen: ideographs take two."""
    return len(text) + len(_WIDE.findall(text))


def shorten(text: str, length: int) -> str:
    """Return `text` on one line of at most `length` characters, cut at a word where it has any."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    blank = line.rfind(" ", 0, length)
    # Chinese and Japanese write without blanks; one far ahead is no place to cut either.
    return line[: blank if blank > length // 2 else length - 1] + "…"
