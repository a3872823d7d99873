"""Posts that are visible → the log of their arrivals (delivery rules, rules 2, 7 and 8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime

from attrs import evolve, frozen

from postroom.delivery.clock import Run, arrival_day, pending_since
from postroom.errors import Problem, StoppedError
from postroom.model import Arrival, Frequency, Post, Release


@frozen
class News:
    """What a run knows of a post that is visible now: due, no draft, not expired, not withdrawn.

    `language` is never empty. `written` tells whether the id stands in the post itself; one made
    from the path changes with it.
    """

    id: str
    day: date
    published: datetime
    topics: frozenset[str]
    language: str
    path: str = ""
    written: bool = True


@frozen
class Opening:
    """What a run writes before it plans, in one transaction: nothing of it without the rest.

    Bookmarks moved by a run whose `release` is not stored would pass posts that come later.
    """

    release: Release
    arrivals: tuple[Arrival, ...]
    struck: tuple[int, ...]

    def log(self, before: Sequence[Arrival]) -> tuple[Arrival, ...]:
        """Return the log `before` the run as it stands after the opening."""
        struck = set(self.struck)
        kept = (evolve(one, struck=True) if one.seq in struck else one for one in before)
        return (*kept, *self.arrivals)


def visible(posts: Iterable[Post], language: str, derived: Collection[str] = ()) -> dict[str, News]:
    """Return the news among the published `posts` by id; `language` is that of the newsroom.

    `derived` are the ids that stand in no post but were made from its path.
    """
    return {
        post.id: News(
            id=post.id,
            day=post.day,
            published=post.published,
            topics=frozenset(post.topics),
            language=post.lang or language,
            path=post.path,
            written=post.id not in derived,
        )
        for post in posts
        if post.withdrawn is None
    }


def opening(
    run: Run,
    log: Sequence[Arrival],
    news: Mapping[str, News],
    frequencies: Iterable[Frequency],
    *,
    accept_missing: bool = False,
) -> Opening:
    """Return what `run` writes first: arrivals, strikes and the state row.

    `log` is the whole log, oldest first; for `frequencies` see `pending_since`.
    Raises `StoppedError` if a pending post has no written id, or if at least three and more than
    half of the pending arrivals have vanished and `accept_missing` is false (rule 8).
    """
    # By the previous run's calendar: what goes missing at just the run that passes a boundary
    # would be too old to strike by this run's, and lost with the bookmarks that pass it.
    since = pending_since(frequencies, (run.last or run.release).released)
    pending = [one for one in log if not one.struck and one.day >= since]
    vanished = [one for one in pending if one.post_id not in news]
    arrivals = tuple(_arrivals(run, log, news))
    expected = [one.post_id for one in (*pending, *arrivals) if one.day >= since]
    problems = _unwritten(news[each] for each in expected if each in news)
    if not accept_missing:
        problems += _missing(pending, vanished)
    if problems:
        raise StoppedError(problems)
    return Opening(run.release, arrivals, tuple(one.seq for one in vanished))


def _arrivals(run: Run, log: Sequence[Arrival], news: Mapping[str, News]) -> Iterator[Arrival]:
    """Yield the arrival of every post that is new, or back after it was struck."""
    latest = {one.post_id: one for one in log}
    seq = max((one.seq for one in log), default=0)
    for post in sorted(news.values(), key=lambda one: (one.day, one.published, one.id)):
        known = latest.get(post.id)
        if known is None or known.struck:
            seq += 1
            day = arrival_day(post.day, run)
            first_day = known.first_day if known else day
            yield Arrival(seq, day, post.id, first_day, returned=known is not None)


def _unwritten(expected: Iterable[News]) -> list[Problem]:
    what = "is missing, so under a new name the post would be sent again"
    repair = "run postroom check --fix, and commit what it writes"
    return [
        Problem(one.path, key="id", what=what, repair=repair) for one in expected if not one.written
    ]


def _missing(pending: Sequence[Arrival], vanished: Sequence[Arrival]) -> list[Problem]:
    if len(vanished) < 3 or 2 * len(vanished) <= len(pending):
        return []
    what = f"{len(vanished)} of the {len(pending)} posts of the coming letters have vanished"
    return [Problem("", what=what, repair="bring them back, or repeat with --accept-missing")]
