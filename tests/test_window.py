"""`send --window`: a job that comes late leaves the letters to the next."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from attrs import frozen

from conftest import POST, MakeNewsroom, Outcome
from postroom.database.schema import metadata
from postroom.delivery.clock import advance
from postroom.model import Frequency
from postroom.planning import Late, late, next_boundary
from postroom.store import open_store
from smtpservers import Scripted, scripted

MAIL = """\
contact: {name: Press office, address: 1 Example Street}
mail:
  from: Example News <news@example.com>
  unsubscribe: https://news.example.com
  connections: 1
"""
BERLIN, HOUR, DAY = ZoneInfo("Europe/Berlin"), timedelta(hours=1), timedelta(days=1)
# A Monday, at send_at in Berlin; and the first of December, a Tuesday.
MONDAY = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
FIRST = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def found(
    *owing: Frequency,
    at: datetime,
    window: timedelta = 6 * HOUR,
    zone: ZoneInfo = BERLIN,
    send_at: str = "09:00",
) -> Late | None:
    """Return what a run at an instant is too late for."""
    hour = time.fromisoformat(send_at)
    return late(owing, advance(None, at, zone, hour).release, hour, window)


def test_the_window_opens_at_send_at_and_its_end_belongs_to_it() -> None:
    """Up to the very instant; a microsecond later it is too late, for days."""
    assert found("week", at=MONDAY) is None
    assert found("week", at=MONDAY + 6 * HOUR) is None
    too_late = Late("week", MONDAY)
    assert found("week", at=MONDAY + 6 * HOUR + timedelta(microseconds=1)) == too_late
    assert found("week", at=MONDAY + 2 * DAY) == too_late
    assert found("week", at=MONDAY + 7 * DAY - timedelta(microseconds=1)) == too_late
    assert found("week", at=MONDAY + 7 * DAY) is None


def test_of_weeks_and_months_the_newest_counts() -> None:
    """The letters of an older one go along; they would wait for ever else."""
    assert found("week", "month", at=MONDAY + HOUR) is None
    assert found("month", at=MONDAY + HOUR) == Late("month", FIRST.replace(month=11))
    assert found("week", "month", at=FIRST + HOUR) is None
    assert found("week", at=FIRST + HOUR) == Late("week", MONDAY + 7 * DAY)


def test_a_day_has_a_boundary_every_day_and_excuses_no_week() -> None:
    """On Wednesday morning the daily letters are on time, and the weekly ones are not."""
    wednesday = MONDAY + 2 * DAY + HOUR
    assert found("day", at=wednesday) is None
    assert found("day", "post", at=wednesday + 6 * HOUR) == Late("day", MONDAY + 2 * DAY)
    assert found("day", "week", "post", at=wednesday) == Late("week", MONDAY)


def test_every_post_waits_for_no_boundary() -> None:
    """Where nothing else is owed, and where nothing is, no run is late."""
    assert found("post", at=MONDAY + 2 * DAY) is None
    assert found(at=MONDAY + 2 * DAY) is None
    assert found("post", "week", at=MONDAY + 2 * DAY) == Late("week", MONDAY)


def test_the_window_is_as_long_where_clocks_are_put_back() -> None:
    """A day's window on the night that has an hour more ends by hours that pass, not by clocks."""
    due = datetime(2026, 10, 24, 9, 0, tzinfo=BERLIN).astimezone(UTC)
    shows_eight = datetime(2026, 10, 25, 8, 0, tzinfo=BERLIN)
    assert found("day", at=shows_eight, window=DAY) is None
    half_past = datetime(2026, 10, 25, 8, 30, tzinfo=BERLIN)
    assert found("day", at=half_past, window=DAY) == Late("day", due)


def test_a_send_at_that_clocks_skip_comes_by_the_offset_before() -> None:
    """02:30 of the night that has no such time is an instant all the same."""
    due = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    last = due + HOUR
    assert found("day", at=last, window=HOUR, send_at="02:30") is None
    late_by_a_bit = found("day", at=last + timedelta(seconds=1), window=HOUR, send_at="02:30")
    assert late_by_a_bit == Late("day", due)


@pytest.mark.parametrize(
    ("frequency", "following"),
    [("day", date(2026, 12, 1)), ("week", date(2026, 12, 7)), ("month", date(2026, 12, 1))],
)
def test_the_next_boundary_is_a_later_day(frequency: Frequency, following: date) -> None:
    """Also where the day is one itself."""
    assert next_boundary(frequency, date(2026, 11, 30)) == following


# Through the command line


