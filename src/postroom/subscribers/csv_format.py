"""Read a CSV file as other programs write it: its rows, each with the line on which it begins.

Tolerated are a byte-order mark, UTF-16, semicolons, tabs and bars for commas, Excel's `sep=;`, line
breaks in quotes, and cells that are not UTF-8, as long as they are none of ours. A file whose rows
could mean two things is refused, at the line. One row is held in memory at a time.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from itertools import chain, islice
from typing import get_args

from attrs import frozen

from postroom.errors import ContentError, Problem
from postroom.models import Frequency, State, Subscriber
from postroom.settings.validation import is_language

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


def read_rows(source: Source, name: str) -> Generator[tuple[int, list[str]], None, None]:
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
        yield Problem(name, fault.line, message=fault.what, hint=fault.repair)
    finally:
        text.detach()


def _misfit(name: str, line: int, number: int, width: int) -> Problem:
    what = f"this row has {number} cell{'s' * (number != 1)}, and the first has {width}"
    repair = "put cells that hold a delimiter or a line break in quotes, and write empty cells, too"
    return Problem(name, line, message=what, hint=repair)


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


OWN = (
    "address",
    "state",
    "frequency",
    "topics",
    "language",
    "cursor_date",
    "cursor_seq",
    "start",
    "issues",
    "token",
)
"""The columns of our own export; with them a subscriber comes back as they were."""

# Mailchimp's "Address" is a postal one, so the plainer names come first.
_ADDRESSES = ("email_address", "email", "e_mail", "e_mail_address", "mail", "address")
_STOPPED: tuple[State, ...] = ("unsubscribed", "bounced", "complained")

_ACTIVE: Mapping[str, State] = dict.fromkeys(
    "active subscribed confirmed regular premium gifted trialed churning".split(), "active"
)
_UNSUBSCRIBED: Mapping[str, State] = dict.fromkeys(
    "unsubscribed disabled blocklisted archived removed blocked spammy".split(), "unsubscribed"
)
_WORDS: Mapping[str, State] = {
    **_ACTIVE,
    **_UNSUBSCRIBED,
    **dict.fromkeys("pending unconfirmed unactivated".split(), "pending"),
    **dict.fromkeys("bounced cleaned undeliverable".split(), "bounced"),
    "complained": "complained",
    "paused": "paused",
}
# listmonk's "enabled" says that an account is not switched off; who confirmed what is not exported.
_SILENT = frozenset({"", "enabled"})
# Buttondown's "paused" pauses a payment, not the letters.
_STATES: Mapping[str, Mapping[str, State]] = {
    "state": {word: word for word in get_args(State)},
    "status": _WORDS,
    "subscriber_type": {**_WORDS, "paused": "active"},
    "type": {**_WORDS, "paused": "active"},
    "subscribed_to_emails": {"true": "active", "false": "unsubscribed"},
    "subscribed": {
        "true": "active",
        "false": "unsubscribed",
        "yes": "active",
        "no": "unsubscribed",
    },
}


class CellError(ValueError):
    """A cell that cannot be taken; its text is a sentence that says why."""


@frozen
class CsvRow:
    """What one line says: an address, a state or none, and what else is there of our own."""

    address: str
    state: State | None
    values: Mapping[str, str]


@frozen
class CsvLayout:
    """Where what stands in a file."""

    address: int
    state: tuple[str, int] | None
    times: Mapping[str, int]
    own: Mapping[str, int]

    @property
    def says_states(self) -> bool:
        """Whether any column tells a state."""
        return bool(self.state or self.times)

    def read(self, cells: Sequence[str]) -> CsvRow:
        """Return what a line says.

        Raises `CellError` for a state that is not known.
        """
        own = {name: _cell(cells, index) for name, index in self.own.items()}
        return CsvRow(
            _cell(cells, self.address),
            self._state(cells),
            {name: value for name, value in own.items() if value},
        )

    def _state(self, cells: Sequence[str]) -> State | None:
        """Return the worst of what the columns say: who left in one of them has left."""
        states = [_by_times(self.times, cells)]
        if self.state:
            column, index = self.state
            states.append(_by_word(column, _cell(cells, index)))
        return max((state for state in states if state), key=worse_state, default=None)


def detect_layout(header: Sequence[str]) -> CsvLayout | None:
    """Return where what stands, by the names of the columns; None where none is of addresses."""
    places: dict[str, int] = {}
    for index, name in enumerate(header):
        places.setdefault(re.sub(r"[\s-]+", "_", name.strip().casefold()), index)
    address = next((name for name in _ADDRESSES if name in places), None)
    if address is None:
        return None
    state = next(((name, places[name]) for name in _STATES if name in places), None)
    times = ("unsub_time", "unsub_reason", "clean_time", "confirm_time")
    # Other programs have columns of these names that mean something else.
    ours = "token" in places and "cursor_seq" in places
    own = OWN[2:] if ours else ("frequency", "topics", "language")
    return CsvLayout(
        places[address],
        state,
        {name: places[name] for name in times if name in places},
        {name: places[name] for name in own if name in places},
    )


def worse_state(state: State) -> int:
    """Return how far a state is from receiving; the greater one wins where a file says two."""
    return (*("active", "paused", "pending"), *_STOPPED).index(state)


def is_stopped(state: State | None) -> bool:
    """Tell whether nobody in this state receives anything, until they confirm anew."""
    return state in _STOPPED


def _cell(cells: Sequence[str], index: int) -> str:
    return cells[index].strip() if index < len(cells) else ""


def _by_word(column: str, word: str) -> State | None:
    folded = word.casefold()
    if folded in _SILENT:
        return None
    state = _STATES[column].get(folded)
    if state is None:
        raise CellError(f"'{word[:40]}' in column '{column}' is no state that is known")
    return state


def _by_times(times: Mapping[str, int], cells: Sequence[str]) -> State | None:
    """Return the state that Mailchimp's columns of times and reasons tell."""
    said = {name: _cell(cells, index) for name, index in times.items()}
    if re.search("abuse|spam", said.get("unsub_reason", ""), re.IGNORECASE):
        return "complained"
    if said.get("clean_time"):
        return "bounced"
    if said.get("unsub_time"):
        return "unsubscribed"
    return "active" if said.get("confirm_time") else None


