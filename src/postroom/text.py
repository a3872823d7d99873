"""Slugs, line wrapping and display width of text in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_SIGN_NAMES = {"+": " plus ", "#": " sharp ", "&": " and ", "%": " percent ", "@": " at "}


def slugify(text: str) -> str:
    """Return `text` as one segment of a URL: lower case, in any script, with hyphens."""
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    slug = re.sub("-+", "-", "".join(_in_slug(character) for character in lowered)).strip("-")
    # File systems limit names to 255 bytes, and `.html` may follow.
    return slug[:120].encode()[:240].decode(errors="ignore").strip("-")


def _in_slug(character: str) -> str:
    category = unicodedata.category(character)
    # Categories L, M and N form words in every script; \w alone would split Hindi or Thai words.
    # Invisible joiners are removed, because they do not separate words.
    return character if category[0] in "LMN" else "" if category == "Cf" else "-"


def topic_slug(name: str) -> str:
    """Return the segment of a topic's URL, in any script; `C++` becomes `c-plus-plus`.

    Names with the same slug are the same topic.
    """
    return slugify(re.sub(r"[+#&%@]", lambda sign: _SIGN_NAMES[sign[0]], name))


# A line may end at any whitespace but a no-break space.
_WORD = re.compile(r"[^ \t\n\r\x0b\x0c]+")
# UAX #11: characters that take two columns. A line may end between two ideographs, but not after
# opening or before closing punctuation (UAX #14).
_IDEOGRAPHS = "\u2e80-\u9fff\uf900-\ufaff\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
_WIDE = re.compile(f"[{_IDEOGRAPHS}\u1100-\u115f\uac00-\ud7a3]")
_OPENING, _CLOSING = "「『（【《〈〔［｛", "」』）】》〉〕］｝、。，．：；！？…ー々"  # noqa: RUF001
_CHUNK = re.compile(
    rf"(?:[a-z]+://[^{_OPENING}{_CLOSING}]+|[{_OPENING}]*(?:[{_IDEOGRAPHS}]|[^{_IDEOGRAPHS}]+))"
    rf"[{_CLOSING}]*"
)


def wrap(text: str, width: int = 72, first: str = "", rest: str = "") -> list[str]:
    """Return `text` in lines of at most `width` columns; words and URLs are never broken."""
    lines: list[str] = []
    line, used, is_empty = first, len(first), True
    for space, chunk, size in _chunks(text):
        if not is_empty and used + len(space) + size > width:
            lines.append(line)
            line, used, is_empty = rest, len(rest), True
        if is_empty:
            line, used, is_empty = line + chunk, used + size, False
        else:
            line, used = line + space + chunk, used + len(space) + size
    return lines if is_empty else [*lines, line]


def _chunks(text: str) -> Iterator[tuple[str, str, int]]:
    """Split `text` into chunks that must not be broken.

    For each chunk, yield the space before it, the chunk, and its width in columns.
    """
    wide = _WIDE.search(text)
    for word in _WORD.findall(text):
        space = " "
        for chunk in _CHUNK.findall(word) if wide else (word,):
            yield space, chunk, display_width(chunk) if wide else len(chunk)
            space = ""


def display_width(text: str) -> int:
    """Return the number of columns that `text` takes on a screen; ideographs take two."""
    return len(text) + len(_WIDE.findall(text))


# Characters; the flags and families of emoji have up to 14.
_LONGEST_CLUSTER = 64


def shorten(text: str, length: int) -> str:
    """Return `text` on one line of at most `length` characters, cut between words if possible."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    space = line.rfind(" ", 0, length)
    # Chinese and Japanese have no spaces. A space in the first half would cut too much.
    end = space if space > length // 2 else _last_boundary(line, length - 1)
    return line[:end] + "…"


def first_grapheme(text: str) -> str:
    """Return the first character of `text` as people see it: a grapheme cluster (UAX 29)."""
    return text[: _boundaries(text)[0]] if text else ""


def _last_boundary(text: str, most: int) -> int:
    """Return the last place up to `most` at which no grapheme cluster is cut."""
    if text.isascii():
        return most
    return max(
        (end for end in _boundaries(text[: most + _LONGEST_CLUSTER]) if end <= most), default=most
    )


def _boundaries(text: str) -> list[int]:
    """Return the ends of the grapheme clusters of `text`."""
    # Imported here because it takes 10 ms, and most texts are not cut.
    import regex  # noqa: PLC0415

    return [cluster.end() for cluster in regex.finditer(r"\X", text)]
