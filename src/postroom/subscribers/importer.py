"""CSV ↔ subscribers: take lists over from other programs, give ours away whole, forget people.

An import never makes anyone receive who had stopped: who left, bounced, complained or is suppressed
stays so, whatever a file says. It only stops those whom the file says to have stopped elsewhere.
"""

from __future__ import annotations

import csv
import io
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from itertools import islice
from tempfile import TemporaryFile
from typing import Protocol, TextIO, TypeVar

from attrs import Factory, define, evolve, field, frozen

from postroom.errors import ContentError, Problem
from postroom.mail.address import AddressError, parse_address
from postroom.mail.tokens import Random, new_token
from postroom.models import Cursor, Frequency, Reason, State, Subscriber
from postroom.subscribers import csv_format
from postroom.subscribers.csv_format import (
    CellError,
    CsvLayout,
    Source,
    is_stopped,
    read_rows,
    verify,
    worse_state,
)

T = TypeVar("T")
CHUNK = 1000


class SubscriberWriter(Protocol):
    """What is needed of the rows of subscribers."""

    def known(self, keys: Sequence[str]) -> dict[str, State]:
        """Return the states of those whose keys are among `keys`."""

    def add(
        self, newcomers: Sequence[Subscriber], at: datetime, consent: str = ""
    ) -> frozenset[str]:
        """Add those who are not there yet; return their keys."""

    def stop(self, keys: Sequence[str], state: State) -> int:
        """Put those who still receive into `state`."""

    def every(self, state: State | None = None) -> Iterator[Subscriber]:
        """Yield all subscribers."""


class SuppressionWriter(Protocol):
    """What is needed of the rows of suppressions."""

    def among(self, hashes: Sequence[str]) -> frozenset[str]:
        """Return those of `hashes` that are suppressed."""

    def suppress(self, reasons: Mapping[str, Reason], at: datetime) -> None:
        """Suppress these hashes."""

    def forget(self, key: str, hashed: str, at: datetime) -> bool:
        """Delete all that is known of an address, and suppress its hash."""


@frozen
class SubscriberStore:
    """The rows that an import reads and writes."""

    subscribers: SubscriberWriter
    suppressions: SuppressionWriter


@frozen
class ImportTerms:
    """On what terms newcomers are taken.

    `hashed` makes the suppression hash of an address's key, `bookmark_for` the current boundary of
    a frequency. With `start`, posts are owed from that day on instead. `consent` is said of rows
    that tell no state, and is empty where nobody answers for them.
    """

    at: datetime
    frequency: Frequency
    bookmark_for: Callable[[Frequency], Cursor]
    hashed: Callable[[str], str]
    start: date | None = None
    consent: str = ""
    topics: frozenset[str] = frozenset()
    language: str = ""
    random: Random = secrets.token_bytes


@frozen(order=True)
class ImportRemark:
    """A line that was not taken, and why."""

    line: int
    address: str
    why: str
    is_fault: bool = True


@define
class ImportSummary:
    """How the lines of a file ended."""

    added: int = 0
    known: int = 0
    stopped: int = 0
    kept_out: int = 0
    faulty: int = 0


@frozen
class _Candidate:
    line: int
    key: str
    subscriber: Subscriber
    asserted: bool


