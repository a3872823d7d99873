"""Random histories of a site: weighted steps at times near the hours that decide something.

With equal weights or evenly drawn times a search finds almost nothing: a failure needs a run
shortly before or after an hour, between two posts, for a subscriber with changed preferences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from attrs import frozen
from hypothesis import strategies as st

from postroom.errors import StoppedError
from postroom.models import Frequency, Subscriber
from tests.reference.ledger import FREQUENCIES, Ledger
from tests.reference.world import BERLIN, Item, World, berlin

ZONES = [
    BERLIN,
    *map(ZoneInfo, ["America/New_York", "Asia/Shanghai", "Pacific/Kiritimati", "Pacific/Honolulu"]),
]
STARTS = [berlin(text) for text in ("2026-10-20 12:00", "2026-11-27 12:00", "2027-03-20 12:00")]
TOPICS = ["x", "y", "x y", ""]
LANGUAGES = ["en", "en", "en", "de"]
HOURS = [time(23, 59), time(0, 1), time(8, 59), time(9, 1)]


@frozen
class Step:
    """One event with its parameters; each number is taken modulo the number of choices."""

    kind: str
    a: int
    b: int
    c: int


WEIGHTS = {
    "run": 30,
    "push": 14,
    "backdate": 5,
    "future": 2,
    "retopic": 2,
    "redate": 4,
    "vanish": 7,
    "vanish_all": 1,
    "restore": 6,
    "join": 8,
    "import": 1,
    "frequency": 6,
    "topics": 3,
    "leave": 3,
    "come_back": 4,
    "pause": 2,
    "resume": 2,
    "zone": 1,
    "clock": 2,
    "resend": 1,
}
_NUMBER = st.integers(0, 59)
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([kind for kind, weight in WEIGHTS.items() for _ in range(weight)]),
        _NUMBER,
        _NUMBER,
        _NUMBER,
    ),
    min_size=8,
    max_size=40,
)


def play(steps: Iterable[Step], start: int, ledger: Ledger) -> World:
    """Apply the steps to a new site, then heal it; the world checks every step."""
    world = World(STARTS[start % len(STARTS)], ledger)
    world.join(FREQUENCIES[start % 4])
    for step in steps:
        _MOVES[step.kind](world, step)
    world.heal()
    return world


def _run(world: World, step: Step) -> None:
    """Advance the time and do a run: normal, doubled, crashing, failing, late or none."""
    world.to(_aim(world, step.a, step.b))
    mode = step.c % 12
    world.fails = _failures(world, step.b) if mode in {8, 9} else {}
    try:
        if mode < 5:
            world.run()
        elif mode == 5:
            world.run_twice()
        elif mode < 10:
            world.run(crash=1 + step.b % 12 if mode < 8 else 0)
        elif mode == 10:
            world.run(yes=True, accept=True)
    except StoppedError as stop:
        world.effects["15 clock ahead" if "clock" in str(stop) else "8 vanished"] += 1
    world.fails = {}


def _failures(world: World, seed: int) -> dict[int, str]:
    kinds = ["deferred", "bounced", "broken", "lost", ""]
    return {who: kinds[(seed + who) % 5] for who in world.people}


CHANGES = [date(2026, 10, 25), date(2026, 11, 1), date(2027, 3, 28)]
"""Days on which Berlin or New York changes its offset."""


def _aim(world: World, where: int, by: int) -> datetime:
    """Return the next instant, mostly just before or after an hour that decides something."""
    if where < 12:
        return world.now + timedelta(minutes=by)
    if where == 59:
        return world.now + timedelta(days=41)
    if where > 54:
        return world.now + timedelta(days=by % 9, hours=by)
    hours = HOURS if where < 50 else [time(2, 30), time(3, 1), *HOURS]
    day = _aimed_day(world.today(world.now), where)
    return datetime.combine(day, hours[by % len(hours)], tzinfo=world.zone).astimezone(UTC)


def _aimed_day(today: date, where: int) -> date:
    if where < 30:
        return today + timedelta(days=where % 3)
    if where < 38:
        return today + timedelta(days=7 - today.weekday() - where % 2)
    if where < 50:
        first = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        return first - timedelta(days=where % 2)
    return next((change for change in CHANGES if change >= today), today)


def _push(world: World, step: Step) -> None:
    _new(world, step, 0)


def _backdate(world: World, step: Step) -> None:
    _new(world, step, -1 - step.b % 30)


def _future(world: World, step: Step) -> None:
    _new(world, step, 1 + step.b % 12)


def _new(world: World, step: Step, days: int) -> None:
    day = world.today(world.now + world.skew) + timedelta(days=days)
    name = f"{step.kind}-{len(world.items)}"
    world.push(name, day, TOPICS[step.a % 4], LANGUAGES[step.c % 4])


def _items(world: World, fits: Callable[[Item], bool]) -> list[Item]:
    """Return the posts that fit, newest first, because the newest decide more."""
    return [item for item in reversed(world.items.values()) if fits(item)]


def _pick(found: list[Item], number: int) -> Item | None:
    return found[min(number % 4, len(found) - 1)] if found else None


def _retopic(world: World, step: Step) -> None:
    if item := _pick(_items(world, lambda _: True), step.a):
        world.change(item.id, topics=frozenset(TOPICS[step.b % 4].split()))


def _redate(world: World, step: Step) -> None:
    if item := _pick(_items(world, lambda _: True), step.a):
        world.change(item.id, day=world.today(world.now) + timedelta(days=step.b % 40 - 28))


def _vanish(world: World, step: Step) -> None:
    part = {"present": False} if step.b % 2 else {"withdrawn": True}
    if item := _pick(_items(world, lambda item: item.present and not item.withdrawn), step.a):
        world.change(item.id, **part)


def _vanish_all(world: World, step: Step) -> None:
    for item in _items(world, lambda item: item.present)[: 3 + step.a]:
        world.change(item.id, present=False)


def _restore(world: World, step: Step) -> None:
    gone = _items(world, lambda item: not item.present or item.withdrawn)
    for item in gone[: 1 + step.a % 4]:
        world.change(item.id, present=True, withdrawn=False)


def _join(world: World, step: Step) -> None:
    if len(world.people) < 6:
        language = "en" if step.c % 5 == 0 else ""
        topics = TOPICS[step.b % 4] if step.b % 3 == 0 else ""
        world.join(FREQUENCIES[step.a % 4], topics, language, greet=step.c % 3 == 0)


def _import(world: World, step: Step) -> None:
    if len(world.people) < 6:
        since = world.today(world.now + world.skew) - timedelta(days=step.b + 3)
        world.join(FREQUENCIES[step.a % 4], since=since)


def _find_subscriber(world: World, number: int, state: str) -> Subscriber | None:
    found = [each for each in world.ledger.subscribers() if each.state == state]
    return found[number % len(found)] if found else None


def _frequency(world: World, step: Step) -> None:
    if subscriber := _find_subscriber(world, step.a, "active"):
        frequency: Frequency = FREQUENCIES[step.b % 4]
        world.prefer(subscriber.id, frequency=frequency)


def _topics(world: World, step: Step) -> None:
    if subscriber := _find_subscriber(world, step.a, "active"):
        world.prefer(subscriber.id, topics=frozenset(TOPICS[step.b % 4].split()))


def _unsubscribe(world: World, step: Step) -> None:
    if subscriber := _find_subscriber(world, step.a, "active"):
        world.unsubscribe(subscriber.id)


def _confirm_again(world: World, step: Step) -> None:
    if subscriber := _find_subscriber(world, step.a, "unsubscribed"):
        if step.b % 2:
            world.prefer(subscriber.id, frequency=FREQUENCIES[step.c % 4])
        world.confirm_again(subscriber.id)


def _pause(world: World, step: Step) -> None:
    if subscriber := _find_subscriber(world, step.a, "active"):
        world.prefer(subscriber.id, state="paused")


def _resume(world: World, step: Step) -> None:
    if subscriber := _find_subscriber(world, step.a, "paused"):
        world.prefer(subscriber.id, state="active")


def _zone(world: World, step: Step) -> None:
    world.move_to(ZONES[step.a % len(ZONES)])


def _clock(world: World, step: Step) -> None:
    hours = [0, 0, 0, -1, 1, -24, -24, -26, -24 * 40, 24 * 3]
    world.skew = timedelta(hours=hours[step.a % len(hours)])


def _resend(world: World, step: Step) -> None:
    world.fails = _failures(world, step.b) if step.a % 3 == 0 else {}
    world.resend()
    world.fails = {}


_MOVES: Mapping[str, Callable[[World, Step], None]] = {
    "run": _run,
    "push": _push,
    "backdate": _backdate,
    "future": _future,
    "retopic": _retopic,
    "redate": _redate,
    "vanish": _vanish,
    "vanish_all": _vanish_all,
    "restore": _restore,
    "join": _join,
    "import": _import,
    "frequency": _frequency,
    "topics": _topics,
    "leave": _unsubscribe,
    "come_back": _confirm_again,
    "pause": _pause,
    "resume": _resume,
    "zone": _zone,
    "clock": _clock,
    "resend": _resend,
}
