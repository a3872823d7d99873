"""Digests: posts grouped by calendar period."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.models import Digest, DigestFrequency
from postroom.posts import loader
from postroom.posts.source import SourceFolder
from postroom.scheduling.periods import group_by_period, period_bounds, period_containing
from postroom.settings.site import parse_settings
from tests.support.site import AT, SETTINGS

EVERY: tuple[DigestFrequency, ...] = ("day", "week", "month")
DAYS = st.dates(date(1900, 1, 1), date(2999, 12, 31))


def make_digests(every: DigestFrequency, *dates: str) -> tuple[Digest, ...]:
    """Return the digests of posts with these dates, given in any order."""
    site = parse_settings(f"{SETTINGS}digest: {{every: {every}}}\n".encode())
    texts = {
        f"{number}.md": f"---\ntitle: Post {number}\ndate: {when}\n---\n".encode()
        for number, when in enumerate(dates)
    }
    return group_by_period(loader.read_posts(SourceFolder(texts, {}), site, AT).posts, site)


@pytest.mark.parametrize(
    ("day", "every", "period", "first", "last"),
    [
        ("2026-11-22", "day", "2026-11-22", "2026-11-22", "2026-11-22"),
        ("2026-11-22", "week", "2026-W47", "2026-11-16", "2026-11-22"),
        ("2026-11-22", "month", "2026-11", "2026-11-01", "2026-11-30"),
        ("2024-02-29", "month", "2024-02", "2024-02-01", "2024-02-29"),
        ("2023-02-01", "month", "2023-02", "2023-02-01", "2023-02-28"),
        ("2026-12-31", "month", "2026-12", "2026-12-01", "2026-12-31"),
        ("2024-12-30", "week", "2025-W01", "2024-12-30", "2025-01-05"),
        ("2024-12-29", "week", "2024-W52", "2024-12-23", "2024-12-29"),
        ("2021-01-03", "week", "2020-W53", "2020-12-28", "2021-01-03"),
        ("2027-01-01", "week", "2026-W53", "2026-12-28", "2027-01-03"),
        ("2018-12-31", "week", "2019-W01", "2018-12-31", "2019-01-06"),
    ],
)
def test_a_day_has_its_period(
    day: str, every: DigestFrequency, period: str, first: str, last: str
) -> None:
    """A period has a name, a first and a last day; weeks are those of ISO 8601."""
    then = date.fromisoformat(day)
    assert period_containing(then, every) == period
    assert period_bounds(then, every) == (date.fromisoformat(first), date.fromisoformat(last))


@given(day=DAYS, every=st.sampled_from(EVERY))
def test_periods_cover_the_calendar_without_gaps(day: date, every: DigestFrequency) -> None:
    """All days of a period share it, and the day after its last day has the next period."""
    first, last = period_bounds(day, every)
    assert first <= day <= last
    for other in (first, last):
        assert period_containing(other, every) == period_containing(day, every)
        assert period_bounds(other, every) == (first, last)
    following = last + timedelta(days=1)
    assert period_containing(following, every) > period_containing(day, every)
    assert period_bounds(following, every)[0] == following


@pytest.mark.parametrize(
    ("every", "periods"),
    [
        ("day", {"2026-11-22": "5", "2026-11-02": "31", "2026-11-01": "2", "2026-10-31": "04"}),
        ("week", {"2026-W47": "5", "2026-W45": "31", "2026-W44": "204"}),
        ("month", {"2026-11": "5312", "2026-10": "04"}),
    ],
)
def test_posts_are_grouped_newest_first(every: DigestFrequency, periods: dict[str, str]) -> None:
    """Digests and their posts are sorted newest first; empty periods have no digest."""
    dates = ("2026-10-31 22:00", "2026-11-02 08:00", "2026-11-01 12:00", "2026-11-02 20:00")
    found = make_digests(every, *dates, "2026-10-31 03:00", "2026-11-22")
    titles = {
        digest.period: "".join(post.title.removeprefix("Post ") for post in digest.posts)
        for digest in found
    }
    assert list(titles.items()) == list(periods.items())


def test_a_digest_has_its_period_and_url() -> None:
    """A digest has its period, first and last day, and the URL of its page."""
    (digest,) = make_digests("week", "2024-12-31")
    assert (digest.period, digest.every) == ("2025-W01", "week")
    assert (digest.first, digest.last) == (date(2024, 12, 30), date(2025, 1, 5))
    assert digest.url == "https://news.example.com/digest/2025-W01/"


@pytest.mark.parametrize("every", EVERY)
def test_without_posts_there_is_no_digest(every: DigestFrequency) -> None:
    """A site without posts has no digest."""
    assert make_digests(every) == ()


def test_a_day_is_a_local_date_of_the_site() -> None:
    """The period of a post is that of its date in the time zone of the site."""
    (digest,) = make_digests("month", "2026-10-31 23:30 +00:00")
    assert digest.period == "2026-11"


@given(
    days=st.lists(st.dates(date(2020, 12, 20), date(2026, 11, 1)), max_size=12),
    every=st.sampled_from(EVERY),
)
def test_every_post_is_in_exactly_one_digest(days: list[date], every: DigestFrequency) -> None:
    """No digest loses or repeats a post, for any length of period."""
    found = make_digests(every, *(str(day) for day in days))
    titles = sorted(post.title for digest in found for post in digest.posts)
    assert titles == sorted(f"Post {number}" for number in range(len(days)))
    assert [digest.period for digest in found] == sorted(
        {period_containing(day, every) for day in days}, reverse=True
    )
    for digest in found:
        assert all(digest.first <= post.day <= digest.last for post in digest.posts)
