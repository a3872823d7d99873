"""Imports from other programs, and the export of Postroom."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from postroom.db.store import Store, open_store
from postroom.errors import ContentError
from postroom.mail.tokens import Keys
from postroom.models import Cursor, Frequency, State, Subscriber
from postroom.subscribers import importer
from postroom.subscribers.csv_format import (
    OWN_COLUMNS,
    detect_layout,
    format_row,
    parse_list,
    read_rows,
)
from postroom.subscribers.importer import ImportRemark, ImportSummary, ImportTerms, SubscriberStore

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
NOVEMBER = date(2026, 11, 1)
KEYS = Keys((b"0123456789abcdef",))

# Exports in the format of each program, with invented people.
LISTMONK = """\
uuid,email,name,attributes,status,created_at,updated_at
5b1c1a52-0000-4000-8000-000000000001,enabled@example.com,A Reader,"{""x"": ""y""}",enabled,2024,2024
5b1c1a52-0000-4000-8000-000000000002,disabled@example.com,A Reader,{},disabled,2024,2024
5b1c1a52-0000-4000-8000-000000000003,blocked@example.com,A Reader,{},blocklisted,2024,2024
"""
MAILCHIMP_SUBSCRIBED = """\
"Email Address","First Name","Last Name",Address,MEMBER_RATING,OPTIN_TIME,CONFIRM_TIME,TAGS
subscribed@example.com,A,Reader,"1 Street  Town",2,"2024-01-01 10:00:00","2024-01-01 10:00:00","""
MAILCHIMP_UNSUBSCRIBED = """\
"Email Address","First Name",OPTIN_TIME,CONFIRM_TIME,UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_REASON
unsubscribed@example.com,A,"2024-01-01","2024-01-01","2025-01-01",News,"NORMAL: no longer wanted"
complained@example.com,B,"2024-01-01","2024-01-01","2025-01-01",News,"ABUSE: marked as spam"
"""
MAILCHIMP_CLEANED = """\
"Email Address","First Name",OPTIN_TIME,CONFIRM_TIME,CLEAN_TIME,CLEAN_CAMPAIGN_TITLE
cleaned@example.com,A,"2024-01-01","2024-01-01","2025-01-01",News
"""
GHOST = """\
id,email,name,note,subscribed_to_emails,complimentary_plan,created_at,deleted_at,labels,tiers
1,free@example.com,A Reader,"a note,
over two lines",true,,2024-01-01T00:00:00.000Z,,vip,
2,quiet@example.com,B Reader,,false,,2024-01-01T00:00:00.000Z,,,
"""
BUTTONDOWN = """\
id,email_address,type,notes,metadata,tags,creation_date,source
sub_1,regular@example.com,regular,,{},"a,b",2024-01-01,user
sub_2,premium@example.com,premium,,{},,2024-01-01,user
sub_3,paused@example.com,paused,,{},,2024-01-01,user
sub_4,unactivated@example.com,unactivated,,{},,2024-01-01,user
sub_5,unsubscribed@example.com,unsubscribed,,{},,2024-01-01,user
sub_6,complained@example.com,complained,,{},,2024-01-01,user
sub_7,undeliverable@example.com,undeliverable,,{},,2024-01-01,user
sub_8,spammy@example.com,spammy,,{},,2024-01-01,user
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database and close it."""
    opened = open_store(None, tmp_path)
    yield opened
    opened.database.close()


def current_cursor(frequency: Frequency) -> Cursor:
    """Return the current cursor, which for single posts includes a log entry."""
    return Cursor(NOVEMBER, 3 if frequency == "post" else 0)


TERMS = ImportTerms(NOW, "month", current_cursor, KEYS.suppression)
CONFIRMED = evolve(TERMS, consent="the operator answers for it")


def open_bytes(data: bytes) -> io.BufferedReader:
    """Return a file that contains `data`."""
    return cast("io.BufferedReader", io.BufferedReader(io.BytesIO(data)))


class Import:
    """The result of an import."""

    def __init__(self, store: Store, text: str | bytes, terms: ImportTerms) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.remarks: list[ImportRemark] = []
        source = open_bytes(data)
        book = SubscriberStore(store.subscribers, store.suppressions)
        self.summary = importer.import_csv(source, "list.csv", book, terms, self.remarks.append)
        self.states = states(store)

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The lines that were not imported, and the reasons."""
        return [(remark.line, remark.reason) for remark in self.remarks]


