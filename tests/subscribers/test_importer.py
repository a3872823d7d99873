"""Lists of subscribers: taken over from other programs, and given away whole."""

from __future__ import annotations

import io
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

# As each program writes it, with people who do not exist.
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


def boundary(frequency: Frequency) -> Cursor:
    """Return the current boundary, with an arrival logged for letters of one post."""
    return Cursor(NOVEMBER, 3 if frequency == "post" else 0)


TERMS = ImportTerms(NOW, "month", boundary, KEYS.suppression)
ANSWERED = evolve(TERMS, consent="the operator answers for it")


def reading(data: bytes) -> io.BufferedReader:
    """Return a file that holds `data`."""
    return cast("io.BufferedReader", io.BufferedReader(io.BytesIO(data)))


class Taken:
    """What an import did."""

    def __init__(self, store: Store, text: str | bytes, terms: ImportTerms) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.remarks: list[ImportRemark] = []
        source = reading(data)
        book = SubscriberStore(store.subscribers, store.suppressions)
        self.summary = importer.import_csv(source, "list.csv", book, terms, self.remarks.append)
        self.states = states(store)

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The lines that were not taken, and why."""
        return [(remark.line, remark.reason) for remark in self.remarks]


def states(store: Store) -> dict[str, State]:
    """Return the state of each subscriber by what stands before the @-sign."""
    everyone = store.subscribers.every()
    return {one.address.partition("@")[0].casefold(): one.state for one in everyone}


def the(store: Store, name: str = "reader") -> Subscriber:
    """Return the subscriber with this name."""
    one = store.subscribers.find(f"{name}@example.com")
    assert one
    return one


class TestOtherPrograms:
    """Exports of other programs."""

    def test_listmonk(self, store: Store) -> None:
        """Who is disabled or blocklisted stays away; enabled alone says nothing of consent."""
        taken = Taken(store, LISTMONK, TERMS)
        assert taken.states == {"disabled": "unsubscribed", "blocked": "unsubscribed"}
        why = "the row has no state; pass --confirmed if these people opted in"
        assert taken.remarks == [ImportRemark(2, "enabled@example.com", why)]
        assert Taken(store, LISTMONK, ANSWERED).states["enabled"] == "active"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (MAILCHIMP_SUBSCRIBED, {"subscribed": "active"}),
            (MAILCHIMP_UNSUBSCRIBED, {"unsubscribed": "unsubscribed", "complained": "complained"}),
            (MAILCHIMP_CLEANED, {"cleaned": "bounced"}),
        ],
    )
    def test_mailchimp(self, store: Store, text: str, expected: dict[str, State]) -> None:
        """Mailchimp's three files tell by their times who is in, out or undeliverable."""
        taken = Taken(store, text, TERMS)
        assert (taken.states, taken.remarks) == (expected, [])

    def test_ghost(self, store: Store) -> None:
        """Who gets no mail from Ghost gets none from here."""
        assert Taken(store, GHOST, TERMS).states == {"free": "active", "quiet": "unsubscribed"}

    def test_buttondown(self, store: Store) -> None:
        """Each of Buttondown's types is kept; who pauses a payment still gets mail."""
        assert Taken(store, BUTTONDOWN, TERMS).states == {
            "regular": "active",
            "premium": "active",
            "paused": "active",
            "unactivated": "pending",
            "unsubscribed": "unsubscribed",
            "complained": "complained",
            "undeliverable": "bounced",
            "spammy": "unsubscribed",
        }

    def test_nothing_else_of_a_person_is_kept(self, store: Store, tmp_path: Path) -> None:
        """Names, notes, cities and tags of other programs do not enter the database."""
        for text in (LISTMONK, GHOST, BUTTONDOWN, MAILCHIMP_UNSUBSCRIBED):
            Taken(store, text, ANSWERED)
        assert {one.topics for one in store.subscribers.every()} == {frozenset()}
        store.database.forget_traces()
        assert b"Reader" not in (tmp_path / ".postroom/postroom.db").read_bytes()

    def test_hard_bounces_and_complaints_are_suppressed(self, store: Store) -> None:
        """Who bounced or complained elsewhere is suppressed here, also once their row is gone."""
        Taken(store, MAILCHIMP_CLEANED, TERMS)
        Taken(store, MAILCHIMP_UNSUBSCRIBED, TERMS)
        hashes = {
            name: KEYS.suppression(f"{name}@example.com")
            for name in ("cleaned", "complained", "unsubscribed")
        }
        suppressed = store.suppressions.among(list(hashes.values()))
        assert suppressed == {hashes["cleaned"], hashes["complained"]}

    def test_a_state_that_is_not_known_is_not_guessed(self, store: Store) -> None:
        """A word that is no state we know keeps its line out."""
        taken = Taken(store, "email,status\nreader@example.com,happy\n", ANSWERED)
        assert taken.lines == [(2, "'happy' in column 'status' is not a known state")]
        assert taken.states == {}


