"""Import and export subscriber lists as CSV.

An import never reactivates people who had stopped receiving emails: an address that is
unsubscribed, bounced, complained or suppressed here stays so, whatever the file says. In the other
direction, an import stops subscribers whom the file reports as stopped.
"""

from __future__ import annotations

import csv
import io
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from tempfile import TemporaryFile
from typing import Protocol, TextIO, TypeVar

from attrs import Factory, define, evolve, field, frozen

from postroom.errors import ContentError, Problem
from postroom.mail.address import AddressError, parse_address
from postroom.mail.tokens import Random, new_token
from postroom.models import Cursor, Frequency, Reason, State, Subscriber
from postroom.subscribers import csv_format
from postroom.subscribers.csv_format import CsvLayout, Source, read_rows, verify
from postroom.subscribers.state_columns import (
    CellError,
    compact_name,
    is_stopped,
    worse_state,
)

T = TypeVar("T")
CHUNK = 1000


# The database implements these protocols; this package must not import it.


class SubscriberWriter(Protocol):
    """Access to the subscribers for an import; `db.subscribers.SubscriberTable` implements it."""

    def known(self, keys: Sequence[str]) -> dict[str, State]:
        """Return the states of the subscribers whose keys are among `keys`, by key."""

    def add(
        self, newcomers: Sequence[Subscriber], at: datetime, consent: str = ""
    ) -> frozenset[str]:
        """Add the `newcomers` whose address and token are new; return the keys of those added.

        `consent` says how these people agreed to receive emails; it is recorded unless empty.
        """

    def stop(self, keys: Sequence[str], state: State) -> int:
        """Set the state of the subscribers with these keys, unless they have stopped already.

        Return the number of subscribers changed.
        """


class SuppressionWriter(Protocol):
    """Access to the suppression list; `db.subscribers.SuppressionTable` implements it."""

    def among(self, hashes: Sequence[str]) -> frozenset[str]:
        """Return the hashes among `hashes` that are on the suppression list."""

    def suppress(self, reasons: Mapping[str, Reason], at: datetime) -> None:
        """Suppress the hashes that are the keys of `reasons`."""


@frozen
class SubscriberStore:
    """The parts of the store that an import reads and writes."""

    subscribers: SubscriberWriter
    suppressions: SuppressionWriter


@frozen
class ImportTerms:
    """The values for new subscribers whose row does not have its own, and the time of the import.

    `hashed` returns the suppression hash of an address's key. `cursor_for` returns the cursor that
    new subscribers of a frequency get (delivery rules, rule 5). `consent` is what the operator says
    about people whose row has no state; it is recorded as their consent. If it is empty, rows
    without a state are refused. Columns named in `ignored_columns` are not read.
    """

    at: datetime
    frequency: Frequency
    cursor_for: Callable[[Frequency], Cursor]
    hashed: Callable[[str], str]
    consent: str = ""
    topics: frozenset[str] = frozenset()
    language: str = ""
    ignored_columns: tuple[str, ...] = ()
    random: Random = secrets.token_bytes


@frozen(order=True)
class ImportRemark:
    """A row that was not imported, and the reason.

    `is_fault` is false if the row is valid, but the address must not receive emails any more.
    """

    line: int
    address: str
    reason: str
    is_fault: bool = True


@define
class ImportSummary:
    """The number of rows of an import by result, and the choices of the added subscribers.

    `known` rows were subscribers already, `stopped` ones were stopped because of the file,
    `kept_out` ones had stopped here before or were suppressed, and `faulty` ones are not valid.
    """

    added: int = 0
    known: int = 0
    stopped: int = 0
    suppressed: int = 0
    faulty: int = 0
    topics: set[str] = field(factory=set, eq=False)
    languages: set[str] = field(factory=set, eq=False)


@frozen
class _Candidate:
    """The subscriber that a row describes.

    `asserted` tells that the row has no state, so that only the operator confirms the consent.
    """

    line: int
    key: str
    subscriber: Subscriber
    asserted: bool


