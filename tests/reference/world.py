"""A newsroom, its subscribers, their mail server, and an oracle that stands outside the rules.

The oracle keeps a log of its own: who pushed what when, what each run could see, who asked for
what, what the server took. From these it says what must and what must not be received; it never
asks the code under test, save for the ledger's word on letters that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import Factory, define, evolve, frozen

from postroom.models import Cursor, Delivery, Frequency, Group, RunState, Subscriber
from postroom.scheduling.rules import (
    VisiblePost,
    advance_run,
    confirmation_cursor,
    is_delivered,
    make_welcome_issue,
    message_key,
    start_cursor,
)
from tests.reference.delivery import Reply, set_start
from tests.reference.ledger import FREQUENCIES, SEND_AT, Crash, Ledger, MemoryLedger, Office

BERLIN = ZoneInfo("Europe/Berlin")
NEVER = datetime.min.replace(tzinfo=UTC)


def berlin(text: str) -> datetime:
    """Return the instant written as `2026-11-22 09:01` by a clock in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def last_boundary(frequency: Frequency, day: date) -> date:
    """Return the oracle's own idea of a boundary: count back to the day that is one."""
    while not (
        frequency in {"day", "post"}
        or (frequency == "week" and day.isoweekday() == 1)
        or (frequency == "month" and day.day == 1)
    ):
        day -= timedelta(days=1)
    return day


@frozen
class Appearance:
    """A run saw a post that it did not see before: which run, and the post's date then."""

    run: int
    day: date
    changed: datetime


@define
class Item:
    """A post as its author left it, and when runs saw it appear."""

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
        """Tell whether it is visible on the date `today`."""
        return self.present and not self.withdrawn and self.day <= today


@define
class Person:
    """What one subscriber asked for, and what the server took for them."""

    id: int
    boundary: date = date.min
    boundary_at: datetime = NEVER
    confirmed_runs: int = 0
    post_runs: int = 0
    unmatched: set[str] = Factory(set)
    received: dict[str, tuple[str, ...]] = Factory(dict)
    letters: list[Delivery] = Factory(list)
    again: set[str] = Factory(set)

    @property
    def posts(self) -> list[str]:
        """All posts received, a letter that came twice on request counted once."""
        return [post for posts in self.received.values() for post in posts]