class TestConsent:
    """Who answers for the consent of those of whom a file does not tell."""

    def test_a_file_without_states_needs_an_answer(self, store: Store) -> None:
        """Where no column tells of consent, nothing is taken until somebody answers for it."""
        with pytest.raises(ContentError) as caught:
            Taken(store, "email\nreader@example.com\n", TERMS)
        (problem,) = caught.value.problems
        assert str(problem) == (
            "list.csv:1: no column tells who opted in; pass --confirmed if all of them did"
        )
        assert states(store) == {}

    def test_the_answer_is_on_record(self, store: Store) -> None:
        """Of each one for whom somebody answered an event says so, and of no other."""
        text = "email,status\nreader@example.com,\nother@example.com,subscribed\n"
        assert Taken(store, text, ANSWERED).summary == ImportSummary(added=2)
        (event,) = store.events.of(the(store).id)
        assert (event.kind, event.detail, event.at) == ("consent", ANSWERED.consent, NOW)
        assert list(store.events.of(the(store, "other").id)) == []

    def test_the_answer_never_outweighs_the_file(self, store: Store) -> None:
        """An answer for those without a state changes nothing for those who have one."""
        text = "email,status\nreader@example.com,unsubscribed\n"
        assert Taken(store, text, ANSWERED).states == {"reader": "unsubscribed"}


class TestWhatIsOwed:
    """From when on posts are owed to those who come by a file."""

    def test_begins_at_the_current_boundary(self, store: Store) -> None:
        """Without more, the news before the current period is not owed."""
        text = "email,frequency\nreader@example.com,\nother@example.com,POST\n"
        Taken(store, text, ANSWERED)
        one, other = the(store), the(store, "other")
        assert (one.frequency, one.cursor, one.start) == ("month", Cursor(NOVEMBER), NOVEMBER)
        assert (other.frequency, other.cursor) == ("post", Cursor(NOVEMBER, 3))

    def test_begins_earlier_on_request(self, store: Store) -> None:
        """With a start, all that arrived from that day on is owed, whatever the frequency."""
        text = "email,frequency\nreader@example.com,month\nother@example.com,post\n"
        Taken(store, text, evolve(ANSWERED, cursor_for=lambda _: Cursor(date(2026, 9, 15))))
        for name in ("reader", "other"):
            assert the(store, name).cursor == Cursor(date(2026, 9, 15), 0)
            assert the(store, name).start == date(2026, 9, 15)


