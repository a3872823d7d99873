"""A site, its subscribers, their mail server, and an oracle that does not use the rules.

The oracle records the posts with their times, the posts visible to each run, the preferences and
the received emails. From these it derives the posts that must and must not be received. It does
not ask the code under test, except for the state of deliveries that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import Factory, define, evolve, frozen

from postroom.models import Cursor, Frequency, Group, RunState, Subscriber
from postroom.scheduling.rules import (
    VisiblePost,
    advance_run,
    confirmation_cursor,
    is_delivered,
    make_welcome_issue,
    message_key,
    start_cursor,
)
from tests.reference.delivery import Delivery, Reply, set_start
from tests.reference.ledger import FREQUENCIES, SEND_AT, Crash, Ledger, MemoryLedger, RunContext

BERLIN = ZoneInfo("Europe/Berlin")
NEVER = datetime.min.replace(tzinfo=UTC)


def berlin(text: str) -> datetime:
    """Return the instant written as `2026-11-22 09:01` by a clock in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def last_cutoff(frequency: Frequency, day: date) -> date:
    """Return the last cutoff on or before `day`, found by counting back day by day."""
    while not (
        frequency in {"day", "post"}
        or (frequency == "week" and day.isoweekday() == 1)
        or (frequency == "month" and day.day == 1)
    ):
        day -= timedelta(days=1)
    return day


@frozen
class Appearance:
    """The number of a run that saw a post anew, with the date of the post in that run."""

    run: int
    day: date
    changed: datetime


@define
class Item:
    """A post in its current version, and its appearances in runs."""

    id: str
    day: date
    topics: frozenset[str]
    language: str
    pushed: datetime
    changed: datetime
    present: bool = True
    withdrawn: bool = False
    seen: bool = False
    seen_at: list[Appearance] = Factory(list)
    lost: bool = False

    def shows(self, today: date) -> bool:
        """Tell whether the post is visible on the date `today`."""
        return self.present and not self.withdrawn and self.day <= today


@define
class Person:
    """The preferences of a subscriber, and the emails that the server accepted for them."""

    id: int
    cutoff: date = date.min
    cutoff_at: datetime = NEVER
    confirmed_runs: int = 0
    post_runs: int = 0
    unmatched: set[str] = Factory(set)
    received: dict[str, tuple[str, ...]] = Factory(dict)
    # A search with `derandomize` is seeded by the source of its test, which uses this name.
    letters: list[Delivery] = Factory(list)
    again: set[str] = Factory(set)

    @property
    def posts(self) -> list[str]:
        """All received posts; an email that was sent again on request counts once."""
        return [post for posts in self.received.values() for post in posts]