@frozen
class Job:
    """A newsroom, and the job that sends its letters."""

    folder: Path
    server: Scripted
    call: Callable[..., Outcome]

    def run(self, at: datetime, *options: str) -> Outcome:
        """Run the job."""
        window = ("--window", "6h", *options)
        return self.call(self.folder, "send", "--keep-ledger-here", *window, at=at)

    def add(self, name: str, frequency: str) -> None:
        """Add a reader who is owed what came in November."""
        options = f"--confirmed --frequency {frequency} --from 2026-11-01".split()
        assert (
            self.call(self.folder, "subscribers", "add", *options, f"{name}@example.com").code == 0
        )

    def rows(self) -> dict[str, Sequence[tuple[object, ...]]]:
        """Return every row of every table."""
        store = open_store(os.environ["POSTROOM_DATABASE_URL"], self.folder)
        with closing(store.database), store.database.reading() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table))]
                for table in metadata.sorted_tables
            }

    def got(self) -> Counter[str]:
        """Return how many letters each reader was sent."""
        to = (re.search(rb"^To: (\w+)@", each, re.MULTILINE) for each in self.server.messages)
        return Counter(match[1].decode() for match in to if match)


@pytest.fixture
def job(
    make_newsroom: MakeNewsroom,
    postroom: Callable[..., Outcome],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Job]:
    """Make a newsroom with a weekly reader, who is owed a letter on Monday."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", "a secret key of the tests")
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
        made = Job(make_newsroom({"posts/a.md": POST}, MAIL), server, postroom)
        made.add("weekly", "week")
        yield made


def test_a_weekly_job_two_days_late_does_nothing(job: Job) -> None:
    """No letter, no row, not even that of a run; it says why, and Monday's job sends it all."""
    job.add("daily", "day")
    job.add("every", "post")
    assert job.run(MONDAY - DAY + HOUR).code == 0
    assert job.got() == Counter({"daily": 1, "every": 1})
    (job.folder / "posts/b.md").write_text(POST.replace("moved", "grew").replace("-20", "-24"))
    before = job.rows()
    outcome = job.run(MONDAY + 2 * DAY + HOUR)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        "too late for --window: the letters of the week were due on 2026-11-23 at 09:00 CET; "
        "they wait until 2026-11-30, or for a run without --window\n"
    )
    assert job.rows() == before
    assert job.run(MONDAY + 7 * DAY).code == 0
    assert job.got() == Counter({"weekly": 1, "daily": 2, "every": 2})
    assert job.run(MONDAY + 7 * DAY + HOUR).out == "nothing is due\n"
    assert job.run(MONDAY + 9 * DAY).out == "nothing is due\n"
    assert sum(job.got().values()) == 5


def test_a_job_that_comes_in_time_sends(job: Job) -> None:
    """And the one that is run again later has nothing to do, nor says that it is late."""
    assert job.run(MONDAY + 5 * HOUR).code == 0
    assert job.got() == Counter({"weekly": 1})
    assert job.run(MONDAY + 2 * DAY).out == "nothing is due\n"


def test_the_first_run_may_be_too_late(job: Job) -> None:
    """Nobody needs to have sent before."""
    assert "too late" in job.run(MONDAY + DAY).out
    assert job.got() == Counter()
    assert job.call(job.folder, "send", "--keep-ledger-here", at=MONDAY + DAY).code == 0
    assert job.got() == Counter({"weekly": 1})


def test_a_letter_that_was_put_off_waits_outside_the_window(job: Job) -> None:
    """Inside it is tried again; outside it comes with the next one's posts, once."""
    job.server.script["RCPT"] = [b"450 4.2.0 later\r\n"] * 2
    assert job.run(MONDAY).code == 1
    assert job.run(MONDAY + HOUR).code == 1
    assert "too late" in job.run(MONDAY + DAY).out
    assert job.got() == Counter()
    assert job.run(MONDAY + 7 * DAY).code == 0
    assert job.got() == Counter({"weekly": 1})


@pytest.mark.parametrize(
    "text", ["", "6", "h", "0h", "-6h", "6 h", "6H", "1.5h", "6h30m", "٣h", "9" * 9 + "d"]
)
def test_what_is_no_length_of_time_is_wrong_use(job: Job, text: str) -> None:
    """One line says how to write one."""
    outcome = job.call(job.folder, "send", "--window", text)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert outcome.errors == [f"--window: '{text}' is no length of time; write 90m, 6h or 2d"]


@pytest.mark.parametrize("text", ["90m", "6h", "2d"])
def test_minutes_hours_and_days_are_lengths_of_time(job: Job, text: str) -> None:
    """An hour after the boundary each of them still lasts."""
    sent = job.call(job.folder, "send", "--keep-ledger-here", "--window", text, at=MONDAY + HOUR)
    assert (sent.code, job.got()) == (0, Counter({"weekly": 1}))


def test_a_window_is_for_a_run_of_the_plan(job: Job) -> None:
    """What was asked for by hand has no boundary."""
    outcome = job.run(MONDAY, "--resend-uncertain")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
