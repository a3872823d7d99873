"""What the doctor says: one line a finding, grouped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from attrs import frozen

from postroom.errors import Problem

Level: TypeAlias = Literal["ok", "advice", "problem"]


@frozen
class Finding:
    """One thing that was looked at: whether it is well, what was found, what to do about it.

    A `problem` keeps letters from leaving or from arriving; `advice` does not, yet.
    """

    level: Level
    subject: str
    what: str
    repair: str = ""

    def __str__(self) -> str:
        """Return `SPF: what was found; what to do about it`, as one line that a terminal bears.

        Records and received letters are strangers' words and may hold anything.
        """
        line = f"{self.subject}: {'; '.join(part for part in (self.what, self.repair) if part)}"
        return "".join(c if c.isprintable() else "�" for c in " ".join(line.split()))


@frozen
class Section:
    """The findings about one part of the world."""

    title: str
    findings: tuple[Finding, ...]


def well(subject: str, what: str) -> Finding:
    """Return the finding that `subject` is as it should be."""
    return Finding("ok", subject, what)


def advice(subject: str, what: str, repair: str = "") -> Finding:
    """Return the finding that `subject` could be better."""
    return Finding("advice", subject, what, repair)


def problem(subject: str, what: str, repair: str = "") -> Finding:
    """Return the finding that `subject` is wrong."""
    return Finding("problem", subject, what, repair)


def as_findings(problems: Iterable[Problem]) -> tuple[Finding, ...]:
    """Return the problems of another room as findings."""
    return tuple(
        problem(": ".join(part for part in (one.path, one.key) if part), one.what, one.repair)
        for one in problems
    )