@define
class _Import:
    """An import in progress."""

    store: SubscriberStore
    terms: ImportTerms
    report: Callable[[ImportRemark], None]
    summary: ImportSummary = Factory(ImportSummary)
    _cursors: dict[Frequency, Cursor] = field(factory=dict)

    def candidate(self, line: int, cells: Sequence[str], layout: CsvLayout) -> _Candidate | None:
        """Return the subscriber that a row describes.

        If the row is not valid, report it and return None.
        """
        try:
            row = layout.read(cells)
            address = parse_address(row.address)
            state = row.state or self._default_state()
            newcomer = self._newcomer(address.ascii, state, row.values)
            return _Candidate(line, address.key, newcomer, asserted=row.state is None)
        except (AddressError, CellError) as error:
            self._refuse(line, layout.read_address(cells), str(error))
            return None

    def _default_state(self) -> State:
        if self.terms.consent:
            return "active"
        raise CellError("the row has no state; pass --confirmed if these people opted in")

    def _newcomer(self, address: str, state: State, values: Mapping[str, str]) -> Subscriber:
        frequency = _cell(values, "frequency", csv_format.parse_frequency, self.terms.frequency)
        cursor = self._cursor(frequency)
        day = _cell(values, "cursor_date", csv_format.parse_day, cursor.date)
        return Subscriber(
            id=0,
            address=address,
            state=state,
            frequency=frequency,
            topics=_cell(values, "topics", csv_format.parse_list, self.terms.topics),
            language=_cell(values, "language", csv_format.parse_language, self.terms.language),
            cursor=Cursor(day, _cell(values, "cursor_seq", csv_format.parse_number, cursor.seq)),
            start=_cell(values, "start", csv_format.parse_day, day),
            issues=_cell(values, "issues", csv_format.parse_number, 0),
            token=_cell(values, "token", csv_format.parse_token, "")
            or new_token(self.terms.random),
        )

    def _cursor(self, frequency: Frequency) -> Cursor:
        if frequency not in self._cursors:
            self._cursors[frequency] = self.terms.cursor_for(frequency)
        return self._cursors[frequency]

    def take(self, chunk: Sequence[_Candidate]) -> None:
        """Import the rows in `chunk` in a few transactions.

        After a crash between them, the same rows can be imported again.
        """
        candidates = _merge(chunk)
        self.summary.known += len(chunk) - len(candidates)
        hashes = {key: self.terms.hashed(key) for key in candidates}
        suppressed = self.store.suppressions.among(list(hashes.values()))
        known = self.store.subscribers.known(list(candidates))
        self._suppress(candidates.values(), hashes)
        newcomers = []
        stopped: dict[State, list[str]] = {}
        for key, candidate in candidates.items():
            if key in known:
                self._compare(candidate, known[key], stopped)
            elif hashes[key] in suppressed:
                self._count_suppressed(candidate, "the address is suppressed and is not added")
            else:
                newcomers.append(candidate)
        for state, keys in stopped.items():
            self.summary.stopped += self.store.subscribers.stop(keys, state)
        self._add(newcomers)

    def _suppress(self, chunk: Iterable[_Candidate], hashes: Mapping[str, str]) -> None:
        reasons: dict[str, Reason] = {}
        for candidate in chunk:
            state = candidate.subscriber.state
            if state in {"bounced", "complained"}:
                reasons[hashes[candidate.key]] = "bounced" if state == "bounced" else "complained"
        self.store.suppressions.suppress(reasons, self.terms.at)

    def _compare(
        self, candidate: _Candidate, stored: State, stopped: dict[State, list[str]]
    ) -> None:
        """Compare a row with `stored`, the state of the same subscriber in the database.

        If only the file says that the subscriber has stopped, add the key to `stopped`.
        """
        state = candidate.subscriber.state
        if is_stopped(state) and not is_stopped(stored):
            stopped.setdefault(state, []).append(candidate.key)
        elif is_stopped(stored) and not is_stopped(state):
            self._count_suppressed(candidate, f"the subscriber is '{stored}' and stays so")
        else:
            self.summary.known += 1

    def _add(self, chunk: Sequence[_Candidate]) -> None:
        added: set[str] = set()
        for asserted in (False, True):
            some = [each.subscriber for each in chunk if each.asserted is asserted]
            consent = self.terms.consent if asserted else ""
            added |= self.store.subscribers.add(some, self.terms.at, consent)
        self.summary.added += len(added)
        for candidate in chunk:
            if candidate.key not in added:
                reason = (
                    "the token belongs to another subscriber; leave the cell empty for a new one"
                )
                self._refuse(candidate.line, candidate.subscriber.address, reason)
            elif not is_stopped(candidate.subscriber.state):
                self.summary.topics |= candidate.subscriber.topics
                self.summary.languages |= {candidate.subscriber.language} - {""}

    def _count_suppressed(self, candidate: _Candidate, reason: str) -> None:
        self.summary.suppressed += 1
        address = candidate.subscriber.address
        self.report(ImportRemark(candidate.line, address, reason, is_fault=False))

    def _refuse(self, line: int, address: str, reason: str) -> None:
        self.summary.faulty += 1
        self.report(ImportRemark(line, address, reason))


