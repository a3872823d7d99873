"""`postroom subscribers`: its changes, output and errors."""

from __future__ import annotations

import io
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.db import engine
from tests.support.processes import Process
from tests.support.site import POST, CommandResult, MakeSite

KEY = "a secret key of this test"
LIST = """\
email,name,status
reader@example.com,A Reader,subscribed
other@münchen.example,B Reader,
gone@example.com,C Reader,unsubscribed
nobody,D Reader,subscribed
"""

Run = Callable[..., CommandResult]


@pytest.fixture
def here(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a site with a secret key and a list of subscribers."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
    monkeypatch.delenv("POSTROOM_DATABASE_URL", raising=False)
    return make_site({"list.csv": LIST})


@pytest.fixture
def run(here: Path, postroom: Callable[..., CommandResult]) -> Run:
    """Return a function that runs `postroom subscribers` in the site."""
    return lambda *arguments: postroom(here, "subscribers", *arguments)


def test_an_import_reports_each_rejected_line(run: Run) -> None:
    """Rejected lines are reported with file, line, address and reason: exit code 1."""
    outcome = run("import", "list.csv")
    assert outcome.code == 1
    assert outcome.errors == [
        (
            "list.csv:3: other@münchen.example: the row has no state;"
            " pass --confirmed if these people opted in"
        ),
        "list.csv:5: nobody: an email address must have an @-sign",
    ]
    assert outcome.out == "2 added, 2 with a fault\n"


def test_an_import_can_be_repeated(run: Run) -> None:
    """A second import of a file adds the remaining rows, here with `--confirmed`."""
    run("import", "list.csv")
    outcome = run("import", "--confirmed", "list.csv")
    assert outcome.out == "1 added, 2 known already, 1 with a fault\n"
    listed = run("list")
    assert listed.out.splitlines() == [
        "reader@example.com  active  month  all topics",
        "gone@example.com  unsubscribed  month  all topics",
        "other@münchen.example  active  month  all topics",
    ]
    assert listed.err == "3 subscribers: 2 active, 1 unsubscribed\n"
    assert run("list", "--state", "unsubscribed").out.count("\n") == 1


def test_an_import_reads_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` stands for standard input."""
    source = io.TextIOWrapper(io.BytesIO(b"email\nreader@example.com\n"))
    monkeypatch.setattr(sys, "stdin", source)
    outcome = run("import", "--confirmed", "-")
    assert (outcome.code, outcome.out) == (0, "1 added\n")


def test_an_import_of_an_absent_file_is_wrong_use(run: Run) -> None:
    """A file that cannot be read is one line and exit code 2."""
    outcome = run("import", "absent.csv")
    assert outcome.code == 2
    assert outcome.errors == ["absent.csv: cannot be read (No such file or directory)"]


def test_a_list_without_consent_is_refused(run: Run, here: Path) -> None:
    """A list without a column of states is refused without `--confirmed`: exit code 1."""
    (here / "bare.csv").write_text("email\nreader@example.com\n")
    outcome = run("import", "bare.csv")
    assert outcome.code == 1
    assert outcome.errors == [
        "bare.csv:1: no column tells who opted in; pass --confirmed if all of them did"
    ]
    assert run("list").err == "0 subscribers: none\n"


def test_a_column_of_unknown_meaning_is_refused_or_ignored(run: Run, here: Path) -> None:
    """The error names the column and the way on: `--ignore-column`, or a known name."""
    (here / "old.csv").write_text("email,Bounce class,lead_status\nreader@example.com,7,new\n")
    outcome = run("import", "old.csv")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.errors == [
        (
            f"old.csv:1: column '{name}' may tell who must not get emails, in a way that is not"
            f" known; pass --ignore-column '{name}' if it does not; otherwise name it"
            " 'unsubscribed', 'bounced' or 'complained', and write yes or no in its cells"
        )
        for name in ("Bounce class", "lead_status")
    ]
    ignored = ("--ignore-column", "bounce class", "--ignore-column", "lead_status")
    assert run("import", "--confirmed", *ignored, "old.csv").out == "1 added\n"


def test_subscribers_are_added(run: Run) -> None:
    """Subscribers are added once, with the given preferences."""
    words = "--confirmed --frequency week --topic Products --topic News --language en".split()
    outcome = run("add", *words, "reader@example.com", "other@example.com")
    assert (outcome.code, outcome.out, outcome.err) == (0, "2 added\n", "")
    again = run("add", "--confirmed", "READER@example.com")
    assert (again.code, again.out) == (0, "1 known already\n")
    assert run("list").out.startswith("reader@example.com  active  week  News, Products  en\n")


def test_topics_are_added_without_spaces_around_them(run: Run, here: Path) -> None:
    """Spaces and line breaks in `--topic` are single spaces, so an export can be imported."""
    run("add", "--confirmed", "--topic", " =New\n Products ", "reader@example.com")
    exported = run("export").out
    assert ",'=New Products," in exported
    (here / "all.csv").write_text(exported)
    for path in (here / ".postroom").iterdir():
        path.unlink()
    assert run("import", "all.csv").out == "1 added\n"
    assert run("export").out == exported


@pytest.mark.parametrize("topic", ["", "  "])
def test_an_empty_topic_is_wrong_use(run: Run, topic: str) -> None:
    """A topic without a name is refused, as it would stand for all topics or for none."""
    outcome = run("add", "--confirmed", "--topic", topic, "reader@example.com")
    assert outcome.code == 2
    assert outcome.errors == ["--topic: is empty; name a topic, or leave the option out"]
    assert run("list").out == ""


def test_nobody_is_added_without_consent(run: Run) -> None:
    """`add` without `--confirmed` is wrong use."""
    outcome = run("add", "reader@example.com")
    assert outcome.code == 2
    assert outcome.errors == [
        "subscribers add: consent is not confirmed; pass --confirmed if these people opted in"
    ]


def test_an_invalid_address_is_reported(run: Run) -> None:
    """An invalid email address is an error of one line with the address: exit code 1."""
    for words in (("add", "--confirmed"), ("forget",)):
        outcome = run(*words, "reader@example")
        assert outcome.code == 1
        assert outcome.errors == [
            (
                f"subscribers {words[0]}: reader@example: the part after the @-sign is not valid."
                " It should have a period"
            )
        ]


def test_forgotten_addresses_are_suppressed(run: Run, here: Path) -> None:
    """A forgotten address is in no file, and neither `import` nor `add` adds it."""
    run("import", "list.csv")
    assert run("forget", "READER@example.com").out == "forgotten\n"
    assert run("forget", "reader@example.com").out == "unknown; suppressed from now on\n"
    for words in (("add", "--confirmed", "reader@example.com"), ("import", "list.csv")):
        outcome = run(*words)
        assert outcome.code == 1
        assert any(
            "the address is suppressed and is not added" in warning for warning in outcome.warnings
        )
    assert "reader@" not in run("list").out
    for path in (here / ".postroom").iterdir():
        assert b"reader@example.com" not in path.read_bytes()


def test_an_export_can_be_imported(run: Run, here: Path) -> None:
    """A new database with an imported export exports the same bytes."""
    run("import", "--confirmed", "--from", "2026-09-01", "list.csv")
    exported = run("export").out
    assert exported.count("\n") == 4
    assert run("export", "--output", "all.csv").out == "3 subscribers → all.csv\n"
    assert (here / "all.csv").read_text("utf-8") == exported
    assert (here / "all.csv").stat().st_mode & 0o777 == 0o600
    for path in (here / ".postroom").iterdir():
        path.unlink()
    assert run("import", "all.csv").out == "3 added\n"
    assert run("export").out == exported


def test_an_export_overwrites_no_file(run: Run) -> None:
    """An existing file is not overwritten: exit code 2."""
    outcome = run("export", "--output", "list.csv")
    assert outcome.code == 2
    assert outcome.errors == ["list.csv: cannot be written (File exists)"]


@pytest.mark.parametrize(
    ("frequency", "cutoff"),
    [
        ("month", "2026-11-01"),
        ("week", "2026-11-16"),
        ("day", "2026-11-22"),
        ("post", "2026-11-22"),
    ],
)
def test_new_subscribers_start_at_the_last_cutoff(run: Run, frequency: str, cutoff: str) -> None:
    """The cutoffs are those of Sunday, 22 November, at 13:00 in Berlin."""
    run("add", "--confirmed", "--frequency", frequency, "reader@example.com")
    assert f",{frequency},,,{cutoff},0,{cutoff},0," in run("export").out


def test_new_subscribers_may_start_earlier_but_not_later(run: Run) -> None:
    """`--from` sets the day from which posts are due; a future day is wrong use."""
    run("add", "--confirmed", "--from", "2026-01-15", "reader@example.com")
    assert ",2026-01-15,0,2026-01-15," in run("export").out
    outcome = run("add", "--confirmed", "--from", "2026-11-23", "other@example.com")
    assert outcome.code == 2
    assert outcome.errors == [
        "--from: 2026-11-23 is in the future; leave it out, or give an earlier date"
    ]


@pytest.mark.parametrize("words", ["add --confirmed a@example.com", "import list.csv", "forget x"])
def test_a_missing_key_is_wrong_use(run: Run, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Commands that look up suppressed addresses need the secret key: exit code 2."""
    monkeypatch.delenv("POSTROOM_SECRET_KEY")
    outcome = run(*words.split())
    assert outcome.code == 2
    (error,) = outcome.errors
    assert error.startswith("POSTROOM_SECRET_KEY: is not set; set it to the key of this site; ")


def test_another_key_is_wrong_use(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is accepted only in front of the old key."""
    run("add", "--confirmed", "reader@example.com")
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "another secret key")
    outcome = run("add", "--confirmed", "other@example.com")
    assert outcome.code == 2
    assert "set that key again; after a rotation it stays the last of the list" in outcome.err
    monkeypatch.setenv("POSTROOM_SECRET_KEY", f"another secret key,{KEY}")
    assert run("add", "--confirmed", "other@example.com").code == 0


@pytest.mark.parametrize("words", ["list", "export", "import list.csv", "forget a@example.com"])
def test_a_locked_database_is_one_line(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """A database locked by another program is an error of one line: exit code 1."""
    run("list")
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.05)
    other = sqlite3.connect(here / ".postroom/postroom.db", isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    outcome = run(*words.split())
    other.close()
    assert outcome.code == 1
    assert outcome.errors == [
        (
            ".postroom/postroom.db: is locked; another program is writing;"
            " run this again when it has finished"
        )
    ]
    assert "Traceback" not in outcome.err


def test_the_database_may_be_elsewhere(
    run: Run, here: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands use the database of POSTROOM_DATABASE_URL, of either kind."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
    run("import", "--confirmed", "list.csv")
    assert run("forget", "reader@example.com").out == "forgotten\n"
    assert run("list").err == "2 subscribers: 1 active, 1 unsubscribed\n"
    assert not (here / ".postroom").exists()


@pytest.mark.parametrize("name", ["list", "export"])
def test_a_closed_pipe_is_no_error(run: Run, here: Path, name: str) -> None:
    """A pipe that is closed early, as by `head`, causes no error message."""
    lines = "".join(f"reader{number}@example.com\n" for number in range(3000))
    (here / "many.csv").write_text("email\n" + lines)
    run("import", "--confirmed", "many.csv")
    command = [sys.executable, "-m", "postroom", "subscribers", name]
    with Process[bytes](
        command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("name", ["list", "add", "import", "export", "forget"])
def test_help_shows_an_example(run: Run, name: str) -> None:
    """The help of each command shows an example."""
    outcome = run(name, "--help")
    assert outcome.code == 0
    assert re.search(rf"^ +postroom subscribers {name}", outcome.out, re.MULTILINE)


def test_an_empty_url_is_ignored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty environment variable counts as not set."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", "")
    assert run("list").code == 0
    assert os.environ["POSTROOM_DATABASE_URL"] == ""


CHOICES = """\
email,topics,language
a@example.com,company NEWS,en
b@example.com,"Compny, Sports",de
c@example.com,Sports,EN
d@example.com,,en-US
"""


def test_choices_that_no_post_meets_are_a_warning(run: Run, here: Path) -> None:
    """Each topic and language that no post has is named once; the rows are imported."""
    (here / "posts").mkdir(exist_ok=True)
    (here / "posts/a.md").write_text(POST)
    (here / "people.csv").write_text(CHOICES)
    outcome = run("import", "people.csv", "--confirmed")
    hint = "correct it, or publish such a post; until then they get no emails for it"
    named = ["topic: no post has 'Compny'", "topic: no post has 'Sports'"]
    named += ["language: no post has 'de'", "language: no post has 'en-US'"]
    assert outcome.code == 0
    assert outcome.out.startswith("4 added")
    assert outcome.warnings == [f"{line}; {hint}" for line in named]
    again = run("import", "people.csv", "--confirmed")
    assert (again.code, again.warnings) == (0, [])
    add = ("add", "--confirmed", "--topic", "Sprots", "e@example.com")
    assert run(*add).warnings == [f"topic: no post has 'Sprots'; {hint}"]


@pytest.mark.parametrize("post", [None, "No title, no date.\n"])
def test_choices_are_not_compared_without_posts(run: Run, here: Path, post: str | None) -> None:
    """A site without posts yet, or with faulty ones, can import subscribers."""
    if post:
        (here / "posts").mkdir(exist_ok=True)
        (here / "posts/a.md").write_text(post)
    (here / "people.csv").write_text(CHOICES)
    outcome = run("import", "people.csv", "--confirmed")
    assert (outcome.code, outcome.warnings) == (0, [])
