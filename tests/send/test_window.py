"""`send --window`: a job that starts too late leaves its issues to the next one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from postroom.models import Frequency
from postroom.scheduling.plan import LateRun, find_late_run, next_cutoff
from postroom.scheduling.rules import advance_run
from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, SiteWithServer
from tests.support.site import POST, CommandResult, MakeSite
from tests.support.smtp_server import CLOSE, scripted

BERLIN, HOUR, DAY = ZoneInfo("Europe/Berlin"), timedelta(hours=1), timedelta(days=1)
# A Monday, at send_at in Berlin; and the first of December, a Tuesday.
MONDAY = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
FIRST = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def find_late(
    *due: Frequency,
    at: datetime,
    window: timedelta = 6 * HOUR,
    zone: ZoneInfo = BERLIN,
    send_at: str = "09:00",
) -> LateRun | None:
    """Return the issue that a run at an instant is too late for."""
    hour = time.fromisoformat(send_at)
    return find_late_run(due, advance_run(None, at, zone, hour).state, hour, window)


def test_window_begins_at_send_at_and_includes_its_end() -> None:
    """The window begins at `send_at` and includes its last instant."""
    assert find_late("week", at=MONDAY) is None
    assert find_late("week", at=MONDAY + 6 * HOUR) is None
    too_late = LateRun("week", MONDAY)
    assert find_late("week", at=MONDAY + 6 * HOUR + timedelta(microseconds=1)) == too_late
    assert find_late("week", at=MONDAY + 2 * DAY) == too_late
    assert find_late("week", at=MONDAY + 7 * DAY - timedelta(microseconds=1)) == too_late
    assert find_late("week", at=MONDAY + 7 * DAY) is None


def test_newest_cutoff_counts() -> None:
    """The newest cutoff decides, and issues of an older one are sent along."""
    assert find_late("week", "month", at=MONDAY + HOUR) is None
    assert find_late("month", at=MONDAY + HOUR) == LateRun("month", FIRST.replace(month=11))
    assert find_late("week", "month", at=FIRST + HOUR) is None
    assert find_late("week", at=FIRST + HOUR) == LateRun("week", MONDAY + 7 * DAY)


def test_daily_cutoff_does_not_excuse_the_weekly_one() -> None:
    """On Wednesday morning the daily issues are on time, and the weekly ones are late."""
    wednesday = MONDAY + 2 * DAY + HOUR
    assert find_late("day", at=wednesday) is None
    assert find_late("day", "post", at=wednesday + 6 * HOUR) == LateRun("day", MONDAY + 2 * DAY)
    assert find_late("day", "week", "post", at=wednesday) == LateRun("week", MONDAY)


def test_every_post_has_no_cutoff() -> None:
    """A run without issues that have a cutoff is never late."""
    assert find_late("post", at=MONDAY + 2 * DAY) is None
    assert find_late(at=MONDAY + 2 * DAY) is None
    assert find_late("post", "week", at=MONDAY + 2 * DAY) == LateRun("week", MONDAY)


def test_window_is_elapsed_time_when_clocks_go_back() -> None:
    """A window of a day lasts 24 elapsed hours on the day with 25."""
    due = datetime(2026, 10, 24, 9, 0, tzinfo=BERLIN).astimezone(UTC)
    shows_eight = datetime(2026, 10, 25, 8, 0, tzinfo=BERLIN)
    assert find_late("day", at=shows_eight, window=DAY) is None
    half_past = datetime(2026, 10, 25, 8, 30, tzinfo=BERLIN)
    assert find_late("day", at=half_past, window=DAY) == LateRun("day", due)


def test_skipped_send_at_uses_the_earlier_offset() -> None:
    """A `send_at` that the clocks skip is an instant with the offset before the change."""
    due = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    last = due + HOUR
    assert find_late("day", at=last, window=HOUR, send_at="02:30") is None
    late_by_a_bit = find_late("day", at=last + timedelta(seconds=1), window=HOUR, send_at="02:30")
    assert late_by_a_bit == LateRun("day", due)


@pytest.mark.parametrize(
    ("frequency", "following"),
    [("day", date(2026, 12, 1)), ("week", date(2026, 12, 7)), ("month", date(2026, 12, 1))],
)
def test_next_cutoff_is_a_later_day(frequency: Frequency, following: date) -> None:
    """The next cutoff of a day that is a cutoff itself is a later day."""
    assert next_cutoff(frequency, date(2026, 11, 30)) == following


# Through the command line


def run(sending_site: SiteWithServer, at: datetime, *options: str) -> CommandResult:
    """Run `send` with a window."""
    return sending_site.send("--window", "6h", *options, at=at)


@pytest.fixture
def sending_site(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SiteWithServer]:
    """Make a site with a weekly subscriber, whose issue is due on Monday."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
        made = SiteWithServer(make_site({"posts/a.md": POST}, MAIL), server, postroom)
        made.add("weekly@example.com", frequency="week")
        yield made


