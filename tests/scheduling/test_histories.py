"""Random histories against an oracle: every post, to every subscriber, once."""

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

FEW, MANY = 2000, 20_000
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
"""What a search must meet, by the number of the rule."""


@cache
def search(examples: int) -> tuple[int, Counter[str]]:
    """Play so many histories; return how many sent a letter, and all that was met in them.

    A few are the same ones in each run, many are others each time.
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
    """Nothing twice, nothing too early, late, old or unasked for, and at the end nothing missing.

    A search that sends nothing proves nothing: a tenth of the histories must send a letter.
    """
    sent, _ = search(examples)
    assert sent * 10 >= examples


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_search_meets_what_each_rule_is_for(effect: str) -> None:
    """Or it would stay green without that rule."""
    _, effects = search(FEW)
    assert effects[effect]


MOMENTS = st.tuples(st.integers(0, 65), st.integers(0, 23), st.integers(0, 59))


def letters(
    pushed: list[tuple[int, int, int]], runs: list[tuple[int, int, int]]
) -> list[list[Issue]]:
    """Return the letters that each of four subscribers gets, with a run each day at 09:01."""
    world = World(berlin("2026-10-12 00:00"))
    people = [world.join(each) for each in FREQUENCIES if each != "post"]
    people.append(world.join("week", "x"))
    begin = world.now
    daily = [(day, 9, 1) for day in range(100)]
    events = [*((at, "run") for at in runs + daily), *((at, "push") for at in pushed)]
    for (day, hour, minute), what in sorted(events):
        world.to(begin + timedelta(days=day, hours=hour, minutes=minute))
        if what == "run":
            world.run()
        else:
            world.push(f"{len(world.items)}", topics="x" if minute % 2 else "y")
    return [[row.issue for row in world.people[who].letters] for who in people]


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.lists(MOMENTS, min_size=1, max_size=12), st.lists(MOMENTS, min_size=1, max_size=20))
def test_more_runs_change_no_letter(
    pushed: list[tuple[int, int, int]], runs: list[tuple[int, int, int]]
) -> None:
    """Where no post is late or vanishes, when and how often one runs in between is all the same."""
    assert letters(pushed, []) == letters(pushed, runs)