def states(store: Store) -> dict[str, State]:
    """Return the state of each subscriber by the local part of the address."""
    everyone = store.subscribers.every()
    return {
        subscriber.address.partition("@")[0].casefold(): subscriber.state for subscriber in everyone
    }


def find(store: Store, name: str = "reader") -> Subscriber:
    """Return the subscriber with this name."""
    subscriber = store.subscribers.find(f"{name}@example.com")
    assert subscriber
    return subscriber


class TestOtherPrograms:
    """Exports of other programs."""

    def test_listmonk(self, store: Store) -> None:
        """Disabled and blocklisted subscribers become unsubscribed; `enabled` proves no consent."""
        result = Import(store, LISTMONK, TERMS)
        assert result.states == {"disabled": "unsubscribed", "blocked": "unsubscribed"}
        why = "the row has no state; pass --confirmed if these people opted in"
        assert result.remarks == [ImportRemark(2, "enabled@example.com", why)]
        assert Import(store, LISTMONK, CONFIRMED).states["enabled"] == "active"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (MAILCHIMP_SUBSCRIBED, {"subscribed": "active"}),
            (MAILCHIMP_UNSUBSCRIBED, {"unsubscribed": "unsubscribed", "complained": "complained"}),
            (MAILCHIMP_CLEANED, {"cleaned": "bounced"}),
        ],
    )
    def test_mailchimp(self, store: Store, text: str, expected: dict[str, State]) -> None:
        """The columns of times in Mailchimp's three files give the states."""
        result = Import(store, text, TERMS)
        assert (result.states, result.remarks) == (expected, [])

    def test_ghost(self, store: Store) -> None:
        """A member who gets no email from Ghost gets none from Postroom."""
        assert Import(store, GHOST, TERMS).states == {"free": "active", "quiet": "unsubscribed"}

    def test_buttondown(self, store: Store) -> None:
        """Each type of Buttondown has a state; a paused payment does not pause emails."""
        assert Import(store, BUTTONDOWN, TERMS).states == {
            "regular": "active",
            "premium": "active",
            "paused": "active",
            "unactivated": "pending",
            "unsubscribed": "unsubscribed",
            "complained": "complained",
            "undeliverable": "bounced",
            "spammy": "unsubscribed",
        }

    def test_no_other_data_is_stored(self, store: Store, tmp_path: Path) -> None:
        """Names, notes, cities and tags of other programs are not stored."""
        for text in (LISTMONK, GHOST, BUTTONDOWN, MAILCHIMP_UNSUBSCRIBED):
            Import(store, text, CONFIRMED)
        assert {subscriber.topics for subscriber in store.subscribers.every()} == {frozenset()}
        store.database.forget_traces()
        assert b"Reader" not in (tmp_path / ".postroom/postroom.db").read_bytes()

    def test_hard_bounces_and_complaints_are_suppressed(self, store: Store) -> None:
        """Addresses that bounced or complained elsewhere are suppressed."""
        Import(store, MAILCHIMP_CLEANED, TERMS)
        Import(store, MAILCHIMP_UNSUBSCRIBED, TERMS)
        hashes = {
            name: KEYS.suppression(f"{name}@example.com")
            for name in ("cleaned", "complained", "unsubscribed")
        }
        suppressed = store.suppressions.among(list(hashes.values()))
        assert suppressed == {hashes["cleaned"], hashes["complained"]}

    def test_an_unknown_state_is_not_guessed(self, store: Store) -> None:
        """A line with an unknown state is not imported."""
        result = Import(store, "email,status\nreader@example.com,happy\n", CONFIRMED)
        what = "'happy' in column 'status' is not a known state"
        hint = (
            "correct it, or pass --ignore-column 'status' if that column does not tell who gets"
            " emails"
        )
        assert result.lines == [(2, f"{what}; {hint}")]
        assert result.states == {}


class TestConsent:
    """Consent of subscribers whose line has no state."""

    def test_a_file_without_states_needs_a_confirmation(self, store: Store) -> None:
        """A file without a column of consent is refused unless the operator confirms consent."""
        with pytest.raises(ContentError) as caught:
            Import(store, "email\nreader@example.com\n", TERMS)
        (problem,) = caught.value.problems
        assert str(problem) == (
            "list.csv:1: no column tells who opted in; pass --confirmed if all of them did"
        )
        assert states(store) == {}

    def test_the_confirmation_is_recorded(self, store: Store) -> None:
        """An event records the operator's confirmation for subscribers without a state only."""
        text = "email,status\nreader@example.com,\nother@example.com,subscribed\n"
        assert Import(store, text, CONFIRMED).summary == ImportSummary(added=2)
        (event,) = store.events.of(find(store).id)
        assert (event.kind, event.detail, event.at) == ("consent", CONFIRMED.consent, NOW)
        assert list(store.events.of(find(store, "other").id)) == []

    def test_the_confirmation_never_overrides_the_file(self, store: Store) -> None:
        """The operator's confirmation changes nothing for subscribers who have a state."""
        text = "email,status\nreader@example.com,unsubscribed\n"
        assert Import(store, text, CONFIRMED).states == {"reader": "unsubscribed"}