class TestMerging:
    """Addresses that are there already, or twice."""

    @pytest.mark.parametrize("held", ["unsubscribed", "bounced", "complained"])
    @pytest.mark.parametrize("told", ["active", "pending", "paused"])
    def test_nobody_who_stopped_starts_again(self, store: Store, held: State, told: State) -> None:
        """Who left, bounced or complained stays so, whatever a file and its bearer say."""
        Taken(store, f"email,state\nreader@example.com,{held}\n", TERMS)
        taken = Taken(store, f"email,state\nREADER@example.com,{told}\n", ANSWERED)
        assert taken.states == {"reader": held}
        assert taken.summary == ImportSummary(kept_out=1)
        why = f"the subscriber is '{held}' and stays so"
        assert taken.remarks == [ImportRemark(2, "READER@example.com", why, is_fault=False)]

    @pytest.mark.parametrize("told", ["unsubscribed", "bounced", "complained"])
    @pytest.mark.parametrize("held", ["active", "pending", "paused"])
    def test_who_stopped_elsewhere_stops_here(self, store: Store, held: State, told: State) -> None:
        """Who receives here and stopped elsewhere gets no more mail."""
        Taken(store, f"email,state\nreader@example.com,{held}\n", TERMS)
        taken = Taken(store, f"email,state\nreader@example.com,{told}\n", TERMS)
        assert (taken.states, taken.summary) == ({"reader": told}, ImportSummary(stopped=1))

    def test_what_was_chosen_here_stays(self, store: Store) -> None:
        """An import changes neither preferences nor bookmark of who is there."""
        Taken(store, "email,frequency\nreader@example.com,week\n", ANSWERED)
        before = the(store)
        again = Taken(
            store,
            "email,frequency,topics,language\nReader@example.com,day,Products,de\n",
            evolve(ANSWERED, cursor_for=lambda _: Cursor(date(2026, 1, 1))),
        )
        assert (the(store), again.summary) == (before, ImportSummary(known=1))

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    @pytest.mark.parametrize("far", [0, 1500])
    def test_of_two_lines_the_worse_counts(
        self, store: Store, order: tuple[int, ...], far: int
    ) -> None:
        """Where a file has an address twice, who stopped in one line has stopped."""
        lines = [
            "reader@example.com,active\n",
            "Reader@Example.com,unsubscribed\n",
            "reader@example.com,active\n",
        ]
        between = "".join(f"r{number}@example.com,active\n" for number in range(far))
        text = "email,status\n" + between.join(lines[index] for index in order)
        assert Taken(store, text, TERMS).states["reader"] == "unsubscribed"

    def test_the_worst_of_three_lines_counts(self, store: Store) -> None:
        """Of unsubscribed, complained and bounced in one file, complained stands."""
        said = "".join(
            f"reader@example.com,{word}\n" for word in ("unsubscribed", "complained", "cleaned")
        )
        assert Taken(store, f"email,status\n{said}", TERMS).states == {"reader": "complained"}

    def test_who_was_forgotten_does_not_come_back(self, store: Store) -> None:
        """A forgotten address stays suppressed through every import, in any spelling."""
        Taken(store, "email\nreader@example.com\n", ANSWERED)
        hashed = KEYS.suppression("reader@example.com")
        store.suppressions.forget("reader@example.com", hashed, NOW)
        for _ in range(2):
            taken = Taken(store, "email\nREADER@EXAMPLE.COM\n", ANSWERED)
            assert taken.states == {}
            assert taken.lines == [(2, "the address is suppressed and is not added")]

    def test_the_same_file_may_come_again(self, store: Store) -> None:
        """A second import of the same file, as after a failure, takes what is left of it."""
        half = "".join(f"r{number}@example.com\n" for number in range(1200))
        whole = half + "".join(f"s{number}@example.com\n" for number in range(1200))
        assert Taken(store, "email\n" + half, ANSWERED).summary == ImportSummary(added=1200)
        assert Taken(store, "email\n" + whole, ANSWERED).summary == ImportSummary(
            added=1200, known=1200
        )


