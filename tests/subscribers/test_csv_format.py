"""CSV files that cannot be read with certainty are refused whole, with the line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.db.store import Store, open_store
from postroom.errors import ContentError
from postroom.subscribers.csv_format import parse_list, read_rows
from postroom.subscribers.state_columns import CellError
from tests.subscribers.test_importer import CONFIRMED, Import, open_bytes, states
from tests.support.site import CommandResult, MakeSite

STRAY = """\
name,email,status
"Ann,a@example.net,subscribed
Bob,b@example.net,unsubscribed
Cid,c@example.net,unsubscribed
"Dora",d@example.net,subscribed
Eve,e@example.net,subscribed
"""
HEAD = "name,email,status\nAnn,a@example.net,subscribed\n"
AFTER = "Zoe,z@example.net,unsubscribed\n"
OPEN = "a quote opens here and is not closed"
BARE = "there is a quote inside a cell that does not begin with one"
ROWS = "a quoted cell begins here, and some of its lines look like rows"
FOLLOWED = "text follows the closing quote of a cell"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database and close it."""
    opened = open_store(None, tmp_path)
    yield opened
    opened.database.close()


def refusals(store: Store, data: str | bytes) -> list[tuple[int, str]]:
    """Return the lines and messages for which an import of `data` is refused; nobody is added."""
    with pytest.raises(ContentError) as caught:
        Import(store, data, CONFIRMED)
    assert states(store) == {}
    assert {problem.path for problem in caught.value.problems} == {"list.csv"}
    assert all(problem.hint for problem in caught.value.problems)
    return [(problem.line, problem.message) for problem in caught.value.problems]