class TestCursors:
    """Cursors of imported subscribers."""

    def test_begin_at_the_current_cutoff(self, store: Store) -> None:
        """By default posts before the current period are not due."""
        text = "email,frequency\nreader@example.com,\nother@example.com,POST\n"
        Import(store, text, CONFIRMED)
        first, second = find(store), find(store, "other")
        assert (first.frequency, first.cursor, first.start) == ("month", Cursor(NOVEMBER), NOVEMBER)
        assert (second.frequency, second.cursor) == ("post", Cursor(NOVEMBER, 3))

    def test_begin_earlier_on_request(self, store: Store) -> None:
        """With a start, all posts from that day on are due, whatever the frequency."""
        text = "email,frequency\nreader@example.com,month\nother@example.com,post\n"
        Import(store, text, evolve(CONFIRMED, cursor_for=lambda _: Cursor(date(2026, 9, 15))))
        for name in ("reader", "other"):
            assert find(store, name).cursor == Cursor(date(2026, 9, 15), 0)
            assert find(store, name).start == date(2026, 9, 15)


class TestMerging:
    """Addresses that are subscribed already, or appear twice."""

    @pytest.mark.parametrize("stored", ["unsubscribed", "bounced", "complained"])
    @pytest.mark.parametrize("imported", ["active", "pending", "paused"])
    def test_a_stopped_subscriber_stays_stopped(
        self, store: Store, stored: State, imported: State
    ) -> None:
        """An unsubscribed, bounced or complained subscriber keeps the state."""
        Import(store, f"email,state\nreader@example.com,{stored}\n", TERMS)
        result = Import(store, f"email,state\nREADER@example.com,{imported}\n", CONFIRMED)
        assert result.states == {"reader": stored}
        assert result.summary == ImportSummary(suppressed=1)
        why = f"the subscriber is '{stored}' and stays so"
        assert result.remarks == [ImportRemark(2, "READER@example.com", why, is_fault=False)]

    @pytest.mark.parametrize("imported", ["unsubscribed", "bounced", "complained"])
    @pytest.mark.parametrize("stored", ["active", "pending", "paused"])
    def test_a_state_of_another_program_stops_a_subscriber(
        self, store: Store, stored: State, imported: State
    ) -> None:
        """A subscriber who stopped elsewhere gets no more email."""
        Import(store, f"email,state\nreader@example.com,{stored}\n", TERMS)
        result = Import(store, f"email,state\nreader@example.com,{imported}\n", TERMS)
        assert (result.states, result.summary) == ({"reader": imported}, ImportSummary(stopped=1))

    def test_preferences_are_kept(self, store: Store) -> None:
        """An import changes neither preferences nor cursor of a subscriber."""
        Import(store, "email,frequency\nreader@example.com,week\n", CONFIRMED)
        before = find(store)
        again = Import(
            store,
            "email,frequency,topics,language\nReader@example.com,day,Products,de\n",
            evolve(CONFIRMED, cursor_for=lambda _: Cursor(date(2026, 1, 1))),
        )
        assert (find(store), again.summary) == (before, ImportSummary(known=1))

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    @pytest.mark.parametrize("far", [0, 1500])
    def test_the_worse_of_two_lines_counts(
        self, store: Store, order: tuple[int, ...], far: int
    ) -> None:
        """An address that stopped in one of its two lines has stopped."""
        lines = [
            "reader@example.com,active\n",
            "Reader@Example.com,unsubscribed\n",
            "reader@example.com,active\n",
        ]
        between = "".join(f"r{number}@example.com,active\n" for number in range(far))
        text = "email,status\n" + between.join(lines[index] for index in order)
        assert Import(store, text, TERMS).states["reader"] == "unsubscribed"

    def test_the_worst_of_three_lines_counts(self, store: Store) -> None:
        """Of unsubscribed, complained and bounced in one file, complained counts."""
        lines = "".join(
            f"reader@example.com,{word}\n" for word in ("unsubscribed", "complained", "cleaned")
        )
        assert Import(store, f"email,status\n{lines}", TERMS).states == {"reader": "complained"}

    def test_a_forgotten_address_stays_suppressed(self, store: Store) -> None:
        """A forgotten address stays suppressed through every import, in any spelling."""
        Import(store, "email\nreader@example.com\n", CONFIRMED)
        hashed = KEYS.suppression("reader@example.com")
        store.suppressions.forget("reader@example.com", hashed, NOW)
        for _ in range(2):
            result = Import(store, "email\nREADER@EXAMPLE.COM\n", CONFIRMED)
            assert result.states == {}
            assert result.lines == [(2, "the address is suppressed and is not added")]

    def test_a_file_can_be_imported_again(self, store: Store) -> None:
        """A second import of a file adds only the missing subscribers."""
        half = "".join(f"r{number}@example.com\n" for number in range(1200))
        whole = half + "".join(f"s{number}@example.com\n" for number in range(1200))
        assert Import(store, "email\n" + half, CONFIRMED).summary == ImportSummary(added=1200)
        assert Import(store, "email\n" + whole, CONFIRMED).summary == ImportSummary(
            added=1200, known=1200
        )