class TestFiles:
    """Files as they come."""

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_are_read_in_any_dress(
        self, store: Store, encoding: str, delimiter: str, end: str
    ) -> None:
        """Byte-order marks, UTF-16, other delimiters and other line ends are no hindrance."""
        mark = "\ufeff" if encoding in {"utf-16-le", "utf-16-be"} else ""
        lines = ["name;E-Mail ;x", '"Ä; B";reader@münchen.example;', ";other@example.com;"]
        text = mark + end.join(lines).replace(";", delimiter) + end
        assert Taken(store, text.encode(encoding), ANSWERED).summary == ImportSummary(added=2)

    def test_line_breaks_in_quotes_do_not_move_the_numbers(self, store: Store) -> None:
        """The number of a line is where its row begins, also behind quoted line breaks."""
        text = 'email,note\n"reader@example.com","a\nb\nc"\n\nnobody,x\nother@example.com,\n,\n'
        taken = Taken(store, text, ANSWERED)
        assert taken.remarks == [ImportRemark(6, "nobody", "an email address must have an @-sign")]
        assert taken.summary == ImportSummary(added=2, faulty=1)

    def test_the_hint_of_a_spreadsheet_is_taken(self, store: Store) -> None:
        """A first line `sep=;` names the delimiter and counts as a line."""
        taken = Taken(store, "sep=;\nemail;note\nnobody;x,y\n", ANSWERED)
        assert taken.lines == [(3, "an email address must have an @-sign")]

    def test_cells_that_are_not_ours_may_be_in_any_encoding(self, store: Store) -> None:
        """Bytes that are not UTF-8 harm nobody but an address."""
        data = b"name,email\nM\xfcller,reader@example.com\nx,m\xfcller@example.com\n"
        taken = Taken(store, data, ANSWERED)
        assert taken.summary == ImportSummary(added=1, faulty=1)
        assert taken.lines == [(3, "only ASCII characters are allowed before the @-sign")]

    def test_topics_of_any_bytes_can_be_kept(self, store: Store) -> None:
        """Topics that are no proper text become proper text."""
        data = b"email,topics\nreader@example.com,M\xfcll\x01\n"
        assert Taken(store, data, ANSWERED).summary == ImportSummary(added=1)
        assert the(store).topics == frozenset({"M?ll\x01"})

    def test_a_row_without_an_address_is_named(self, store: Store) -> None:
        """A row may have no address; it is not taken, and the others are."""
        text = "name,email,status\nx,reader@example.com,active\ny,,active\n"
        taken = Taken(store, text, ANSWERED)
        assert taken.states == {"reader": "active"}
        assert taken.lines == [(3, "the email address is missing")]

    @pytest.mark.parametrize("text", ["", "\n\n", "name,phone\nx,1\n", "reader@example.com\n"])
    def test_without_a_column_of_addresses_nothing_is_taken(self, store: Store, text: str) -> None:
        """A file whose first line names no column of addresses is refused whole."""
        with pytest.raises(ContentError) as caught:
            Taken(store, text, ANSWERED)
        (problem,) = caught.value.problems
        assert problem.message == "there is no column of email addresses"

    def test_a_quote_that_never_ends_is_named(self, store: Store) -> None:
        """An open quote is held in memory for no more than 1 MiB, and nothing is taken."""
        rest = "x\n" * 2_000_000
        with pytest.raises(ContentError) as caught:
            Taken(store, f'email,note\nreader@example.com,\n"other@example.com,{rest}', ANSWERED)
        (problem,) = caught.value.problems
        assert (
            str(problem)
            == "list.csv:3: a quote opens here and is not closed; close it, or remove it"
        )
        assert states(store) == {}

    def test_a_line_without_an_end_is_named(self, store: Store) -> None:
        """A file that is one endless line does not fill the memory."""
        with pytest.raises(ContentError, match=r"list.csv:2: .* longer than 1 MiB"):
            Taken(store, "email\n" + "x" * (3 * 1024 * 1024), ANSWERED)

    @given(st.binary(max_size=200))
    def test_no_bytes_make_a_trace(self, data: bytes) -> None:
        """Whatever the bytes are, they are rows, or one line says what they are not."""
        source = reading(data)
        try:
            numbers = [number for number, _ in read_rows(source, "list.csv")]
        except ContentError:
            return
        assert numbers == sorted(set(numbers))


SUBSCRIBERS = st.builds(
    Subscriber,
    id=st.just(0),
    address=st.just("reader@example.com"),
    state=st.sampled_from(["pending", "active", "paused", "unsubscribed"]),
    frequency=st.sampled_from(["post", "day", "week", "month"]),
    topics=st.frozensets(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8), max_size=3
    ),
    language=st.sampled_from(["", "en", "zh-Hans", "pt-BR"]),
    cursor=st.builds(Cursor, st.dates(), st.integers(0, 10**12)),
    start=st.dates(),
    issues=st.integers(0, 10**6),
    token=st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True),
)


