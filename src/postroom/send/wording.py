"""What a letter says: what it says to those who have it, or what the posts say now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeAlias

from attrs import evolve, frozen

from postroom.model import FrozenLetter, Letter
from postroom.send.approval import digest_of

Write: TypeAlias = Callable[[Letter, datetime], bytes]
"""Writes a letter, dated an instant, as it is frozen."""


class Kept(Protocol):
    """The letters that were frozen before."""

    def kept(self, letter: FrozenLetter) -> FrozenLetter | None:
        """Return the same letter as it was frozen before (delivery rules, rule 9)."""

    def has_readers(self, number: int) -> bool:
        """Tell whether somebody has, or may have, the letter with this id."""


@frozen
class Worded:
    """A letter with its words; its id is 0 if they are to be frozen yet.

    `is_outdated`: somebody has the letter, so it keeps the words that it had then, and the posts,
    the settings or the theme would give it others now.
    """

    letter: FrozenLetter
    is_outdated: bool = False


def freeze(letter: Letter, clock: datetime, write: Write) -> FrozenLetter:
    """Return `letter` as all who are owed its posts get it, dated `clock`."""
    boundary = letter.reach.before
    blank = FrozenLetter(letter.frequency, boundary, letter.language, letter.posts, clock)
    return evolve(blank, content=write(letter, clock))


def worded(
    kept: Kept, letter: Letter, clock: datetime, write: Write, *, anew: bool = False
) -> Worded:
    """Return `letter` as a run at `clock` sends it.

    A run that was cut off may have frozen it; who is left gets the same, unless nobody has it, or
    a person wants it `anew`.
    """
    fresh = freeze(letter, clock, write)
    old = kept.kept(fresh)
    if old is None:
        return Worded(fresh)
    if digest_of(old.content) == digest_of(fresh.content):
        return Worded(old)
    if anew or not kept.has_readers(old.id):
        return Worded(fresh)
    return Worded(old, is_outdated=True)