class TestFiles:
    """Encodings and shapes of files."""

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_are_read_in_any_encoding(
        self, store: Store, encoding: str, delimiter: str, end: str
    ) -> None:
        """Byte-order marks, UTF-16, other delimiters and other line ends are accepted."""
        mark = "\ufeff" if encoding in {"utf-16-le", "utf-16-be"} else ""
        lines = ["name;E-Mail ;x", '"Ä; B";reader@münchen.example;', ";other@example.com;"]
        text = mark + end.join(lines).replace(";", delimiter) + end
        assert Import(store, text.encode(encoding), CONFIRMED).summary == ImportSummary(added=2)

    def test_quoted_line_breaks_do_not_shift_line_numbers(self, store: Store) -> None:
        """The number of a line is where its row begins, even after quoted line breaks."""
        text = 'email,note\n"reader@example.com","a\nb\nc"\n\nnobody,x\nother@example.com,\n,\n'
        result = Import(store, text, CONFIRMED)
        assert result.remarks == [ImportRemark(6, "nobody", "an email address must have an @-sign")]
        assert result.summary == ImportSummary(added=2, faulty=1)

    def test_the_delimiter_of_a_spreadsheet_is_used(self, store: Store) -> None:
        """A first line `sep=;` names the delimiter and counts as a line."""
        result = Import(store, "sep=;\nemail;note\nnobody;x,y\n", CONFIRMED)
        assert result.lines == [(3, "an email address must have an @-sign")]

    def test_unused_cells_can_have_any_encoding(self, store: Store) -> None:
        """Bytes that are not UTF-8 matter only in an address."""
        data = b"name,email\nM\xfcller,reader@example.com\nx,m\xfcller@example.com\n"
        result = Import(store, data, CONFIRMED)
        assert result.summary == ImportSummary(added=1, faulty=1)
        assert result.lines == [(3, "only ASCII characters are allowed before the @-sign")]

    def test_topics_of_any_bytes_can_be_stored(self, store: Store) -> None:
        """Topics that are not valid UTF-8 become valid text."""
        data = b"email,topics\nreader@example.com,M\xfcll\x01\n"
        assert Import(store, data, CONFIRMED).summary == ImportSummary(added=1)
        assert find(store).topics == frozenset({"M?ll\x01"})

    def test_a_row_without_an_address_is_reported(self, store: Store) -> None:
        """A row without an address is reported, and the other rows are imported."""
        text = "name,email,status\nx,reader@example.com,active\ny,,active\n"
        result = Import(store, text, CONFIRMED)
        assert result.states == {"reader": "active"}
        assert result.lines == [(3, "the email address is missing")]

    @pytest.mark.parametrize("text", ["", "\n\n", "name,phone\nx,1\n", "reader@example.com\n"])
    def test_a_file_without_a_column_of_addresses_is_refused(self, store: Store, text: str) -> None:
        """A file whose first line names no column of addresses is refused whole."""
        with pytest.raises(ContentError) as caught:
            Import(store, text, CONFIRMED)
        (problem,) = caught.value.problems
        assert problem.message == "there is no column of email addresses"

    def test_an_endless_quote_is_reported(self, store: Store) -> None:
        """An open quote is read for at most 1 MiB, and nothing is imported."""
        rest = "x\n" * 2_000_000
        with pytest.raises(ContentError) as caught:
            Import(store, f'email,note\nreader@example.com,\n"other@example.com,{rest}', CONFIRMED)
        (problem,) = caught.value.problems
        assert (
            str(problem)
            == "list.csv:3: a quote opens here and is not closed; close it, or remove it"
        )
        assert states(store) == {}

    def test_an_endless_line_is_reported(self, store: Store) -> None:
        """A file of one endless line does not fill the memory."""
        with pytest.raises(ContentError, match=r"list.csv:2: .* longer than 1 MiB"):
            Import(store, "email\n" + "x" * (3 * 1024 * 1024), CONFIRMED)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_rows_or_refused(self, data: bytes) -> None:
        """Any bytes are read as rows or raise `ContentError`."""
        source = open_bytes(data)
        try:
            numbers = [number for number, _ in read_rows(source, "list.csv")]
        except ContentError:
            return
        assert numbers == sorted(set(numbers))