class TestQuotes:
    """Misplaced quotes."""

    def test_a_quote_that_swallows_rows_is_found_where_it_opens(self, store: Store) -> None:
        """A stray quote that another quote closes some rows later stops the import."""
        what = "a quote opens here, and text follows its closing quote on line 5"
        assert refusals(store, STRAY) == [(2, what)]

    @pytest.mark.parametrize(
        ("lines", "line", "what"),
        [
            ('"Bob,b@example.net,unsubscribed\n', 3, OPEN),
            ('Bob,b@example.net,"unsubscribed\n', 3, OPEN),
            ('"Bob\nB.",b@example.net,"unsubscribed\n', 4, OPEN),
            ('"Bob ""B"",b@example.net,unsubscribed\n', 3, OPEN),
            ('"Bob",b@example.net,unsubscribed"\n', 3, BARE),
            ('Bob",b@example.net,unsubscribed\n', 3, BARE),
            ('Bob "B" Smith,b@example.net,unsubscribed\n', 3, BARE),
            ('Bob, "b@example.net",unsubscribed\n', 3, BARE),
            ('"Bob" B,b@example.net,unsubscribed\n', 3, FOLLOWED),
            ('"Bob \\"B\\" Smith",b@example.net,unsubscribed\n', 3, FOLLOWED),
            ('"Bob" ,b@example.net,unsubscribed\n', 3, FOLLOWED),
        ],
    )  # fmt: skip
    def test_a_misplaced_quote_stops_the_import(
        self, store: Store, lines: str, line: int, what: str
    ) -> None:
        """Quotes that are not closed, not doubled or inside a cell are reported by line."""
        for delimiter in ",;\t":
            for end in ("\n", "\r\n", "\r"):
                text = (HEAD + lines + AFTER).replace(",", delimiter).replace("\n", end)
                assert refusals(store, text) == [(line, what)]

    @pytest.mark.parametrize(
        "text",
        [
            # The quote opens at one name and closes at another.
            'name,email,status\n"Ann,a@x.example,ok\nBob,b@x.example,no\nCid",c@x.example,no\n',
            'name,email,status\n"Ann,a@x.example,ok\nCid",c@x.example,unsubscribed\n',
            'email,name,status\na@x.example,"Ann,ok\nb@x.example,Bob",unsubscribed\n',
            'email,name,status\n"a@x.example,Ann,ok\nb@x.example",Bob,unsubscribed\n',
            'name,status,email\nAnn,ok,"a@x.example\nBob,no,b@x.example"\n',
            # The swallowed rows have too few or too many cells.
            'name,email,status\n"Smith, Ann,a@x.example,ok\nBob\nCid",c@x.example,no\n',
            'name,email,status\nAnn,"a,b@x.example\nBob,b@x.example\nCid",no\n',
            # A single column of addresses, and a header with a stray quote.
            'email\n"a@x.example\nb@x.example"\n',
            '"email\na@x.example"\n',
            '"name,email\nAnn,a@x.example\nBob",b@x.example\n',
        ],
    )
    def test_rows_inside_a_quoted_cell_stop_the_import(self, store: Store, text: str) -> None:
        """A quoted cell with lines that look like rows may be due to two stray quotes."""
        ((line, what),) = refusals(store, text)
        assert what == ROWS
        assert '"' in text.splitlines()[line - 1]

    def test_a_header_that_swallows_the_only_row_stops_the_import(self, store: Store) -> None:
        """Names of columns can span lines, but none is an email address."""
        what = "this first row spans lines, and one of its cells is an email address"
        assert refusals(store, 'name,email,"note\nAnn","a@example.net,x"\n') == [(1, what)]
        text = 'name,email,"Your\nnote"\nAnn,a@example.net,x\n'
        assert Import(store, text, CONFIRMED).states == {"a": "active"}

    def test_the_line_is_that_of_the_cell(self, store: Store) -> None:
        """In a row of many lines, the reported line is the one where the doubtful cell begins."""
        text = 'note,email,name,x\n"a\nb",z@x.example,"A,a@x.example\nB",c\n'
        assert refusals(store, text) == [(3, ROWS)]

    @pytest.mark.parametrize(
        "note",
        [
            "two\nlines",
            "two\r\nlines, with commas, and more, and more",
            'she said "yes"\nand "no"',
            "\n",
            "ask bob@example.net\nor write to eve@example.net, please",
            "bob@example.net\neve@example.net",
            "Bob,\nand, Eve,\n\n,",
        ],
    )
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_note_of_several_lines_is_read(self, store: Store, note: str, place: int) -> None:
        """A quoted cell of several lines is read if it has only one meaning."""
        table = [["email", "name"], ["a@example.net", "Ann"], ["z@example.net", "Zoe"]]
        for row, cell in zip(table, ("note", note, ""), strict=True):
            row.insert(place, cell)
        target = io.StringIO()
        csv.writer(target, lineterminator="\n").writerows(table)
        assert Import(store, target.getvalue(), CONFIRMED).states == {"a": "active", "z": "active"}

    @given(
        st.lists(
            st.lists(
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0@")),
                min_size=3,
                max_size=3,
            ),
            max_size=5,
        )
    )
    def test_valid_cells_are_read_unchanged(self, table: list[list[str]]) -> None:
        """Cells of any text, quoted as in RFC 4180, are read unchanged."""
        known = [["name", "email", "note"], *table]
        target = io.StringIO()
        csv.writer(target, lineterminator="\r\n", quoting=csv.QUOTE_ALL).writerows(known)
        read = [cells for _, cells in read_rows(open_bytes(target.getvalue().encode()), "list.csv")]
        assert read == [row for row in known if any(cell.strip() for cell in row)]


NAMES = st.sampled_from(["", "Ann", "B. B", "5 x"])


@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(st.integers(0, 200), max_size=3))
def test_stray_quotes_never_hide_an_address(names: list[str], places: list[int]) -> None:
    """A file with stray quotes is refused, or every row is still a row."""
    known = [[name, f"r{number}@example.net", "ok"] for number, name in enumerate(names)]
    text = "".join(",".join(row) + "\n" for row in [["name", "email", "status"], *known])
    for place in places:
        text = '"'.join((text[:place], text[place:]))
    try:
        read = [cells for _, cells in read_rows(open_bytes(text.encode()), "list.csv")]
    except ContentError:
        return
    assert [cells[1] for cells in read[1:]] == [row[1] for row in known]