@define
class _Import:
    """One import under way."""

    book: SubscriberStore
    terms: ImportTerms
    report: Callable[[ImportRemark], None]
    tally: ImportSummary = Factory(ImportSummary)
    _bookmarks: dict[Frequency, Cursor] = field(factory=dict)

    def candidate(self, line: int, cells: Sequence[str], where: CsvLayout) -> _Candidate | None:
        """Return who stands on a line, or report why they cannot be taken."""
        try:
            row = where.read(cells)
            address = parse_address(row.address)
            state = row.state or self._answered_for()
            newcomer = self._newcomer(address.ascii, state, row.values)
            return _Candidate(line, address.key, newcomer, asserted=row.state is None)
        except (AddressError, CellError) as error:
            shown = cells[where.address] if where.address < len(cells) else ""
            self._refuse(line, shown.strip(), str(error))
            return None

    def _answered_for(self) -> State:
        if self.terms.consent:
            return "active"
        raise CellError("no state is told; say --confirmed if they agreed to get mail")

    def _newcomer(self, address: str, state: State, values: Mapping[str, str]) -> Subscriber:
        often = _cell(values, "frequency", csv_format.parse_frequency, self.terms.frequency)
        bookmark = self._bookmark(often)
        before = _cell(values, "cursor_date", csv_format.parse_day, bookmark.date)
        return Subscriber(
            id=0,
            address=address,
            state=state,
            frequency=often,
            topics=_cell(values, "topics", csv_format.parse_list, self.terms.topics),
            language=_cell(values, "language", csv_format.parse_language, self.terms.language),
            cursor=Cursor(
                before, _cell(values, "cursor_seq", csv_format.parse_number, bookmark.seq)
            ),
            start=_cell(values, "start", csv_format.parse_day, before),
            issues=_cell(values, "issues", csv_format.parse_number, 0),
            token=_cell(values, "token", csv_format.parse_token, "")
            or new_token(self.terms.random),
        )

    def _bookmark(self, often: Frequency) -> Cursor:
        if often not in self._bookmarks:
            start = self.terms.start
            # Rule 5: `--from DATE` owes them what arrived from that day on.
            self._bookmarks[often] = Cursor(start) if start else self.terms.bookmark_for(often)
        return self._bookmarks[often]

    def take(self, chunk: Sequence[_Candidate]) -> None:
        """Take those who stand on some lines, in a few transactions that may be repeated."""
        wanted = _merged(chunk)
        self.tally.known += len(chunk) - len(wanted)
        hashes = {key: self.terms.hashed(key) for key in wanted}
        suppressed = self.book.suppressions.among(list(hashes.values()))
        known = self.book.subscribers.known(list(wanted))
        self._suppress(wanted.values(), hashes)
        newcomers = []
        stopped: dict[State, list[str]] = {}
        for key, candidate in wanted.items():
            if key in known:
                self._meet(candidate, known[key], stopped)
            elif hashes[key] in suppressed:
                self._keep_out(candidate, "is suppressed, and stays so")
            else:
                newcomers.append(candidate)
        for state, keys in stopped.items():
            self.tally.stopped += self.book.subscribers.stop(keys, state)
        self._add(newcomers)

    def _suppress(self, chunk: Iterable[_Candidate], hashes: Mapping[str, str]) -> None:
        reasons: dict[str, Reason] = {}
        for candidate in chunk:
            state = candidate.subscriber.state
            if state in {"bounced", "complained"}:
                reasons[hashes[candidate.key]] = "bounced" if state == "bounced" else "complained"
        self.book.suppressions.suppress(reasons, self.terms.at)

    def _meet(self, candidate: _Candidate, held: State, stopped: dict[State, list[str]]) -> None:
        """Deal with one who is there already: their row is their word, the file's is hearsay."""
        told = candidate.subscriber.state
        if is_stopped(told) and not is_stopped(held):
            stopped.setdefault(told, []).append(candidate.key)
        elif is_stopped(held) and not is_stopped(told):
            self._keep_out(candidate, f"is there as '{held}', and stays so")
        else:
            self.tally.known += 1

    def _add(self, chunk: Sequence[_Candidate]) -> None:
        added: set[str] = set()
        for asserted in (False, True):
            some = [c.subscriber for c in chunk if c.asserted is asserted]
            consent = self.terms.consent if asserted else ""
            added |= self.book.subscribers.add(some, self.terms.at, consent)
        self.tally.added += len(added)
        for candidate in chunk:
            if candidate.key not in added:
                why = "its token is another subscriber's; leave the cell empty for a new one"
                self._refuse(candidate.line, candidate.subscriber.address, why)

    def _keep_out(self, candidate: _Candidate, why: str) -> None:
        self.tally.kept_out += 1
        address = candidate.subscriber.address
        self.report(ImportRemark(candidate.line, address, why, is_fault=False))

    def _refuse(self, line: int, address: str, why: str) -> None:
        self.tally.faulty += 1
        self.report(ImportRemark(line, address, why))


