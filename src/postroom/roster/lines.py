"""Read a CSV file as other programs write it: its rows, each with the line on which it begins.

Tolerated are a byte-order mark, UTF-16, semicolons, tabs and bars for commas, Excel's `sep=;`, line
breaks in quotes, and cells that are not UTF-8, as long as they are none of ours. A file whose rows
could mean two things is refused, at the line. One row is held in memory at a time.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice

from postroom.errors import ContentError, Problem

Source = io.BufferedReader | io.BufferedRandom
LONGEST_LINE = 1024 * 1024
MOST_FAULTS = 20
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"?')
# RFC 4180 §2.7: a quote inside a quoted cell is written twice.
_CELL = re.compile(r'"([^"]*(?:""[^"]*)*)"(?!")')
_BREAK = re.compile(r"\r\n|\r|\n")
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKED = "postroom-marked"

# Python's own handlers fail on some broken UTF-16; a lone surrogate never comes from a whole file.
codecs.register_error(_MARKED, lambda error: ("\udcff", getattr(error, "end", 0)))


class _FaultError(Exception):
    """A line from which on a file cannot be read with certainty."""

    def __init__(self, line: int, what: str, repair: str) -> None:
        super().__init__(what)
        self.line, self.what, self.repair = line, what, repair


def rows(source: Source, name: str) -> Generator[tuple[int, list[str]], None, None]:
    """Yield the rows of `source`, empty ones left out, with the numbers of their first lines.

    Raises `ContentError` at the first row that cannot be read with certainty.
    """
    with closing(_rows_and_problems(source, name)) as everything:
        for found in everything:
            if isinstance(found, Problem):
                raise ContentError([found])
            yield found


def verify(source: Source, name: str) -> None:
    """Raise `ContentError` with the faults of all rows of `source`, or with the first twenty."""
    with closing(_rows_and_problems(source, name)) as everything:
        problems = (found for found in everything if isinstance(found, Problem))
        if first := list(islice(problems, MOST_FAULTS)):
            raise ContentError(first)


def _rows_and_problems(
    source: Source, name: str
) -> Generator[tuple[int, list[str]] | Problem, None, None]:
    wide = _is_utf16(source)
    text = io.TextIOWrapper(
        source,
        "utf-16" if wide else "utf-8-sig",
        errors=_MARKED if wide else "surrogateescape",
        newline="",
    )
    width = 0
    try:
        for line, cells in _parsed(_lines(text, is_utf16=wide)):
            width = width or len(cells)
            if len(cells) == width:
                yield line, cells
            else:
                yield _misfit(name, line, len(cells), width)
    except _FaultError as fault:
        yield Problem(name, fault.line, what=fault.what, repair=fault.repair)
    finally:
        text.detach()


def _misfit(name: str, line: int, number: int, width: int) -> Problem:
    what = f"this row has {number} cell{'s' * (number != 1)}, and the first has {width}"
    repair = "put cells that hold a delimiter or a line break in quotes, and write empty cells, too"
    return Problem(name, line, what=what, repair=repair)


def _is_utf16(source: Source) -> bool:
    return source.peek(4)[:4].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _lines(text: io.TextIOWrapper, *, is_utf16: bool) -> Iterator[tuple[int, str]]:
    number = 0
    again = "save the file as UTF-8 once more"
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            what = "is no CSV: this line is longer than 1 MiB"
            raise _FaultError(number, what, "write one row a line")
        if is_utf16 and _SURROGATE.search(line):
            what = "this line is not UTF-16, as the rest of the file is"
            raise _FaultError(number, what, again)
        if "\0" in line:
            what = "a NUL character stands here, so the file is damaged or is not UTF-8"
            raise _FaultError(number, what, again)
        yield number, line


def _parsed(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of rows that are not empty, and the numbers of their first lines."""
    first = next(lines, (1, ""))
    hint = re.fullmatch(r'"?sep=([^"\r\n])"?\s*', first[1])
    delimiter = hint[1] if hint else _delimiter(first[1])
    width = 0
    for number, record in _records(lines if hint else chain([first], lines)):
        cells = _cells(number, record, delimiter, single=width <= 1)
        if any(cell.strip() for cell in cells):
            if not width and _swallows_a_row(cells):
                what = "this first row spans lines, and one of its cells holds an email address"
                raise _FaultError(number, what, "close its quotes")
            width = width or len(cells)
            yield number, cells


def _delimiter(header: str) -> str:
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)


def _records(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join the lines of each row: one ends where all quotes are closed, so their number is even."""
    start, quotes, size = 0, 0, 0
    parts: list[str] = []
    for number, line in lines:
        start = start if parts else number
        parts.append(line)
        quotes += line.count('"')
        size += len(line)
        if quotes % 2 == 0 or size > LONGEST_LINE:
            yield start, "".join(parts)
            parts, quotes, size = [], 0, 0
    if parts:
        yield start, "".join(parts)


def _cells(start: int, record: str, delimiter: str, *, single: bool) -> list[str]:
    """Return the cells of a row that begins on line `start`, by RFC 4180 §2 and nothing else."""
    record = record.rstrip("\r\n") if record.count('"') % 2 == 0 else record
    cells = []
    position = 0
    while True:
        if record.startswith('"', position):
            cell, stop = _quoted_cell(start, record, position, delimiter)
            if _looks_like_rows(cell, delimiter, single=single):
                what = "a quoted cell opens here, and lines of it look like rows"
                repair = "close its quote, or write the cell on one line"
                raise _FaultError(_line(start, record, position), what, repair)
        else:
            stop = record.find(delimiter, position)
            stop = len(record) if stop < 0 else stop
            cell = record[position:stop]
            if (quote := cell.find('"')) >= 0:
                what = "a quote stands inside a cell that does not begin with one"
                repair = "put the whole cell in quotes, and write each quote inside it twice"
                raise _FaultError(_line(start, record, position + quote), what, repair)
        cells.append(cell)
        if stop == len(record):
            return cells
        position = stop + 1


def _quoted_cell(start: int, record: str, position: int, delimiter: str) -> tuple[str, int]:
    """Return the text of the quoted cell at `position`, and where it ends."""
    opened = _line(start, record, position)
    match = _CELL.match(record, position)
    if match is None:
        what, repair = "a quote opens here and does not end", "close it, or take it out"
        raise _FaultError(opened, what, repair)
    stop = match.end()
    if stop < len(record) and record[stop] != delimiter:
        closed = _line(start, record, stop)
        what = "text follows the closing quote of a cell"
        if closed > opened:
            what = f"a quote opens here, and text follows the quote that closes it in line {closed}"
        repair = "close the quote where its cell ends, and write each quote inside a cell twice"
        raise _FaultError(opened, what, repair)
    return match[1].replace('""', '"'), stop


def _swallows_a_row(header: Sequence[str]) -> bool:
    return any(map(_BREAK.search, header)) and any(map(_ADDRESS.search, header))


def _line(start: int, record: str, position: int) -> int:
    return start + len(_BREAK.findall(record, 0, position))


def _looks_like_rows(cell: str, delimiter: str, *, single: bool) -> bool:
    """Tell whether a quoted cell may be rows that two stray quotes have swallowed.

    A line of it that has a delimiter and an email address for a cell may be a row. Where there is
    but one column (`single`), an address alone may be one.
    """
    lines = _BREAK.split(cell)
    if len(lines) == 1:
        return False
    parts = (line.split(delimiter) for line in lines)
    return any(
        (single or len(some) > 1) and any(_ADDRESS.fullmatch(one.strip(' "\t')) for one in some)
        for some in parts
    )
