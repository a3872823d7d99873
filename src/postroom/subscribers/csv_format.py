"""Read CSV files of subscribers from other programs, and read and write our own export.

The parser accepts a byte-order mark, UTF-16, delimiters other than the comma, Excel's `sep=;`, line
breaks in quoted cells, and cells that are not UTF-8 in columns that are not imported. It refuses a
file whose rows could be read in two ways, for example after a quote that is never closed, and names
the line. It holds one row at a time in memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from itertools import chain, islice
from typing import get_args

from attrs import field, frozen

from postroom.errors import ContentError, Problem
from postroom.models import Frequency, State, Subscriber
from postroom.settings.validation import is_language
from postroom.subscribers.state_columns import (
    CellError,
    StateColumn,
    compact_name,
    find_state_columns,
    is_doubtful,
    read_state,
)

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

# Python's own handlers fail on some broken UTF-16. A sound file never has a lone surrogate.
codecs.register_error(_MARKED, lambda error: ("\udcff", getattr(error, "end", 0)))


class _FaultError(Exception):
    """From `line` on it is not certain where the rows of the file end, so reading stops."""

    def __init__(self, line: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line, self.message, self.hint = line, message, hint


def read_rows(source: Source, name: str) -> Generator[tuple[int, list[str]], None, None]:
    """Yield for each row of `source` the number of its first line, and its cells.

    Empty rows are skipped. `name` is the name of the file in messages. Raises `ContentError` at the
    first row that is malformed.
    """
    with closing(_rows_and_problems(source, name)) as rows:
        for found in rows:
            if isinstance(found, Problem):
                raise ContentError([found])
            yield found


def verify(source: Source, name: str) -> None:
    """Read `source` to its end to check its form.

    Raises `ContentError` with up to `MOST_FAULTS` problems if rows are malformed.
    """
    with closing(_rows_and_problems(source, name)) as rows:
        problems = (found for found in rows if isinstance(found, Problem))
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
                yield _width_problem(name, line, len(cells), width)
    except _FaultError as fault:
        yield Problem(name, fault.line, message=fault.message, hint=fault.hint)
    finally:
        text.detach()


def _width_problem(name: str, line: int, number: int, width: int) -> Problem:
    message = f"this row has {number} cell{'s' * (number != 1)}, and the first has {width}"
    hint = (
        "put cells that contain a delimiter or a line break in quotes, and write empty cells, too"
    )
    return Problem(name, line, message=message, hint=hint)


def _is_utf16(source: Source) -> bool:
    return source.peek(4)[:4].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _lines(text: io.TextIOWrapper, *, is_utf16: bool) -> Iterator[tuple[int, str]]:
    number = 0
    hint = "save the file as UTF-8 again"
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            message = "is not CSV: this line is longer than 1 MiB"
            raise _FaultError(number, message, "write one row on each line")
        if is_utf16 and _SURROGATE.search(line):
            message = "this line is not UTF-16, but the rest of the file is"
            raise _FaultError(number, message, hint)
        if "\0" in line:
            message = "this line has a NUL character, so the file is damaged or not UTF-8"
            raise _FaultError(number, message, hint)
        yield number, line


def _parsed(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield for each row that is not empty the number of its first line, and its cells."""
    first = next(lines, (1, ""))
    separator = re.fullmatch(r'"?sep=([^"\r\n])"?\s*', first[1])
    delimiter = separator[1] if separator else _delimiter(first[1])
    width = 0
    for number, record in _records(lines if separator else chain([first], lines)):
        cells = _cells(number, record, delimiter, single=width <= 1)
        if any(cell.strip() for cell in cells):
            if not width and _contains_rows(cells):
                message = "this first row spans lines, and one of its cells is an email address"
                raise _FaultError(number, message, "close its quotes")
            width = width or len(cells)
            yield number, cells


def _delimiter(header: str) -> str:
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)


