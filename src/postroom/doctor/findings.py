"""What the doctor says: one line a finding, grouped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from attrs import frozen

from postroom.errors import Problem

DiagnosisLevel: TypeAlias = Literal["ok", "advice", "problem"]


@frozen
class Diagnosis:
    """One thing that was looked at: whether it is well, what was found, what to do about it.

    A `problem` keeps letters from leaving or from arriving; `advice` does not, yet.
    """

    level: DiagnosisLevel
    subject: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return `SPF: what was found; what to do about it`, as one line that a terminal bears.

        Records and received letters are strangers' words and may hold anything.
        """
        line = f"{self.subject}: {'; '.join(part for part in (self.message, self.hint) if part)}"
        return "".join(c if c.isprintable() else "�" for c in " ".join(line.split()))


@frozen
class DiagnosisSection:
    """The findings about one part of the world."""

    title: str
    findings: tuple[Diagnosis, ...]


def ok(subject: str, what: str) -> Diagnosis:
    """Return the finding that `subject` is as it should be."""
    return Diagnosis("ok", subject, what)


def advice(subject: str, what: str, repair: str = "") -> Diagnosis:
    """Return the finding that `subject` could be better."""
    return Diagnosis("advice", subject, what, repair)


def problem(subject: str, what: str, repair: str = "") -> Diagnosis:
    """Return the finding that `subject` is wrong."""
    return Diagnosis("problem", subject, what, repair)


def as_findings(problems: Iterable[Problem]) -> tuple[Diagnosis, ...]:
    """Return the problems of another room as findings."""
    return tuple(
        problem(": ".join(part for part in (one.path, one.key) if part), one.message, one.hint)
        for one in problems
    )