def test_late_weekly_job_does_nothing(sending_site: SiteWithServer) -> None:
    """A late job writes no row and gives its reason; the job on Monday sends everything."""
    sending_site.add("daily@example.com", frequency="day")
    sending_site.add("every@example.com")
    assert run(sending_site, MONDAY - DAY + HOUR).code == 0
    assert sending_site.email_counts() == Counter({"daily@example.com": 1, "every@example.com": 1})
    (sending_site.folder / "posts/b.md").write_text(
        POST.replace("moved", "grew").replace("-20", "-24")
    )
    before = sending_site.rows()
    outcome = run(sending_site, MONDAY + 2 * DAY + HOUR)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        "too late for --window: the weekly issues were due on 2026-11-23 at 09:00 CET; "
        "they wait until 2026-11-30, or for a run without --window\n"
    )
    assert sending_site.rows() == before
    assert run(sending_site, MONDAY + 7 * DAY).code == 0
    assert sending_site.email_counts() == Counter(
        {"weekly@example.com": 1, "daily@example.com": 2, "every@example.com": 2}
    )
    assert run(sending_site, MONDAY + 7 * DAY + HOUR).out == NOTHING_DUE
    assert run(sending_site, MONDAY + 9 * DAY).out == NOTHING_DUE
    assert sum(sending_site.email_counts().values()) == 5


def test_job_in_time_sends(sending_site: SiteWithServer) -> None:
    """A job in time sends, and a later one has nothing due and is not late."""
    assert run(sending_site, MONDAY + 5 * HOUR).code == 0
    assert sending_site.email_counts() == Counter({"weekly@example.com": 1})
    assert run(sending_site, MONDAY + 2 * DAY).out == NOTHING_DUE


def test_first_run_may_be_late(sending_site: SiteWithServer) -> None:
    """The first run of a site can be too late, too."""
    assert "too late" in run(sending_site, MONDAY + DAY).out
    assert sending_site.email_counts() == Counter()
    assert sending_site.send(at=MONDAY + DAY).code == 0
    assert sending_site.email_counts() == Counter({"weekly@example.com": 1})


def test_deferred_email_waits_outside_the_window(sending_site: SiteWithServer) -> None:
    """A deferred email is retried inside the window, and else joins the next issue."""
    sending_site.server.script["RCPT"] = [b"450 4.2.0 later\r\n"] * 2
    assert run(sending_site, MONDAY).code == 1
    assert run(sending_site, MONDAY + HOUR).code == 1
    assert "too late" in run(sending_site, MONDAY + DAY).out
    assert sending_site.email_counts() == Counter()
    assert run(sending_site, MONDAY + 7 * DAY).code == 0
    assert sending_site.email_counts() == Counter({"weekly@example.com": 1})


def test_late_run_warns_about_uncertain_emails(sending_site: SiteWithServer) -> None:
    """A late run fails until its uncertain emails are acknowledged."""
    sending_site.server.script["."] = [CLOSE]
    assert run(sending_site, MONDAY).code == 1
    sending_site.add("other@example.com", frequency="week")
    for code in (1, 0):
        outcome = run(sending_site, MONDAY + 2 * DAY)
        assert (outcome.code, "too late" in outcome.out) == (code, True)
        assert [line[:13] for line in outcome.warnings] == ["send: 1 email"] * code
        assert sending_site.call(sending_site.folder, "status", "--acknowledge").code == 0


@pytest.mark.parametrize(
    "text", ["", "6", "h", "0h", "-6h", "6 h", "6H", "1.5h", "6h30m", "٣h", "9" * 9 + "d"]
)
def test_invalid_duration_is_wrong_use(sending_site: SiteWithServer, text: str) -> None:
    """An invalid duration is a one-line error that says how to write one."""
    outcome = sending_site.send("--window", text)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert outcome.errors == [f"--window: '{text}' is not a duration; write 90m, 6h or 2d"]


@pytest.mark.parametrize("text", ["90m", "6h", "2d"])
def test_durations_have_minutes_hours_or_days(sending_site: SiteWithServer, text: str) -> None:
    """Windows of minutes, hours and days include the hour after the cutoff."""
    sent = sending_site.send("--window", text, at=MONDAY + HOUR)
    assert (sent.code, sending_site.email_counts()) == (0, Counter({"weekly@example.com": 1}))


def test_window_excludes_other_kinds_of_runs(sending_site: SiteWithServer) -> None:
    """`--window` cannot be combined with --resend-uncertain, which has no cutoff."""
    outcome = run(sending_site, MONDAY, "--resend-uncertain")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
