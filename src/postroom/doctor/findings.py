"""The findings of `postroom doctor`, and the sections in which it prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from attrs import frozen

from postroom.errors import Problem

DiagnosisLevel: TypeAlias = Literal["ok", "advice", "problem"]


@frozen
class Diagnosis:
    """One finding: its level, what it is about, what was found, and what to do.

    A `problem` keeps emails from being sent or delivered; `advice` does not.
    """

    level: DiagnosisLevel
    subject: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return `subject: message; hint` on one line of printable characters.

        Other characters are replaced, since DNS records and received emails may contain any.
        """
        line = f"{self.subject}: {'; '.join(part for part in (self.message, self.hint) if part)}"
        return "".join(c if c.isprintable() else "�" for c in " ".join(line.split()))


@frozen
class DiagnosisSection:
    """The findings of one section of the report."""

    title: str
    findings: tuple[Diagnosis, ...]


def ok(subject: str, message: str) -> Diagnosis:
    """Return a finding which says that `subject` is correct."""
    return Diagnosis("ok", subject, message)


def advice(subject: str, message: str, hint: str = "") -> Diagnosis:
    """Return a finding which says that `subject` could be better."""
    return Diagnosis("advice", subject, message, hint)


def problem(subject: str, message: str, hint: str = "") -> Diagnosis:
    """Return a finding which says that `subject` is wrong."""
    return Diagnosis("problem", subject, message, hint)


def as_findings(problems: Iterable[Problem]) -> tuple[Diagnosis, ...]:
    """Convert problems that another package reports into findings of level `problem`."""
    return tuple(
        problem(": ".join(part for part in (p.path, p.key) if part), p.message, p.hint)
        for p in problems
    )
