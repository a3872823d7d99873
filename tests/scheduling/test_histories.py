"""Random histories, checked by an oracle: each subscriber receives each due post once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.models import Issue
from tests.reference.histories import STEPS, Step, play
from tests.reference.ledger import FREQUENCIES, MemoryLedger
from tests.reference.world import World, berlin

FEW, MANY = 1000, 20_000
SLOW = pytest.param(MANY, marks=pytest.mark.slow)
EFFECTS = [
    "1 clock guarded",
    "2 lifted",
    "3 post",
    "3 day",
    "3 week",
    "3 month",
    "4 kept on return",
    "5 not owed",
    "6 moved without a letter",
    "7 returned",
    "7 returned to some",
    "7 received after return",
    "8 vanished",
    "9 replaced",
    "10 dead",
    "10 planned after a bounce",
    "11 retried",
    "11 replaced when deferred",
    "11 sent again",
    "12 came back",
    "12 paused",
    "13 welcome",
    "14 floor of the old zone",
    "15 clock ahead",
    "crash",
]
"""Effects that a search must reach, by the number of the rule."""


@cache
def search(examples: int) -> tuple[int, Counter[str]]:
    """Play `examples` histories; return how many sent an email, and the effects they reached.

    With `FEW` examples the histories are the same each time, with `MANY` they are random.
    """
    sent, effects = 0, Counter[str]()

    @settings(
        max_examples=examples,
        derandomize=examples == FEW,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(STEPS, st.integers(0, 11))
    def histories(steps: list[Step], start: int) -> None:
        nonlocal sent
        world = play(steps, start, MemoryLedger())
        sent += any(person.letters for person in world.people.values())
        effects.update(+world.effects)

    histories()
    return sent, effects


@pytest.mark.parametrize("examples", [FEW, SLOW])
def test_every_history_delivers_every_post_once(examples: int) -> None:
    """No history delivers a post twice, too early, too late or unasked, or misses a post.

    A search that sends nothing proves nothing, so a tenth of the histories must send an email.
    """
    sent, _ = search(examples)
    assert sent * 10 >= examples


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_search_reaches_the_effect_of_each_rule(effect: str) -> None:
    """The search reaches each effect, so it would fail without the rule."""
    _, effects = search(FEW)
    assert effects[effect]


MOMENTS = st.tuples(st.integers(0, 65), st.integers(0, 23), st.integers(0, 59))


def issues_with(
    pushed: list[tuple[int, int, int]], runs: list[tuple[int, int, int]]
) -> list[list[Issue]]:
    """Return the issues that each of four subscribers receives, with a daily run at 09:01."""
    world = World(berlin("2026-10-12 00:00"))
    people = [world.join(each) for each in FREQUENCIES if each != "post"]
    people.append(world.join("week", "x"))
    begin = world.now
    daily = [(day, 9, 1) for day in range(100)]
    events = [*((at, "run") for at in runs + daily), *((at, "push") for at in pushed)]
    for (day, hour, minute), kind in sorted(events):
        world.to(begin + timedelta(days=day, hours=hour, minutes=minute))
        if kind == "run":
            world.run()
        else:
            world.push(f"{len(world.items)}", topics="x" if minute % 2 else "y")
    return [[row.issue for row in world.people[subscriber].letters] for subscriber in people]


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(st.lists(MOMENTS, min_size=1, max_size=12), st.lists(MOMENTS, min_size=1, max_size=20))
def test_more_runs_change_no_issue(
    pushed: list[tuple[int, int, int]], runs: list[tuple[int, int, int]]
) -> None:
    """Additional runs change no issue if no post is late or vanishes."""
    assert issues_with(pushed, []) == issues_with(pushed, runs)
