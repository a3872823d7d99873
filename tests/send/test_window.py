"""`send --window`: a job that comes late leaves the letters to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from postroom.models import Frequency
from postroom.scheduling.plan import LateRun, find_late_run, next_cutoff
from postroom.scheduling.rules import advance_run
from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, Room
from tests.support.site import POST, CommandResult, MakeSite
from tests.support.smtp_server import CLOSE, scripted

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
) -> LateRun | None:
    """Return what a run at an instant is too late for."""
    hour = time.fromisoformat(send_at)
    return find_late_run(owing, advance_run(None, at, zone, hour).state, hour, window)


def test_the_window_opens_at_send_at_and_its_end_belongs_to_it() -> None:
    """Up to the very instant; a microsecond later it is too late, for days."""
    assert found("week", at=MONDAY) is None
    assert found("week", at=MONDAY + 6 * HOUR) is None
    too_late = LateRun("week", MONDAY)
    assert found("week", at=MONDAY + 6 * HOUR + timedelta(microseconds=1)) == too_late
    assert found("week", at=MONDAY + 2 * DAY) == too_late
    assert found("week", at=MONDAY + 7 * DAY - timedelta(microseconds=1)) == too_late
    assert found("week", at=MONDAY + 7 * DAY) is None


def test_of_weeks_and_months_the_newest_counts() -> None:
    """The letters of an older one go along; they would wait for ever else."""
    assert found("week", "month", at=MONDAY + HOUR) is None
    assert found("month", at=MONDAY + HOUR) == LateRun("month", FIRST.replace(month=11))
    assert found("week", "month", at=FIRST + HOUR) is None
    assert found("week", at=FIRST + HOUR) == LateRun("week", MONDAY + 7 * DAY)


def test_a_day_has_a_boundary_every_day_and_excuses_no_week() -> None:
    """On Wednesday morning the daily letters are on time, and the weekly ones are not."""
    wednesday = MONDAY + 2 * DAY + HOUR
    assert found("day", at=wednesday) is None
    assert found("day", "post", at=wednesday + 6 * HOUR) == LateRun("day", MONDAY + 2 * DAY)
    assert found("day", "week", "post", at=wednesday) == LateRun("week", MONDAY)


def test_every_post_waits_for_no_boundary() -> None:
    """Where nothing else is owed, and where nothing is, no run is late."""
    assert found("post", at=MONDAY + 2 * DAY) is None
    assert found(at=MONDAY + 2 * DAY) is None
    assert found("post", "week", at=MONDAY + 2 * DAY) == LateRun("week", MONDAY)


def test_the_window_is_as_long_where_clocks_are_put_back() -> None:
    """A day's window on the night that has an hour more ends by hours that pass, not by clocks."""
    due = datetime(2026, 10, 24, 9, 0, tzinfo=BERLIN).astimezone(UTC)
    shows_eight = datetime(2026, 10, 25, 8, 0, tzinfo=BERLIN)
    assert found("day", at=shows_eight, window=DAY) is None
    half_past = datetime(2026, 10, 25, 8, 30, tzinfo=BERLIN)
    assert found("day", at=half_past, window=DAY) == LateRun("day", due)


def test_a_send_at_that_clocks_skip_comes_by_the_offset_before() -> None:
    """02:30 of the night that has no such time is an instant all the same."""
    due = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    last = due + HOUR
    assert found("day", at=last, window=HOUR, send_at="02:30") is None
    late_by_a_bit = found("day", at=last + timedelta(seconds=1), window=HOUR, send_at="02:30")
    assert late_by_a_bit == LateRun("day", due)


@pytest.mark.parametrize(
    ("frequency", "following"),
    [("day", date(2026, 12, 1)), ("week", date(2026, 12, 7)), ("month", date(2026, 12, 1))],
)
def test_the_next_boundary_is_a_later_day(frequency: Frequency, following: date) -> None:
    """Also where the day is one itself."""
    assert next_cutoff(frequency, date(2026, 11, 30)) == following


# Through the command line


def run(room: Room, at: datetime, *options: str) -> CommandResult:
    """Run the job, which has a window."""
    return room.send("--window", "6h", *options, at=at)