def _records(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join the lines of each row, as a quoted cell may contain line breaks.

    A row ends at the end of the first line up to which its number of quotes is even.
    """
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
    """Split a row that begins on line `start` into its cells, strictly by RFC 4180 §2."""
    record = record.rstrip("\r\n") if record.count('"') % 2 == 0 else record
    cells = []
    position = 0
    while True:
        if record.startswith('"', position):
            cell, stop = _quoted_cell(start, record, position, delimiter)
            if _looks_like_rows(cell, delimiter, single=single):
                message = "a quoted cell begins here, and some of its lines look like rows"
                hint = "close its quote, or write the cell on one line"
                raise _FaultError(_line(start, record, position), message, hint)
        else:
            stop = record.find(delimiter, position)
            stop = len(record) if stop < 0 else stop
            cell = record[position:stop]
            if (quote := cell.find('"')) >= 0:
                message = "there is a quote inside a cell that does not begin with one"
                hint = "put the whole cell in quotes, and write each quote inside it twice"
                raise _FaultError(_line(start, record, position + quote), message, hint)
        cells.append(cell)
        if stop == len(record):
            return cells
        position = stop + 1


def _quoted_cell(start: int, record: str, position: int, delimiter: str) -> tuple[str, int]:
    """Return the text of the quoted cell at `position` of `record`, and the index of its end."""
    opened = _line(start, record, position)
    match = _CELL.match(record, position)
    if match is None:
        message, hint = "a quote opens here and is not closed", "close it, or remove it"
        raise _FaultError(opened, message, hint)
    stop = match.end()
    if stop < len(record) and record[stop] != delimiter:
        closed = _line(start, record, stop)
        message = "text follows the closing quote of a cell"
        if closed > opened:
            message = f"a quote opens here, and text follows its closing quote on line {closed}"
        hint = "close the quote where its cell ends, and write each quote inside a cell twice"
        raise _FaultError(opened, message, hint)
    return match[1].replace('""', '"'), stop


def _contains_rows(header: Sequence[str]) -> bool:
    return any(map(_BREAK.search, header)) and any(map(_ADDRESS.search, header))


def _line(start: int, record: str, position: int) -> int:
    return start + len(_BREAK.findall(record, 0, position))


def _looks_like_rows(cell: str, delimiter: str, *, single: bool) -> bool:
    """Tell whether a quoted cell may be several rows that stand between two stray quotes.

    That is so if one of its lines looks like a row: it has a delimiter and an email address. If the
    file has only one column (`single`), an email address alone looks like a row.
    """
    lines = _BREAK.split(cell)
    if len(lines) == 1:
        return False
    rows = (line.split(delimiter) for line in lines)
    return any(
        (single or len(row) > 1) and any(_ADDRESS.fullmatch(cell.strip(' "\t')) for cell in row)
        for row in rows
    )


def _joined(words: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(words)
    return line.getvalue()


OWN_COLUMNS: Mapping[str, Callable[[Subscriber], str]] = {
    "address": lambda subscriber: subscriber.address,
    "state": lambda subscriber: subscriber.state,
    "frequency": lambda subscriber: subscriber.frequency,
    "topics": lambda subscriber: _joined(sorted(subscriber.topics)),
    "language": lambda subscriber: subscriber.language,
    "cursor_date": lambda subscriber: subscriber.cursor.date.isoformat(),
    "cursor_seq": lambda subscriber: str(subscriber.cursor.seq),
    "start": lambda subscriber: subscriber.start.isoformat(),
    "issues": lambda subscriber: str(subscriber.issues),
    "token": lambda subscriber: subscriber.token,
}
"""The columns of our own export, and how to write each cell.

They hold all fields of a subscriber, so an import of the export restores the list completely.
"""


def format_row(subscriber: Subscriber) -> tuple[str, ...]:
    """Return the cells of a subscriber's row in our own export, in the order of `OWN_COLUMNS`.

    An apostrophe is put before a cell that a spreadsheet would read as a formula.
    """
    return tuple(_guard(cell(subscriber)) for cell in OWN_COLUMNS.values())


def _guard(cell: str) -> str:
    """Put an apostrophe before a cell that begins like a formula (OWASP: CSV injection).

    A cell that begins with an apostrophe gets a second one, so that removing the first one from any
    guarded cell gives the cell back.
    """
    # NFKC also finds the full-width forms of these characters, which Excel reads alike.
    begins = unicodedata.normalize("NFKC", cell.lstrip()[:1])
    risky = begins in {"=", "+", "-", "@"} or cell.startswith(("\t", "\r", "\n", "'"))
    return f"'{cell}" if risky else cell


# Mailchimp's "Address" is a postal address, so the other names come first.
_ADDRESSES = ("emailaddress", "email", "mail", "emailadresse", "subscriber", "address")


@frozen
class CsvRow:
    """The cells of a row that are imported.

    `state` is None if the row has none. `values` holds the other cells that are not empty,
    by the column's name.
    """

    address: str
    state: State | None
    values: Mapping[str, str]


@frozen
class CsvLayout:
    """The columns of a file that are imported, with their indexes from 0.

    `address` is the index of the email addresses. `states` are all columns that tell the state, and
    `doubtful` the names of those that may, in a way that is not known. `own` maps the names of
    columns that our export has, too, to their indexes. `is_guarded` tells that the file is our own
    export, whose cells may begin with an apostrophe that does not belong to the value.
    """

    address: int
    states: tuple[StateColumn, ...] = ()
    doubtful: tuple[str, ...] = ()
    own: Mapping[str, int] = field(factory=dict)
    is_guarded: bool = False

    def read(self, cells: Sequence[str]) -> CsvRow:
        """Return the row with these `cells`.

        Raises `CellError` for an unknown state.
        """
        own = {name: self._cell(cells, index) for name, index in self.own.items()}
        return CsvRow(
            self.read_address(cells),
            read_state(self.states, cells),
            {name: value for name, value in own.items() if value},
        )

    def read_address(self, cells: Sequence[str]) -> str:
        """Return the email address of the row with these `cells`, as it is written."""
        return self._cell(cells, self.address)

    def _cell(self, cells: Sequence[str], index: int) -> str:
        cell = cells[index].strip()
        return cell.removeprefix("'") if self.is_guarded else cell


def detect_layout(header: Sequence[str], ignored: Iterable[str] = ()) -> CsvLayout | None:
    """Find the columns to import by the names in `header`, the first row of the file.

    Columns with one of the names `ignored` are not imported. Return None if there is no column of
    email addresses.
    """
    without = set(map(compact_name, ignored))
    columns = [(i, name) for i, name in enumerate(header) if compact_name(name) not in without]
    indexes: dict[str, int] = {}
    for index, name in columns:
        indexes.setdefault(compact_name(name), index)
    address = next((name for name in _ADDRESSES if name in indexes), None)
    if address is None:
        return None
    # Other programs have columns of these names that mean something else.
    ours = "token" in indexes and "cursorseq" in indexes
    own = tuple(OWN_COLUMNS)[2:] if ours else ("frequency", "topics", "language")
    return CsvLayout(
        indexes[address],
        find_state_columns(columns),
        tuple(name.strip() for _, name in columns if is_doubtful(name)),
        {name: indexes[compact_name(name)] for name in own if compact_name(name) in indexes},
        is_guarded=ours,
    )


def parse_list(cell: str) -> frozenset[str]:
    """Split a comma-separated cell into words; a word that contains a comma must be in quotes.

    Raises `CellError` for an unclosed quote or a line break.
    """
    try:
        found = next(csv.reader([cell], skipinitialspace=True, strict=True), [])
    except csv.Error:
        message = f"the topics '{cell[:40]}' have a line break or an unclosed quote"
        raise CellError(message) from None
    return frozenset(word.strip() for word in found if word.strip())


def parse_frequency(cell: str) -> Frequency:
    """Parse a cell with a frequency; raises `CellError` for another word."""
    for known in get_args(Frequency):
        if cell.casefold() == known:
            return known  # type: ignore[no-any-return]
    raise CellError(f"'{cell[:40]}' is not a frequency; write post, day, week or month")


def parse_language(cell: str) -> str:
    """Check a cell with a language tag (RFC 5646) and return it; raises `CellError`."""
    if not is_language(cell):
        raise CellError(f"'{cell[:40]}' is not a language; write a tag such as en or en-US")
    return cell


def parse_day(cell: str) -> date:
    """Parse a cell with a date (ISO 8601); raises `CellError` for another text."""
    try:
        return date.fromisoformat(cell)
    except ValueError:
        raise CellError(f"'{cell[:40]}' is not a date; write one such as 2026-11-22") from None


def parse_number(cell: str) -> int:
    """Parse a cell with a whole number of up to 15 digits; raises `CellError` for another text."""
    if not re.fullmatch(r"[0-9]{1,15}", cell):
        raise CellError(f"'{cell[:40]}' is not a number")
    return int(cell)


def parse_token(cell: str) -> str:
    """Check a cell with a subscriber's token and return it; raises `CellError` if malformed."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{22}", cell):
        raise CellError("the token is malformed; leave the cell empty for a new one")
    return cell