def _cell(values: Mapping[str, str], name: str, parse: Callable[[str], T], default: T) -> T:
    return parse(values[name]) if name in values else default


def _merge(chunk: Iterable[_Candidate]) -> dict[str, _Candidate]:
    """Return one candidate for each address, by key.

    The candidate has the values of the address's first row. If one of the rows says that the
    subscriber has stopped, the candidate has the worst state of these rows.
    """
    merged: dict[str, _Candidate] = {}
    for candidate in chunk:
        first = merged.setdefault(candidate.key, candidate)
        state = candidate.subscriber.state
        if is_stopped(state) and worse_state(state) > worse_state(first.subscriber.state):
            stopped = evolve(first.subscriber, state=state)
            merged[candidate.key] = evolve(first, subscriber=stopped, asserted=False)
    return merged


def import_addresses(
    addresses: Sequence[str],
    store: SubscriberStore,
    terms: ImportTerms,
    report: Callable[[ImportRemark], None],
) -> ImportSummary:
    """Import single email addresses, as if each were a row of a file.

    `report` receives each address that was not imported; its line is the position from 1.
    """
    work = _Import(store, terms, report)
    layout = CsvLayout(0)
    lines = enumerate(addresses, 1)
    candidates = (work.candidate(line, [address], layout) for line, address in lines)
    work.take([candidate for candidate in candidates if candidate])
    return work.summary


def import_csv(
    source: io.BufferedReader,
    name: str,
    store: SubscriberStore,
    terms: ImportTerms,
    report: Callable[[ImportRemark], None],
) -> ImportSummary:
    """Import the CSV file `source` and return the number of rows by result.

    `name` is the name of the file in messages; `report` receives each row that was not imported.
    Rows are imported in chunks of a thousand. After a failure between two chunks, import the file
    again: rows that were imported before do no harm. Raises `ContentError`, before any row is
    imported, if the file is malformed, has no column of email addresses, has a column that may tell
    who gets no emails in an unknown way, or has no column of states while `terms` hold no consent.
    """
    work = _Import(store, terms, report)
    with _seekable(source) as table:
        with closing(read_rows(table, name)) as lines:
            layout = _layout(next(lines, (1, []))[1], name, terms)
        table.seek(0)
        verify(table, name)
        table.seek(0)
        with closing(read_rows(table, name)) as lines:
            rows = (work.candidate(line, cells, layout) for line, cells in islice(lines, 1, None))
            candidates = (candidate for candidate in rows if candidate)
            while chunk := list(islice(candidates, CHUNK)):
                work.take(chunk)
    return work.summary


@contextmanager
def _seekable(source: io.BufferedReader) -> Iterator[Source]:
    """Yield a file that can be read more than once: `source`, or a copy of it if it is a pipe."""
    if source.seekable():
        yield source
        return
    # It has no name in the file system, so no list of addresses stays behind.
    with TemporaryFile("w+b") as copy:
        shutil.copyfileobj(source, copy)
        copy.seek(0)
        yield copy


def _layout(header: Sequence[str], name: str, terms: ImportTerms) -> CsvLayout:
    known = set(map(compact_name, header))
    for column in terms.ignored_columns:
        if compact_name(column) not in known:
            message = f"there is no column '{column}'"
            hint = "give --ignore-column a name from the first line"
            raise ContentError([Problem(name, 1, message=message, hint=hint)])
    layout = csv_format.detect_layout(header, terms.ignored_columns)
    if layout is None:
        message = "there is no column of email addresses"
        hint = "name the columns in the first line, one of them 'email'"
        raise ContentError([Problem(name, 1, message=message, hint=hint)])
    if layout.doubtful:
        raise ContentError(_doubtful_problem(name, column) for column in layout.doubtful)
    if not layout.states and not terms.consent:
        message = "no column tells who opted in"
        hint = "pass --confirmed if all of them did"
        raise ContentError([Problem(name, 1, message=message, hint=hint)])
    return layout


def _doubtful_problem(name: str, column: str) -> Problem:
    message = f"column '{column[:60]}' may tell who must not get emails, in a way that is not known"
    hint = (
        f"pass --ignore-column '{column[:60]}' if it does not; otherwise name it 'unsubscribed',"
        " 'bounced' or 'complained', and write yes or no in its cells"
    )
    return Problem(name, 1, message=message, hint=hint)


def export_csv(subscribers: Iterable[Subscriber], target: TextIO) -> int:
    """Write `subscribers` as CSV that `import_csv` can read; return the number of subscribers."""
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(csv_format.OWN_COLUMNS)
    number = 0
    for subscriber in subscribers:
        writer.writerow(csv_format.format_row(subscriber))
        number += 1
    return number
