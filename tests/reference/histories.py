"""Random histories of a newsroom: steps drawn with weights, aimed at the hours that matter.

With equal weights, or with times drawn evenly, a search finds next to nothing: a failure needs a
run on the right side of an hour, between two posts, for someone who asked for a change before.
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
STARTS = [berlin(one) for one in ("2026-10-20 12:00", "2026-11-27 12:00", "2027-03-20 12:00")]
TOPICS = ["x", "y", "x y", ""]
LANGUAGES = ["en", "en", "en", "de"]
HOURS = [time(23, 59), time(0, 1), time(8, 59), time(9, 1)]


@frozen
class Step:
    """One event, and what it needs to know; each number is taken modulo what there is."""

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
    """Let the steps happen to a new newsroom, then heal it; the world judges as they happen."""
    world = World(STARTS[start % len(STARTS)], ledger)
    world.join(FREQUENCIES[start % 4])
    for step in steps:
        _MOVES[step.kind](world, step)
    world.heal()
    return world


def _run(world: World, step: Step) -> None:
    """Let time pass and do a run: healthy, doubled, crashing, failing, late or not at all."""
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
    """Return an instant to go to, mostly just before or after an hour that decides something."""
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
    return next((one for one in CHANGES if one >= today), today)


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
    """Return the posts that fit, the newest first: those decide more."""
    return [one for one in reversed(world.items.values()) if fits(one)]


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
    if item := _pick(_items(world, lambda one: one.present and not one.withdrawn), step.a):
        world.change(item.id, **part)


def _vanish_all(world: World, step: Step) -> None:
    for item in _items(world, lambda one: one.present)[: 3 + step.a]:
        world.change(item.id, present=False)


def _restore(world: World, step: Step) -> None:
    gone = _items(world, lambda one: not one.present or one.withdrawn)
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


def _someone(world: World, number: int, state: str) -> Subscriber | None:
    found = [one for one in world.ledger.subscribers() if one.state == state]
    return found[number % len(found)] if found else None


def _frequency(world: World, step: Step) -> None:
    if one := _someone(world, step.a, "active"):
        frequency: Frequency = FREQUENCIES[step.b % 4]
        world.prefer(one.id, frequency=frequency)


def _topics(world: World, step: Step) -> None:
    if one := _someone(world, step.a, "active"):
        world.prefer(one.id, topics=frozenset(TOPICS[step.b % 4].split()))


def _leave(world: World, step: Step) -> None:
    if one := _someone(world, step.a, "active"):
        world.leave(one.id)


def _come_back(world: World, step: Step) -> None:
    if one := _someone(world, step.a, "unsubscribed"):
        if step.b % 2:
            world.prefer(one.id, frequency=FREQUENCIES[step.c % 4])
        world.come_back(one.id)


def _pause(world: World, step: Step) -> None:
    if one := _someone(world, step.a, "active"):
        world.prefer(one.id, state="paused")


def _resume(world: World, step: Step) -> None:
    if one := _someone(world, step.a, "paused"):
        world.prefer(one.id, state="active")


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
    "leave": _leave,
    "come_back": _come_back,
    "pause": _pause,
    "resume": _resume,
    "zone": _zone,
    "clock": _clock,
    "resend": _resend,
}