class TestShapes:
    """Malformed rows and bytes."""

    def test_rows_of_another_length_are_all_reported(self, store: Store) -> None:
        """A row with too few or too many cells may be shifted or cut, so nothing is imported."""
        text = HEAD + "B,C,b@example.net,unsubscribed\nZoe,z@example.net\nC,c@example.net,ok,\n"
        assert refusals(store, text) == [
            (3, "this row has 4 cells, and the first has 3"),
            (4, "this row has 2 cells, and the first has 3"),
            (5, "this row has 4 cells, and the first has 3"),
        ]

    def test_a_line_break_without_quotes_is_found(self, store: Store) -> None:
        """An unquoted line break in a note leaves two rows that are too short."""
        text = "email,note,status\na@example.net,two\nlines,unsubscribed\n"
        assert [line for line, _ in refusals(store, text)] == [2, 3]

    def test_only_the_first_problems_are_reported(self, store: Store) -> None:
        """At most twenty lines are reported."""
        assert len(refusals(store, "email,note\n" + "a@example.net\n" * 5000)) == 20

    @pytest.mark.parametrize("cut", [*range(1, 14), *range(15, 31)])
    def test_a_file_cut_in_its_last_row_is_refused(self, store: Store, cut: int) -> None:
        """A row that ends before its last cell, or in a quoted cell, stops the import."""
        text = HEAD + 'Zoe,z@example.net,"unsubscribed"'
        assert [line for line, _ in refusals(store, text[:-cut])] == [3]

    @pytest.mark.parametrize("data", [b"Z\0e,z@example.net,ok\n", b"\0\0\0\0", b"\0"])
    def test_a_nul_stops_the_import(self, store: Store, data: bytes) -> None:
        """A file with a NUL is damaged or not UTF-8, and is refused."""
        what = "this line has a NUL character, so the file is damaged or not UTF-8"
        assert refusals(store, HEAD.encode() + data) == [(3, what)]
        assert refusals(store, HEAD.encode("utf-16-le"))[0] == (1, what)

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("broken", [b"\n", b"\xd8", b"\xd8\xd8\xd8\xd8"])
    def test_broken_utf_16_stops_the_import(
        self, store: Store, encoding: str, broken: bytes
    ) -> None:
        """UTF-16 that is cut inside a character, or has half of one, is refused."""
        data = ("\ufeff" + HEAD).encode(encoding) + broken
        assert refusals(store, data) == [
            (3, "this line is not UTF-16, but the rest of the file is")
        ]

    def test_the_whole_file_is_checked_first(self, store: Store) -> None:
        """The whole file is read before the first row is imported."""
        many = "".join(f"N,n{number}@example.net,subscribed\n" for number in range(3000))
        assert refusals(store, HEAD + many + '"Bob,b@example.net,unsubscribed\n') == [(3003, OPEN)]

    @pytest.mark.parametrize("cell", ['"A, B', '"A" B', '"A', "A\nB", "A\rB"])
    def test_ambiguous_topics_are_refused(self, store: Store, cell: str) -> None:
        """A line with an open quote or a line break in its topics is not imported."""
        with pytest.raises(CellError, match="topics"):
            parse_list(cell)
        target = io.StringIO()
        csv.writer(target).writerows([["email", "topics"], ["a@example.net", cell]])
        assert [line for line, _ in Import(store, target.getvalue(), CONFIRMED).lines] == [2]
        assert states(store) == {}


@pytest.mark.parametrize("piped", [False, True], ids=["file", "standard-input"])
def test_the_command_imports_nothing_and_reports_the_line(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    monkeypatch: pytest.MonkeyPatch,
    *,
    piped: bool,
) -> None:
    """`subscribers import` exits with 1 and imports nothing, from a file or a pipe."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "a secret key of this test")
    folder = make_site({"list.csv": STRAY, "good.csv": HEAD + AFTER})

    def run(name: str) -> CommandResult:
        if not piped:
            return postroom(folder, "subscribers", "import", name)
        reading_end, writing_end = os.pipe()
        os.write(writing_end, (folder / name).read_bytes())
        os.close(writing_end)
        with os.fdopen(reading_end, encoding="utf-8") as source, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", source)
            return postroom(folder, "subscribers", "import", "-")

    outcome = run("list.csv")
    (error,) = outcome.errors
    assert (outcome.code, outcome.out) == (1, "")
    assert error.startswith(f"{'standard input' if piped else 'list.csv'}:2: a quote opens here")
    assert postroom(folder, "subscribers", "list").out == ""
    assert run("good.csv").out == "2 added\n"