@define
class World:
    """Everything outside the sender, and the ledger inside. Each event has its own instant."""

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
        """Let time pass until `instant`, if it has not come."""
        self.now = max(self.now, instant)

    def tick(self) -> datetime:
        """Let a second pass; return what the sender's guarded clock should show."""
        self.now += timedelta(seconds=1)
        return max(self.now + self.skew, self.guard)

    def today(self, clock: datetime) -> date:
        """Return the local date at `clock`."""
        return clock.astimezone(self.zone).date()

    def reached(self, clock: datetime) -> date:
        """Return the newest date whose 09:00 has come."""
        local = clock.astimezone(self.zone)
        return local.date() - timedelta(days=0 if local.time() >= SEND_AT else 1)

    def released(self, clock: datetime) -> date:
        """Return the newest date that any run, or one at `clock`, has reached."""
        return max([self.reached(clock), *self.runs])

    def move_to(self, zone: ZoneInfo) -> None:
        """Change the newsroom's zone."""
        if zone != self.zone:
            self.zone, self.zone_changed = zone, self.tick()
            self.settled = datetime.max.replace(tzinfo=UTC)

    # Posts

    def push(
        self, name: str, day: date | None = None, topics: str = "", language: str = "en"
    ) -> None:
        """Publish a post, dated today unless told otherwise."""
        at = self.tick()
        day = day or self.today(at)
        self.items[name] = Item(name, day, frozenset(topics.split()), language, at, at)

    def change(self, name: str, **parts: object) -> None:
        """Edit a post, or take it away or back (`present`, `withdrawn`)."""
        item = self.items[name]
        for part, value in parts.items():
            setattr(item, part, value)
        item.changed = self.tick()

    def news(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Return what a run at `clock` reads from the folder of posts."""
        today = self.today(clock)
        return {
            one.id: VisiblePost(one.id, one.day, one.pushed, one.topics, one.language)
            for one in self.items.values()
            if one.shows(today)
        }

    # Subscribers

    def subscriber(self, who: int) -> Subscriber:
        """Return the stored subscriber."""
        return next(one for one in self.ledger.subscribers() if one.id == who)

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
        back = set_start(subscriber, at)
        self.effects["4 kept on return"] += back.cursor != at
        self.effects["5 not owed"] += any(is_delivered(one, at) for one in self.ledger.log())
        self.effects["12 came back"] += subscriber.state == "unsubscribed"
        self.ledger.save(back)

    def _confirmed(self, person: Person, frequency: Frequency, clock: datetime) -> None:
        if frequency == "post":
            today = self.today(clock)
            self._start(person, today, time())
            person.post_runs = len(self.runs)
        else:
            day = last_boundary(frequency, self.released(clock))
            self._start(person, day, SEND_AT)
        person.confirmed_runs = len(self.runs)

    def _start(self, person: Person, boundary: date, clock: time) -> None:
        if boundary >= person.boundary:
            person.boundary = boundary
            at = datetime.combine(boundary, clock, tzinfo=self.zone)
            person.boundary_at = at.astimezone(UTC)

    def _greet(self, who: int) -> None:
        new = self.subscriber(who)
        group = Group(new.frequency, new.cursor, new.topics, new.language)
        letter = make_welcome_issue(group, self.ledger.log(), self.news(self.now + self.skew))
        if letter:
            self.ledger.insert(Delivery(who, new.issues, letter))

    def prefer(self, who: int, **parts: Any) -> None:
        """Change frequency, topics, language or state."""
        self.tick()
        self.effects["12 paused"] += parts.get("state") == "paused"
        changed = evolve(self.subscriber(who), **parts)
        self.ledger.save(changed)

    def leave(self, who: int) -> None:
        """Unsubscribe."""
        self.prefer(who, state="unsubscribed")

    def come_back(self, who: int) -> None:
        """Confirm again after leaving."""
        self._confirm(self.subscriber(who))

    # Runs

    def run(self, *, yes: bool = False, accept: bool = False, crash: int = 0) -> None:
        """Do a run, which dies before its step number `crash` if that is not 0.

        A run without crash or failing mailbox is a healthy one and is judged as such.
        """
        self.tick()
        self.ledger.pulse = self._pulse(crash)
        try:
            self.ledger.run(self._office(), self.now + self.skew, yes=yes, accept=accept)
        except Crash:
            self.effects["crash"] += 1
        else:
            if not self.fails:
                self._judge_promptness()
        finally:
            self.ledger.pulse = lambda: None
        self._judge_ledger()

    def run_twice(self) -> None:
        """Do a run and another at once, which must find nothing to do."""
        self.run(yes=True, accept=True)
        before = (self.sent, self.ledger.log(), self.ledger.subscribers())
        failed, self.fails = self.fails, {}
        self.run()
        self.fails = failed
        assert (self.sent, self.ledger.log(), self.ledger.subscribers()) == before

    def resend(self) -> None:
        """Send what is uncertain again."""
        self.resending = True
        self.tick()
        self.clock = max(self.guard, self.now + self.skew)
        self.ledger.run_again(self._office(), self.clock)
        self.resending = False
        self._judge_ledger()

    def _office(self) -> Office:
        return Office(self.news, self.zone, self._mail, self._opened)

    def _pulse(self, crash: int) -> Callable[[], None]:
        left = crash

        def pulse() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Crash

        return pulse

    def _opened(self, release: RunState) -> None:
        """Write down what this run, which may yet crash, could see."""
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
        for one in self.ledger.log():
            if one.seq not in self.logged:
                self.logged.add(one.seq)
                self.effects["2 lifted"] += one.day > self.items[one.post_id].day
                self.effects["7 returned"] += one.returned
                had = any(one.post_id in person.posts for person in self.people.values())
                self.effects["7 returned to some"] += one.returned and had

    def _look(self, item: Item, today: date) -> None:
        shows = item.shows(today)
        if shows and not item.seen:
            item.seen_at.append(Appearance(len(self.runs), item.day, item.changed))
        if item.seen and not shows:
            since = min(last_boundary(each, self.runs[-1]) for each in FREQUENCIES)
            # What may be too old to be struck may be missed for good.
            item.lost |= not self._at_least(item.seen_at[-1], since)
        item.seen = shows

    def _match(self) -> None:
        for one in self.ledger.subscribers():
            for item in self.items.values():
                if one.state == "active" and item.seen and not _matches(one, item):
                    self.people[one.id].unmatched.add(item.id)

    # The mail server

    def _mail(self, delivery: Delivery, posts: tuple[str, ...]) -> Reply:
        """Take a letter, or fail; the connection may break and the process die on either side."""
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
        self._judge_letter(person, delivery, posts)
        if self.resending:
            person.again.add(key)
            self.effects["11 sent again"] += 1
        assert key not in person.received or self.resending, "one letter twice"
        person.received[key] = tuple(
            {**dict.fromkeys(person.received.get(key, ())), **dict.fromkeys(posts)}
        )
        assert len(person.posts) == len(set(person.posts)), f"a post twice: {person.received}"
        if not self.resending:
            person.letters.append(delivery)
            self._note_letter(delivery)
        self.sent += 1

    def _note_letter(self, delivery: Delivery) -> None:
        letter = delivery.issue
        self.effects["11 retried"] += delivery.attempts > 0
        self.effects[
            "13 welcome" if letter.frequency == "welcome" else f"3 {letter.frequency}"
        ] += 1
        returned = {one.post_id for one in self.ledger.log() if one.returned}
        self.effects["7 received after return"] += not returned.isdisjoint(letter.posts)

    # The judge

    def _judge_letter(self, person: Person, delivery: Delivery, posts: tuple[str, ...]) -> None:
        letter, subscriber = delivery.issue, self.subscriber(person.id)
        today = self.today(self.clock)
        assert posts, "an empty letter"
        assert subscriber.state == "active"
        for post in posts:
            item = self.items[post]
            assert item.shows(today), "a post that nobody should see"
            if self.resending:
                continue
            if letter.frequency == "welcome":
                assert not self.owes(person, item), "news in a welcome letter"
            else:
                assert _matches(subscriber, item), "not asked for"
                assert not self._old(person, item), "old news"
        if not self.resending:
            self._judge_calendar(person, delivery)

    def _judge_calendar(self, person: Person, delivery: Delivery) -> None:
        letter, frequency = delivery.issue, delivery.issue.frequency
        if frequency == "welcome":
            return
        if frequency == "post":
            earlier = [d.issue.cutoff.seq for d in person.letters if d.issue.frequency == "post"]
            assert all(one < letter.cutoff.seq for one in earlier), "two letters for one arrival"
            return
        boundary = letter.cutoff.date
        assert boundary == last_boundary(frequency, self.runs[-1]), "off-beat"
        periods = {"day", "week", "month"}
        earlier_days = [d.issue.cutoff.date for d in person.letters if d.issue.frequency in periods]
        assert all(one < boundary for one in earlier_days), "two letters for one boundary"
        for post in letter.posts:
            assert any(one.day < boundary for one in self.items[post].seen_at), "too early"

    def _judge_ledger(self) -> None:
        for one in self.ledger.subscribers():
            self._judge_bookmark(self.before.setdefault(one.id, one), one)
            self.before[one.id] = one
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

    def _judge_bookmark(self, was: Subscriber, one: Subscriber) -> None:
        assert one.cursor.date >= was.cursor.date, "a bookmark fell"
        assert one.cursor.seq >= was.cursor.seq, "a bookmark fell"
        assert one.start >= was.start, "a start fell"
        moved = one.cursor != was.cursor and one.issues == was.issues
        self.effects["6 moved without a letter"] += moved

    def _note_row(self, was: Delivery, row: Delivery) -> None:
        other = was.issue != row.issue
        self.effects["9 replaced"] += other and was.state == "planned"
        self.effects["10 dead"] += was.state == "sending" and row.state == "uncertain"
        self.effects["10 planned after a bounce"] += other and was.state == "bounced"
        self.effects["11 replaced when deferred"] += other and was.state == "deferred"

    def _at_least(self, seen: Appearance, day: date) -> bool:
        """Tell whether what appeared then surely counts as of `day` or later."""
        return seen.day >= day or any(each >= day for each in self.runs[: seen.run])

    def _surely_before(self, seen: Appearance, day: date) -> bool:
        latest = max([seen.day, *self.runs[: seen.run]])
        if self.zone_changed != NEVER:
            latest += timedelta(days=2)
        return latest < day

    def _old(self, person: Person, item: Item) -> bool:
        """Tell whether a post was news before the boundary from which the person asked for it."""
        if not item.seen_at:
            return False
        first = item.seen_at[0]
        if first.run < person.post_runs and len(item.seen_at) == 1:
            return True
        if first.run < person.confirmed_runs or first.changed < person.boundary_at:
            return self._surely_before(first, person.boundary)
        return False

    def owes(self, person: Person, item: Item) -> bool:
        """Tell whether a post is surely owed, sooner or later."""
        if not item.seen_at or item.lost or item.id in person.unmatched:
            return False
        if item.seen_at[0].run < person.post_runs:
            return False
        return all(self._at_least(each, person.boundary) for each in item.seen_at)

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
        """Return the posts that are owed and were not received."""
        person = self.people[who]
        gone = self._excused(person).union(person.posts)
        return [
            item.id for item in self.items.values()
            if item.seen and self.owes(person, item) and item.id not in gone
        ]  # fmt: skip

    def _judge_promptness(self) -> None:
        """After a healthy run nobody waits for what was there before the boundary's hour."""
        stuck = {
            r.subscriber for r in self.ledger.deliveries() if r.state in {"deferred", "bounced"}
        }
        for one in self.ledger.subscribers():
            if one.state == "active" and one.id not in stuck:
                late = [
                    post for post in self.missing(one.id) if self._in_time(one, self.items[post])
                ]
                assert not late, f"{one} waits for {late}"

    def _in_time(self, subscriber: Subscriber, item: Item) -> bool:
        if subscriber.frequency == "post":
            return True
        seen = item.seen_at[-1]
        boundary = last_boundary(subscriber.frequency, self.runs[-1])
        at = datetime.combine(boundary, SEND_AT, tzinfo=self.zone)
        settled = self.zone_changed == NEVER or seen.changed - self.settled > timedelta(days=3)
        return settled and seen.day < boundary and seen.changed < at

    def heal(self) -> None:
        """Bring all back, let two long months pass, and find nothing owed missing."""
        self.fails, self.skew = {}, timedelta()
        self.to(self.guard)
        for item in self.items.values():
            item.present, item.withdrawn = True, False
            item.changed = self.tick()
        for one in self.ledger.subscribers():
            if one.state == "paused":
                self.prefer(one.id, state="active")
        begin = self.now
        for days in (0, 41, 82):
            self.to(begin + timedelta(days=days))
            self.run(yes=True, accept=True)
            # What bounced waits for something newer; what is newest of all waits for a boundary.
            self.push(f"healed {days}")
        for one in self.ledger.subscribers():
            if one.state == "active":
                assert not self.missing(one.id), f"{one} misses {self.missing(one.id)}"


def _matches(subscriber: Subscriber, item: Item) -> bool:
    by_topic = not subscriber.topics or bool(subscriber.topics & item.topics)
    return by_topic and subscriber.language in {"", item.language}