# With these characters a spreadsheet begins a formula (OWASP: CSV injection).
STARTS = (
    "=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}"
    "\N{FULLWIDTH COMMERCIAL AT}-"
)
SUBSCRIBERS = st.builds(
    Subscriber,
    id=st.just(0),
    address=st.from_regex(r"[a-z=+'|!_-]{1,9}@example\.com", fullmatch=True),
    state=st.sampled_from(["pending", "active", "paused", "unsubscribed"]),
    frequency=st.sampled_from(["post", "day", "week", "month"]),
    topics=st.frozensets(
        st.one_of(
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8),
            st.text(f"{STARTS}'\",;x", min_size=1, max_size=4),
        ),
        max_size=3,
    ),
    language=st.sampled_from(["", "en", "zh-Hans", "pt-BR"]),
    cursor=st.builds(Cursor, st.dates(), st.integers(0, 10**12)),
    start=st.dates(),
    issues=st.integers(0, 10**6),
    token=st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True),
)


FORMULAS = {
    "=cmd|'/c": "=1+1",
    "+49": "+Products, @News",
    "-x": "-1",
    "'quoted'": "'Products'",
    "''": "''",
    "'=x": "'=x",
    "plain": "\N{FULLWIDTH EQUALS SIGN}1",
}


class TestOwnExport:
    """The export of Postroom."""

    def test_an_export_can_be_imported(self, store: Store, tmp_path: Path) -> None:
        """An export can be imported elsewhere without loss."""
        Import(store, BUTTONDOWN, TERMS)
        Import(store, 'email,topics,language\nreader@münchen.example,"A, B",de\n', CONFIRMED)
        assert store.subscribers.set_preferences(
            1, "week", frozenset({'with "quotes", and', "B"}), "en-GB"
        )
        target = io.StringIO()
        number = importer.export_csv(store.subscribers.every(), target)
        other = open_store("sqlite:///other.db", tmp_path)
        result = Import(other, target.getvalue(), TERMS)
        assert (result.summary, result.remarks) == (ImportSummary(added=number), [])
        exported = [evolve(subscriber, id=0) for subscriber in store.subscribers.every()]
        assert [evolve(subscriber, id=0) for subscriber in other.subscribers.every()] == exported
        other.database.close()

    @given(SUBSCRIBERS)
    def test_every_field_is_written_and_read(self, subscriber: Subscriber) -> None:
        """Each field of a subscriber is written to a cell and read from it."""
        target = io.StringIO()
        importer.export_csv([subscriber], target)
        source = open_bytes(target.getvalue().encode())
        (_, header), (_, cells) = read_rows(source, "list.csv")
        layout = detect_layout(header)
        assert layout
        row = layout.read(cells)
        assert parse_list(row.values.get("topics", "")) == subscriber.topics
        assert (row.address, row.state) == (subscriber.address, subscriber.state)
        assert header == list(OWN_COLUMNS)
        assert tuple(cells) == format_row(subscriber)
        for name in ("token", "cursor_seq", "start", "frequency"):
            assert row.values[name] == str(getattr(subscriber, name, subscriber.cursor.seq))

    @given(st.lists(SUBSCRIBERS, unique_by=lambda each: each.address))
    def test_no_cell_is_a_formula(self, subscribers: list[Subscriber]) -> None:
        """No cell begins with a character that makes a spreadsheet read it as a formula."""
        target = io.StringIO()
        importer.export_csv(subscribers, target)
        for cells in csv.reader(io.StringIO(target.getvalue(), newline="")):
            assert not any(re.match(rf"\s*[\t\r\n{STARTS}]", cell) for cell in cells)

    def test_formulas_come_back_byte_for_byte(self, store: Store, tmp_path: Path) -> None:
        """Addresses, topics and tokens that look like formulas survive export and import."""
        token = "-" * 22
        rows = "".join(
            f'"{name}@example.com",active,"{topic}"\n' for name, topic in FORMULAS.items()
        )
        Import(store, f"email,state,topics\n{rows}", TERMS)
        assert len(states(store)) == len(FORMULAS)
        first = io.StringIO()
        importer.export_csv(store.subscribers.every(), first)
        text = re.sub(
            r"'?[A-Za-z0-9_-]{22}$", f"'{token}", first.getvalue(), count=1, flags=re.MULTILINE
        )
        other = open_store("sqlite:///other.db", tmp_path)
        assert Import(other, text, TERMS).remarks == []
        second = io.StringIO()
        importer.export_csv(other.subscribers.every(), second)
        found = {each.address: each.topics for each in other.subscribers.every()}
        assert found == {each.address: each.topics for each in store.subscribers.every()}
        assert token in {each.token for each in other.subscribers.every()}
        assert second.getvalue() == text
        other.database.close()

    @pytest.mark.parametrize("local", ["'o", "''o", "'=cmd"])
    def test_a_foreign_apostrophe_is_kept(self, store: Store, local: str) -> None:
        """An apostrophe in the export of another program is part of the address or topic."""
        Import(store, f"email,topics\n{local}@example.com,'Products'\n", CONFIRMED)
        (subscriber,) = store.subscribers.every()
        assert subscriber.address == f"{local}@example.com"
        assert subscriber.topics == {"'Products'"}

    def test_a_foreign_token_is_refused(self, store: Store) -> None:
        """A line with another subscriber's token or a malformed one is not imported."""
        header = ",".join(OWN_COLUMNS)
        plain = "active,month,,,2026-11-01,0,2026-11-01,0"
        text = (
            f"{header}\nreader@example.com,{plain},{'t' * 22}\n"
            f"other@example.com,{plain},{'t' * 22}\nthird@example.com,{plain},a b\n"
        )
        result = Import(store, text, TERMS)
        assert result.states == {"reader": "active"}
        assert sorted(result.lines) == [
            (3, "the token belongs to another subscriber; leave the cell empty for a new one"),
            (4, "the token is malformed; leave the cell empty for a new one"),
        ]

    @pytest.mark.parametrize(
        ("column", "cell", "reason"),
        [
            ("frequency", "hourly", "is not a frequency"),
            ("language", "the king's", "is not a language"),
            ("cursor_date", "yesterday", "is not a date"),
            ("start", "2026-13-01", "is not a date"),
            ("cursor_seq", "-1", "is not a number"),
            ("issues", "many", "is not a number"),
            ("state", "happy", "is not a known state"),
        ],
    )
    def test_an_invalid_cell_is_reported(
        self, store: Store, column: str, cell: str, reason: str
    ) -> None:
        """A line with an invalid cell is not imported, and the message repeats the cell."""
        values = dict.fromkeys(OWN_COLUMNS, "") | {"address": "reader@example.com", column: cell}
        text = f"{','.join(values)}\n{','.join(values.values())}\n"
        result = Import(store, text, CONFIRMED)
        ((line, message),) = result.lines
        assert line == 2
        assert message.startswith(f"'{cell}'")
        assert reason in message

    def test_columns_of_other_programs_are_ignored(self, store: Store) -> None:
        """Columns named `start` and `issues` in another program's file are ignored."""
        Import(store, "email,start,issues\nreader@example.com,yesterday,many\n", CONFIRMED)
        assert find(store).issues == 0


def test_single_addresses_follow_the_same_rules(store: Store) -> None:
    """Addresses given one by one follow the rules of an import."""
    remarks: list[ImportRemark] = []
    addresses = ["reader@example.com", "nobody", "READER@example.com"]
    terms = evolve(CONFIRMED, topics=frozenset({"Products"}), language="de")
    source = SubscriberStore(store.subscribers, store.suppressions)
    summary = importer.import_addresses(addresses, source, terms, remarks.append)
    assert summary == ImportSummary(added=1, known=1, faulty=1)
    assert remarks == [ImportRemark(2, "nobody", "an email address must have an @-sign")]
    assert (find(store).topics, find(store).language) == (frozenset({"Products"}), "de")