def format_row(subscriber: Subscriber) -> tuple[str, ...]:
    """Return the cells of `OWN` for a subscriber."""
    return (
        subscriber.address,
        subscriber.state,
        subscriber.frequency,
        _joined(sorted(subscriber.topics)),
        subscriber.language,
        subscriber.cursor.date.isoformat(),
        str(subscriber.cursor.seq),
        subscriber.start.isoformat(),
        str(subscriber.issues),
        subscriber.token,
    )


def _joined(words: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(words)
    return line.getvalue()


def parse_list(cell: str) -> frozenset[str]:
    """Return the words of a cell that lists them with commas, in quotes where one holds a comma."""
    try:
        found = next(csv.reader([cell], skipinitialspace=True, strict=True), [])
    except csv.Error:
        what = f"the topics '{cell[:40]}' have a line break or a quote that does not end"
        raise CellError(what) from None
    return frozenset(word.strip() for word in found if word.strip())


def parse_frequency(cell: str) -> Frequency:
    """Return the frequency that a cell names."""
    for known in get_args(Frequency):
        if cell.casefold() == known:
            return known  # type: ignore[no-any-return]
    raise CellError(f"'{cell[:40]}' is no frequency; write post, day, week or month")


def parse_language(cell: str) -> str:
    """Return the language tag in a cell (RFC 5646)."""
    if not is_language(cell):
        raise CellError(f"'{cell[:40]}' is no language; write one such as en or en-US")
    return cell


def parse_day(cell: str) -> date:
    """Return the date in a cell (ISO 8601)."""
    try:
        return date.fromisoformat(cell)
    except ValueError:
        raise CellError(f"'{cell[:40]}' is no date; write one such as 2026-11-22") from None


def parse_number(cell: str) -> int:
    """Return the count in a cell."""
    if not re.fullmatch(r"[0-9]{1,15}", cell):
        raise CellError(f"'{cell[:40]}' is no number")
    return int(cell)


def parse_token(cell: str) -> str:
    """Return the token in a cell."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{22}", cell):
        raise CellError("its token is none of ours; leave the cell empty for a new one")
    return cell