@define
class World:
    """Everything outside the program, and its ledger. Each event has its own instant."""

    now: datetime
    ledger: Ledger = Factory(MemoryLedger)
    zone: ZoneInfo = BERLIN
    skew: timedelta = timedelta()
    items: dict[str, Item] = Factory(dict)
    people: dict[int, Person] = Factory(dict)
    effects: Counter[str] = Factory(Counter)
    guard: datetime = NEVER
    runs: list[date] = Factory(list)
    zone_changed: datetime = NEVER
    settled: datetime = NEVER
    fails: dict[int, str] = Factory(dict)
    resending: bool = False
    clock: datetime = NEVER
    before: dict[int, Subscriber] = Factory(dict)
    rows: dict[tuple[int, int], Delivery] = Factory(dict)
    logged: set[int] = Factory(set)
    sent: int = 0

    # Time

    def to(self, instant: datetime) -> None:
        """Advance the time to `instant`, unless it is past."""
        self.now = max(self.now, instant)

    def tick(self) -> datetime:
        """Advance the time by a second; return the expected guarded clock of a run."""
        self.now += timedelta(seconds=1)
        return max(self.now + self.skew, self.guard)

    def today(self, clock: datetime) -> date:
        """Return the local date at `clock`."""
        return clock.astimezone(self.zone).date()

    def reached(self, clock: datetime) -> date:
        """Return the newest date whose 09:00 is past."""
        local = clock.astimezone(self.zone)
        return local.date() - timedelta(days=0 if local.time() >= SEND_AT else 1)

    def released(self, clock: datetime) -> date:
        """Return the newest date that any run, or a run at `clock`, has reached."""
        return max([self.reached(clock), *self.runs])

    def move_to(self, zone: ZoneInfo) -> None:
        """Change the time zone of the site."""
        if zone != self.zone:
            self.zone, self.zone_changed = zone, self.tick()
            self.settled = datetime.max.replace(tzinfo=UTC)

    # Posts

    def push(
        self, name: str, day: date | None = None, topics: str = "", language: str = "en"
    ) -> None:
        """Publish a post, dated today by default."""
        at = self.tick()
        day = day or self.today(at)
        self.items[name] = Item(name, day, frozenset(topics.split()), language, at, at)

    def change(self, name: str, **parts: object) -> None:
        """Edit, remove or restore a post (`present`, `withdrawn`)."""
        item = self.items[name]
        for part, value in parts.items():
            setattr(item, part, value)
        item.changed = self.tick()

    def news(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Return the posts that a run at `clock` reads from the folder."""
        today = self.today(clock)
        return {
            item.id: VisiblePost(item.id, item.day, item.pushed, item.topics, item.language)
            for item in self.items.values()
            if item.shows(today)
        }

    # Subscribers

    def subscriber(self, who: int) -> Subscriber:
        """Return the stored subscriber."""
        return next(each for each in self.ledger.subscribers() if each.id == who)

    def _release(self) -> RunState:
        now, last = self.now + self.skew, self.ledger.release()
        return advance_run(last, now, self.zone, SEND_AT, yes=True).state

    def _last_seq(self) -> int:
        log = self.ledger.log()
        return log[-1].seq if log else 0

    def join(
        self,
        frequency: Frequency,
        topics: str = "",
        language: str = "",
        since: date | None = None,
        *,
        greet: bool = False,
    ) -> int:
        """Confirm a new subscriber, or import one from `since`; return the id."""
        who = len(self.people) + 1
        new = Subscriber(
            who, f"{who}@example.com", "pending", frequency,
            frozenset(topics.split()), language, Cursor(date.min), date.min,
        )  # fmt: skip
        self.people[who] = Person(who)
        self._confirm(new, since)
        if greet:
            self._greet(who)
        return who

    def _confirm(self, subscriber: Subscriber, since: date | None = None) -> None:
        clock = self.tick()
        person = self.people[subscriber.id]
        release = self._release()
        if since is not None:
            at = start_cursor(since, release)
            self._start(person, since, time())
        else:
            at = confirmation_cursor(subscriber.frequency, release, self._last_seq())
            self._confirmed(person, subscriber.frequency, clock)
        confirmed = set_start(subscriber, at)
        self.effects["4 kept on return"] += confirmed.cursor != at
        self.effects["5 not owed"] += any(is_delivered(entry, at) for entry in self.ledger.log())
        self.effects["12 came back"] += subscriber.state == "unsubscribed"
        self.ledger.save(confirmed)

    def _confirmed(self, person: Person, frequency: Frequency, clock: datetime) -> None:
        if frequency == "post":
            today = self.today(clock)
            self._start(person, today, time())
            person.post_runs = len(self.runs)
        else:
            day = last_cutoff(frequency, self.released(clock))
            self._start(person, day, SEND_AT)
        person.confirmed_runs = len(self.runs)

    def _start(self, person: Person, cutoff: date, clock: time) -> None:
        if cutoff >= person.cutoff:
            person.cutoff = cutoff
            at = datetime.combine(cutoff, clock, tzinfo=self.zone)
            person.cutoff_at = at.astimezone(UTC)

    def _greet(self, who: int) -> None:
        new = self.subscriber(who)
        group = Group(new.frequency, new.cursor, new.topics, new.language)
        issue = make_welcome_issue(group, self.ledger.log(), self.news(self.now + self.skew))
        if issue:
            self.ledger.insert(Delivery(who, new.issues, issue))

    def prefer(self, who: int, **parts: Any) -> None:
        """Change frequency, topics, language or state."""
        self.tick()
        self.effects["12 paused"] += parts.get("state") == "paused"
        changed = evolve(self.subscriber(who), **parts)
        self.ledger.save(changed)

    def unsubscribe(self, who: int) -> None:
        """Unsubscribe a subscriber."""
        self.prefer(who, state="unsubscribed")

    def confirm_again(self, who: int) -> None:
        """Confirm a subscriber again after an unsubscription."""
        self._confirm(self.subscriber(who))

    # Runs

    def run(self, *, yes: bool = False, accept: bool = False, crash: int = 0) -> None:
        """Do a run, which crashes before its step number `crash` unless that is 0.

        The oracle checks that a run without crash or failing mailbox is prompt.
        """
        self.tick()
        self.ledger.pulse = self._pulse(crash)
        try:
            self.ledger.run(self._context(), self.now + self.skew, yes=yes, accept=accept)
        except Crash:
            self.effects["crash"] += 1
        else:
            if not self.fails:
                self._check_promptness()
        finally:
            self.ledger.pulse = lambda: None
        self._check_ledger()

    def run_twice(self) -> None:
        """Do two runs, the second of which must change nothing."""
        self.run(yes=True, accept=True)
        before = (self.sent, self.ledger.log(), self.ledger.subscribers())
        failed, self.fails = self.fails, {}
        self.run()
        self.fails = failed
        assert (self.sent, self.ledger.log(), self.ledger.subscribers()) == before

    def resend(self) -> None:
        """Send uncertain deliveries again."""
        self.resending = True
        self.tick()
        self.clock = max(self.guard, self.now + self.skew)
        self.ledger.run_again(self._context(), self.clock)
        self.resending = False
        self._check_ledger()

    def _context(self) -> RunContext:
        return RunContext(self.news, self.zone, self._mail, self._opened)

    def _pulse(self, crash: int) -> Callable[[], None]:
        remaining = crash

        def pulse() -> None:
            nonlocal remaining
            remaining -= 1
            if remaining == 0:
                raise Crash

        return pulse

    def _opened(self, release: RunState) -> None:
        """Record the posts that are visible to this run, which may crash later."""
        system = self.now + self.skew
        self.effects["1 clock guarded"] += system < self.guard
        self.guard = self.clock = max(self.guard, system)
        self.settled = min(self.settled, self.guard)
        released = self.released(self.guard)
        assert release.released == released
        assert release.clock == self.guard
        today = self.today(self.guard)
        for item in self.items.values():
            self._look(item, today)
        self.runs.append(released)
        self._match()
        self._note_opening(release)

    def _note_opening(self, release: RunState) -> None:
        self.effects["14 floor of the old zone"] += release.floor > release.released
        for entry in self.ledger.log():
            if entry.seq not in self.logged:
                self.logged.add(entry.seq)
                self.effects["2 lifted"] += entry.day > self.items[entry.post_id].day
                self.effects["7 returned"] += entry.returned
                had = any(entry.post_id in person.posts for person in self.people.values())
                self.effects["7 returned to some"] += entry.returned and had

    def _look(self, item: Item, today: date) -> None:
        shows = item.shows(today)
        if shows and not item.seen:
            item.seen_at.append(Appearance(len(self.runs), item.day, item.changed))
        if item.seen and not shows:
            since = min(last_cutoff(each, self.runs[-1]) for each in FREQUENCIES)
            # A post that may be too old to be retracted may be lost.
            item.lost |= not self._at_least(item.seen_at[-1], since)
        item.seen = shows

    def _match(self) -> None:
        for subscriber in self.ledger.subscribers():
            for item in self.items.values():
                if subscriber.state == "active" and item.seen and not _matches(subscriber, item):
                    self.people[subscriber.id].unmatched.add(item.id)

    # The mail server

    def _mail(self, delivery: Delivery, posts: tuple[str, ...]) -> Reply:
        """Accept or refuse an email; the connection or the process may fail before or after."""
        self.ledger.pulse()
        failure = self.fails.get(delivery.subscriber, "")
        if failure in {"deferred", "bounced"}:
            return "deferred" if failure == "deferred" else "bounced"
        if failure != "lost":
            self._take(delivery, posts)
        self.ledger.pulse()
        return "uncertain" if failure in {"lost", "broken"} else "sent"

    def _take(self, delivery: Delivery, posts: tuple[str, ...]) -> None:
        person = self.people[delivery.subscriber]
        key = message_key(delivery.subscriber, delivery.issue)
        self._check_email(person, delivery, posts)
        if self.resending:
            person.again.add(key)
            self.effects["11 sent again"] += 1
        assert key not in person.received or self.resending, "an email twice"
        person.received[key] = tuple(
            {**dict.fromkeys(person.received.get(key, ())), **dict.fromkeys(posts)}
        )
        assert len(person.posts) == len(set(person.posts)), f"a post twice: {person.received}"
        if not self.resending:
            person.letters.append(delivery)
            self._note_email(delivery)
        self.sent += 1

    def _note_email(self, delivery: Delivery) -> None:
        issue = delivery.issue
        self.effects["11 retried"] += delivery.attempts > 0
        self.effects["13 welcome" if issue.frequency == "welcome" else f"3 {issue.frequency}"] += 1
        returned = {entry.post_id for entry in self.ledger.log() if entry.returned}
        self.effects["7 received after return"] += not returned.isdisjoint(issue.posts)

    # The oracle

    def _check_email(self, person: Person, delivery: Delivery, posts: tuple[str, ...]) -> None:
        issue, subscriber = delivery.issue, self.subscriber(person.id)
        today = self.today(self.clock)
        assert posts, "an empty email"
        assert subscriber.state == "active"
        for post in posts:
            item = self.items[post]
            assert item.shows(today), "a post that is not visible"
            if self.resending:
                continue
            if issue.frequency == "welcome":
                assert not self.is_due(person, item), "a due post in a welcome issue"
            else:
                assert _matches(subscriber, item), "a post that does not match"
                assert not self._old(person, item), "an old post"
        if not self.resending:
            self._check_calendar(person, delivery)

    def _check_calendar(self, person: Person, delivery: Delivery) -> None:
        issue, frequency = delivery.issue, delivery.issue.frequency
        if frequency == "welcome":
            return
        if frequency == "post":
            earlier = [d.issue.cutoff.seq for d in person.letters if d.issue.frequency == "post"]
            assert all(seq < issue.cutoff.seq for seq in earlier), "two issues for one log entry"
            return
        cutoff = issue.cutoff.date
        assert cutoff == last_cutoff(frequency, self.runs[-1]), "a wrong cutoff"
        periods = {"day", "week", "month"}
        earlier_days = [d.issue.cutoff.date for d in person.letters if d.issue.frequency in periods]
        assert all(day < cutoff for day in earlier_days), "two issues for one cutoff"
        for post in issue.posts:
            assert any(seen.day < cutoff for seen in self.items[post].seen_at), "too early"

    def _check_ledger(self) -> None:
        for subscriber in self.ledger.subscribers():
            self._check_cursor(self.before.setdefault(subscriber.id, subscriber), subscriber)
            self.before[subscriber.id] = subscriber
        rows = self.ledger.deliveries()
        for row in rows:
            self._note_row(self.rows.get((row.subscriber, row.number), row), row)
            self.rows[row.subscriber, row.number] = row
        for who, person in self.people.items():
            mine = [row for row in rows if row.subscriber == who]
            sent = {message_key(who, row.issue) for row in mine if row.state == "sent"}
            unsure = {
                message_key(who, row.issue) for row in mine if row.state in {"uncertain", "sending"}
            }
            assert sent <= set(person.received), "sent, but never received"
            assert set(person.received) <= sent | unsure, "received, but not recorded"

    def _check_cursor(self, was: Subscriber, now: Subscriber) -> None:
        assert now.cursor.date >= was.cursor.date, "a cursor fell"
        assert now.cursor.seq >= was.cursor.seq, "a cursor fell"
        assert now.start >= was.start, "a start fell"
        moved = now.cursor != was.cursor and now.issues == was.issues
        self.effects["6 moved without a letter"] += moved

    def _note_row(self, was: Delivery, row: Delivery) -> None:
        other = was.issue != row.issue
        self.effects["9 replaced"] += other and was.state == "planned"
        self.effects["10 dead"] += was.state == "sending" and row.state == "uncertain"
        self.effects["10 planned after a bounce"] += other and was.state == "bounced"
        self.effects["11 replaced when deferred"] += other and was.state == "deferred"

    def _at_least(self, seen: Appearance, day: date) -> bool:
        """Tell whether a post of this appearance surely counts as of `day` or later."""
        return seen.day >= day or any(each >= day for each in self.runs[: seen.run])

    def _surely_before(self, seen: Appearance, day: date) -> bool:
        latest = max([seen.day, *self.runs[: seen.run]])
        if self.zone_changed != NEVER:
            latest += timedelta(days=2)
        return latest < day

    def _old(self, person: Person, item: Item) -> bool:
        """Tell whether a post was published before the first cutoff of the person."""
        if not item.seen_at:
            return False
        first = item.seen_at[0]
        if first.run < person.post_runs and len(item.seen_at) == 1:
            return True
        if first.run < person.confirmed_runs or first.changed < person.cutoff_at:
            return self._surely_before(first, person.cutoff)
        return False

    def is_due(self, person: Person, item: Item) -> bool:
        """Tell whether a post is surely due at some time."""
        if not item.seen_at or item.lost or item.id in person.unmatched:
            return False
        if item.seen_at[0].run < person.post_runs:
            return False
        return all(self._at_least(each, person.cutoff) for each in item.seen_at)

    def _excused(self, person: Person) -> frozenset[str]:
        rows = [row for row in self.ledger.deliveries() if row.subscriber == person.id]
        unsure = [row for row in rows if row.state == "uncertain"]
        again = {
            post
            for row in rows
            if message_key(person.id, row.issue) in person.again
            for post in row.issue.posts
        }
        return frozenset(again.union(*(row.issue.posts for row in unsure)))

    def missing(self, who: int) -> list[str]:
        """Return the due posts that were not received."""
        person = self.people[who]
        gone = self._excused(person).union(person.posts)
        return [
            item.id for item in self.items.values()
            if item.seen and self.is_due(person, item) and item.id not in gone
        ]  # fmt: skip

    def _check_promptness(self) -> None:
        """Check that a run without failures sends all posts published before the cutoff."""
        stuck = {
            r.subscriber for r in self.ledger.deliveries() if r.state in {"deferred", "bounced"}
        }
        for subscriber in self.ledger.subscribers():
            if subscriber.state == "active" and subscriber.id not in stuck:
                late = [
                    post
                    for post in self.missing(subscriber.id)
                    if self._in_time(subscriber, self.items[post])
                ]
                assert not late, f"{subscriber} waits for {late}"

    def _in_time(self, subscriber: Subscriber, item: Item) -> bool:
        if subscriber.frequency == "post":
            return True
        seen = item.seen_at[-1]
        cutoff = last_cutoff(subscriber.frequency, self.runs[-1])
        at = datetime.combine(cutoff, SEND_AT, tzinfo=self.zone)
        settled = self.zone_changed == NEVER or seen.changed - self.settled > timedelta(days=3)
        return settled and seen.day < cutoff and seen.changed < at

    def heal(self) -> None:
        """Restore all posts, advance two long months, and check that no due post is missing."""
        self.fails, self.skew = {}, timedelta()
        self.to(self.guard)
        for item in self.items.values():
            item.present, item.withdrawn = True, False
            item.changed = self.tick()
        for subscriber in self.ledger.subscribers():
            if subscriber.state == "paused":
                self.prefer(subscriber.id, state="active")
        begin = self.now
        for days in (0, 41, 82):
            self.to(begin + timedelta(days=days))
            self.run(yes=True, accept=True)
            # A bounced delivery waits for a newer post, and the newest post waits for a cutoff.
            self.push(f"healed {days}")
        for subscriber in self.ledger.subscribers():
            if subscriber.state == "active":
                missing = self.missing(subscriber.id)
                assert not missing, f"{subscriber} misses {missing}"


def _matches(subscriber: Subscriber, item: Item) -> bool:
    by_topic = not subscriber.topics or bool(subscriber.topics & item.topics)
    return by_topic and subscriber.language in {"", item.language}