@pytest.fixture
def room(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Room]:
    """Make a newsroom with a weekly reader, who is owed a letter on Monday."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
        made = Room(make_site({"posts/a.md": POST}, MAIL), server, postroom)
        made.add("weekly@example.com", frequency="week")
        yield made


def test_a_weekly_job_two_days_late_does_nothing(room: Room) -> None:
    """No letter, no row, not even that of a run; it says why, and Monday's job sends it all."""
    room.add("daily@example.com", frequency="day")
    room.add("every@example.com")
    assert run(room, MONDAY - DAY + HOUR).code == 0
    assert room.got() == Counter({"daily@example.com": 1, "every@example.com": 1})
    (room.folder / "posts/b.md").write_text(POST.replace("moved", "grew").replace("-20", "-24"))
    before = room.rows()
    outcome = run(room, MONDAY + 2 * DAY + HOUR)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        "too late for --window: the weekly issues were due on 2026-11-23 at 09:00 CET; "
        "they wait until 2026-11-30, or for a run without --window\n"
    )
    assert room.rows() == before
    assert run(room, MONDAY + 7 * DAY).code == 0
    assert room.got() == Counter(
        {"weekly@example.com": 1, "daily@example.com": 2, "every@example.com": 2}
    )
    assert run(room, MONDAY + 7 * DAY + HOUR).out == NOTHING_DUE
    assert run(room, MONDAY + 9 * DAY).out == NOTHING_DUE
    assert sum(room.got().values()) == 5


def test_a_job_that_comes_in_time_sends(room: Room) -> None:
    """And the one that is run again later has nothing to do, nor says that it is late."""
    assert run(room, MONDAY + 5 * HOUR).code == 0
    assert room.got() == Counter({"weekly@example.com": 1})
    assert run(room, MONDAY + 2 * DAY).out == NOTHING_DUE


def test_the_first_run_may_be_too_late(room: Room) -> None:
    """Nobody needs to have sent before."""
    assert "too late" in run(room, MONDAY + DAY).out
    assert room.got() == Counter()
    assert room.send(at=MONDAY + DAY).code == 0
    assert room.got() == Counter({"weekly@example.com": 1})


def test_a_letter_that_was_put_off_waits_outside_the_window(room: Room) -> None:
    """Inside it is tried again; outside it comes with the next one's posts, once."""
    room.server.script["RCPT"] = [b"450 4.2.0 later\r\n"] * 2
    assert run(room, MONDAY).code == 1
    assert run(room, MONDAY + HOUR).code == 1
    assert "too late" in run(room, MONDAY + DAY).out
    assert room.got() == Counter()
    assert run(room, MONDAY + 7 * DAY).code == 0
    assert room.got() == Counter({"weekly@example.com": 1})


def test_a_late_run_tells_of_what_is_uncertain(room: Room) -> None:
    """It sends nothing, and fails all the same until somebody has decided."""
    room.server.script["."] = [CLOSE]
    assert run(room, MONDAY).code == 1
    room.add("other@example.com", frequency="week")
    for code in (1, 0):
        outcome = run(room, MONDAY + 2 * DAY)
        assert (outcome.code, "too late" in outcome.out) == (code, True)
        assert [line[:13] for line in outcome.warnings] == ["send: 1 email"] * code
        assert room.call(room.folder, "status", "--acknowledge").code == 0


@pytest.mark.parametrize(
    "text", ["", "6", "h", "0h", "-6h", "6 h", "6H", "1.5h", "6h30m", "٣h", "9" * 9 + "d"]
)
def test_what_is_no_length_of_time_is_wrong_use(room: Room, text: str) -> None:
    """One line says how to write one."""
    outcome = room.send("--window", text)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert outcome.errors == [f"--window: '{text}' is not a duration; write 90m, 6h or 2d"]


@pytest.mark.parametrize("text", ["90m", "6h", "2d"])
def test_minutes_hours_and_days_are_lengths_of_time(room: Room, text: str) -> None:
    """An hour after the boundary each of them still lasts."""
    sent = room.send("--window", text, at=MONDAY + HOUR)
    assert (sent.code, room.got()) == (0, Counter({"weekly@example.com": 1}))


def test_a_window_is_for_a_run_of_the_plan(room: Room) -> None:
    """What was asked for by hand has no boundary."""
    outcome = run(room, MONDAY, "--resend-uncertain")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
