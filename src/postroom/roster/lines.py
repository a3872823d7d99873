"""A CSV file as other programs write it → its rows, each with the line on which it begins.

Tolerated are a byte-order mark, UTF-16, semicolons, tabs and bars for commas, Excel's `sep=;`, line
breaks in quotes, and cells that are not UTF-8, as long as they are none of ours. One row is held
in memory at a time.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Generator, Iterator

from postroom.errors import ContentError, Problem

LONGEST_LINE = 1024 * 1024
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"?')


def rows(source: io.BufferedReader, name: str) -> Generator[tuple[int, list[str]], None, None]:
    """Yield the rows of `source`, empty ones left out, with the numbers of their first lines.

    Raises `ContentError` where the file is no CSV, for instance where a quote does not end.
    """
    text = io.TextIOWrapper(source, _encoding(source), errors="surrogateescape", newline="")
    lines = _lines(text, name)
    first = next(lines, "")
    hint = re.fullmatch(r'"?sep=(.)"?\s*', first)
    skipped = 1 if hint else 0
    delimiter = hint[1] if hint else _delimiter(first)
    kept = lines if hint else _again(first, lines)
    reader = csv.reader(kept, delimiter=delimiter)
    start = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield start + skipped, row
            start = reader.line_num + 1
    except csv.Error:
        repair = "close the quote that opens there; what stood before it is taken"
        problem = Problem(name, start + skipped, what="a quoted cell does not end", repair=repair)
        raise ContentError([problem]) from None
    finally:
        text.detach()


def _encoding(source: io.BufferedReader) -> str:
    beginning = source.peek(4)[:4]
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _delimiter(header: str) -> str:
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            problem = Problem(name, number, what="is no CSV: this line is longer than 1 MiB")
            raise ContentError([problem])
        yield line


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