def _cell(values: Mapping[str, str], name: str, read: Callable[[str], T], default: T) -> T:
    return read(values[name]) if name in values else default


def _merged(chunk: Iterable[_Candidate]) -> dict[str, _Candidate]:
    """Return one candidate for each address: the first, in the worst state that a line told."""
    merged: dict[str, _Candidate] = {}
    for candidate in chunk:
        first = merged.setdefault(candidate.key, candidate)
        told = candidate.subscriber.state
        if is_stopped(told) and worse_state(told) > worse_state(first.subscriber.state):
            stopped = evolve(first.subscriber, state=told)
            merged[candidate.key] = evolve(first, subscriber=stopped, asserted=False)
    return merged


def import_addresses(
    addresses: Sequence[str],
    book: SubscriberStore,
    terms: ImportTerms,
    report: Callable[[ImportRemark], None],
) -> ImportSummary:
    """Take single addresses as an import takes lines; their numbers in `report` count from 1."""
    work = _Import(book, terms, report)
    where = CsvLayout(0, None, {}, {})
    lines = enumerate(addresses, 1)
    candidates = (work.candidate(line, [address], where) for line, address in lines)
    work.take([candidate for candidate in candidates if candidate])
    return work.tally


def import_csv(
    source: io.BufferedReader,
    name: str,
    book: SubscriberStore,
    terms: ImportTerms,
    report: Callable[[ImportRemark], None],
) -> ImportSummary:
    """Import the CSV file `source`, called `name` in messages; return how its lines ended.

    `report` is told of each line that was not taken. Lines are taken by the thousand: after a
    failure, the same import again takes the rest. Raises `ContentError` before any line is taken if
    the file cannot be read with certainty, has no column of addresses, or nobody says that its
    people agreed.
    """
    work = _Import(book, terms, report)
    with _seekable(source) as table:
        with closing(read_rows(table, name)) as lines:
            where = _layout(next(lines, (1, []))[1], name, terms)
        table.seek(0)
        verify(table, name)
        table.seek(0)
        with closing(read_rows(table, name)) as lines:
            candidates = (
                work.candidate(line, cells, where) for line, cells in islice(lines, 1, None)
            )
            taken = (candidate for candidate in candidates if candidate)
            while chunk := list(islice(taken, CHUNK)):
                work.take(chunk)
    return work.tally


@contextmanager
def _seekable(source: io.BufferedReader) -> Iterator[Source]:
    """Yield `source`, or a copy of what comes through a pipe: a file is read before it is taken."""
    if source.seekable():
        yield source
        return
    # Unlinked at once, so no list of addresses stays behind.
    with TemporaryFile("w+b") as copy:
        shutil.copyfileobj(source, copy)
        copy.seek(0)
        yield copy


def _layout(header: Sequence[str], name: str, terms: ImportTerms) -> CsvLayout:
    where = csv_format.detect_layout(header)
    if where is None:
        repair = "let its first line name the columns, one of them 'email'"
        raise ContentError(
            [Problem(name, 1, message="no column of addresses is found", hint=repair)]
        )
    if not where.says_states and not terms.consent:
        what, repair = "no column tells who agreed to get mail", "say --confirmed if all did"
        raise ContentError([Problem(name, 1, message=what, hint=repair)])
    return where


def export_csv(subscribers: Iterable[Subscriber], target: TextIO) -> int:
    """Write all columns of `subscribers` as CSV that `take_csv` reads back; return how many."""
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(csv_format.OWN)
    number = 0
    for subscriber in subscribers:
        writer.writerow(csv_format.format_row(subscriber))
        number += 1
    return number
