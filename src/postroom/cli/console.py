"""Print problems and counts to the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click

from postroom.errors import Problem


def print_problems(problems: Sequence[Problem | str], kind: str = "error") -> None:
    """Print problems to standard error, one a line, with their `kind` in front."""
    for problem in problems:
        label = click.style(kind, fg="red" if kind == "error" else "yellow", bold=True)
        click.echo(f"{label}: {problem}", err=True)


def pluralize(number: int, noun: str) -> str:
    """Return `1 email` or `2,000 emails`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