class TestOwnExport:
    """Our own export, and the way back."""

    def test_everything_comes_back(self, store: Store, tmp_path: Path) -> None:
        """What was exported can be imported elsewhere, and nothing of it is lost."""
        Taken(store, BUTTONDOWN, TERMS)
        Taken(store, 'email,topics,language\nreader@münchen.example,"A, B",de\n', ANSWERED)
        assert store.subscribers.set_preferences(
            1, "week", frozenset({'with "quotes", and', "B"}), "en-GB"
        )
        target = io.StringIO()
        number = importer.export_csv(store.subscribers.every(), target)
        other = open_store("sqlite:///other.db", tmp_path)
        taken = Taken(other, target.getvalue(), TERMS)
        assert (taken.summary, taken.remarks) == (ImportSummary(added=number), [])
        kept = [evolve(one, id=0) for one in store.subscribers.every()]
        assert [evolve(one, id=0) for one in other.subscribers.every()] == kept
        other.database.close()

    @given(SUBSCRIBERS)
    def test_every_field_is_written_and_read(self, one: Subscriber) -> None:
        """Each field of a subscriber survives being written into a cell."""
        target = io.StringIO()
        importer.export_csv([one], target)
        source = reading(target.getvalue().encode())
        (_, header), (_, cells) = read_rows(source, "list.csv")
        where = detect_layout(header)
        assert where
        row = where.read(cells)
        assert parse_list(row.values.get("topics", "")) == one.topics
        assert (row.address, row.state) == (one.address, one.state)
        assert header == list(OWN_COLUMNS)
        assert tuple(cells) == format_row(one)

    def test_a_foreign_token_is_refused(self, store: Store) -> None:
        """A token that is another's, or none at all, keeps its line out."""
        header = ",".join(OWN_COLUMNS)
        plain = "active,month,,,2026-11-01,0,2026-11-01,0"
        text = (
            f"{header}\nreader@example.com,{plain},{'t' * 22}\n"
            f"other@example.com,{plain},{'t' * 22}\nthird@example.com,{plain},a b\n"
        )
        taken = Taken(store, text, TERMS)
        assert taken.states == {"reader": "active"}
        assert sorted(taken.lines) == [
            (3, "its token is another subscriber's; leave the cell empty for a new one"),
            (4, "the token is malformed; leave the cell empty for a new one"),
        ]

    @pytest.mark.parametrize(
        ("column", "cell", "why"),
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
    def test_a_cell_that_makes_no_sense_is_named(
        self, store: Store, column: str, cell: str, why: str
    ) -> None:
        """A cell that cannot be taken keeps its line out, and the sentence repeats the cell."""
        values = dict.fromkeys(OWN_COLUMNS, "") | {"address": "reader@example.com", column: cell}
        text = f"{','.join(values)}\n{','.join(values.values())}\n"
        taken = Taken(store, text, ANSWERED)
        ((line, sentence),) = taken.lines
        assert line == 2
        assert sentence.startswith(f"'{cell}'")
        assert why in sentence

    def test_columns_of_those_names_elsewhere_are_not_ours(self, store: Store) -> None:
        """A column called 'start' or 'letters' in another program's file means what it means."""
        Taken(store, "email,start,issues\nreader@example.com,yesterday,many\n", ANSWERED)
        assert the(store).issues == 0


def test_single_addresses_are_taken_alike(store: Store) -> None:
    """Addresses given one by one follow the rules of an import."""
    remarks: list[ImportRemark] = []
    addresses = ["reader@example.com", "nobody", "READER@example.com"]
    terms = evolve(ANSWERED, topics=frozenset({"Products"}), language="de")
    book = SubscriberStore(store.subscribers, store.suppressions)
    summary = importer.import_addresses(addresses, book, terms, remarks.append)
    assert summary == ImportSummary(added=1, known=1, faulty=1)
    assert remarks == [ImportRemark(2, "nobody", "an email address must have an @-sign")]
    assert (the(store).topics, the(store).language) == (frozenset({"Products"}), "de")
