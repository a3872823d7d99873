"""How far a run has come: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

import click

from postroom.cli.console import pluralize, print_problems
from postroom.errors import Problem
from postroom.send.dispatch import Counts
from postroom.send.run import SendPlan

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


_EVERY = 10.0
_GLANCE = 0.1


class Progress:
    """Tells on standard error how far a run has come."""

    def __init__(self, zone: ZoneInfo) -> None:
        """Show instants in the newsroom's `zone`."""
        self._zone = zone
        self._letters = 0
        self._began = self._told = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def begin(self, plan: SendPlan) -> None:
        """Say what is planned, and how many uncertain deliveries are open."""
        warn_of_uncertain(plan.uncertain)
        print_outdated("send", plan.outdated, self._zone)
        self._letters = plan.subscribers
        self._began = self._told = time.monotonic()
        if not self._letters:
            if plan.waiting:
                waiting = (
                    f"{pluralize(plan.waiting, 'letter')} put off by the mail server must wait"
                )
            else:
                waiting = "postroom plan shows who is owed what, and when"
            click.echo(f"nothing is due; {waiting}")
            return
        click.echo(f"{pluralize(self._letters, 'letter')} to send")
        if _draws():
            self._bar = _bar()
            self._task = self._bar.add_task(f"0 of {self._letters:,}", total=self._letters)
            self._bar.start()

    def show(self, counts: Counts) -> None:
        """Say how far it has come, if it is time to."""
        now = time.monotonic()
        if now - self._told < (_GLANCE if self._bar else _EVERY):
            return
        self._told = now
        done = sum(counts.values())
        line = self._line(done, now - self._began)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, description=line)
        else:
            click.echo(line, err=True)

    def _line(self, done: int, seconds: float) -> str:
        rate = done / seconds
        line = f"{done:,} of {self._letters:,}, {rate:,.1f} a second"
        left = max(0, self._letters - done)
        return f"{line}, {_span(left / rate)} left" if rate and left else line

    def end(self, counts: Counts) -> None:
        """Say how long it took."""
        done = sum(counts.values())
        if self._bar:
            self._bar.stop()
        if done:
            seconds = time.monotonic() - self._began
            rate = done / seconds
            click.echo(f"{pluralize(done, 'letter')} in {_span(seconds)}, {rate:,.1f} a second")


def _draws() -> bool:
    """Tell whether standard error is a terminal on which a line can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def clear_line() -> bytes:
    """Return what erases the bar, for who must write in its place at once."""
    return b"\r\x1b[K" if _draws() else b""


def _bar() -> Bar:
    # 60 ms to import, which only a terminal needs.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    # Beside it there is room for a million letters on a terminal of 80 columns.
    columns = (BarColumn(20), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _span(seconds: float) -> str:
    """Return `1 h 12 min`, `4 min 30 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.1f} s"


def warn_of_uncertain(deliveries: int) -> None:
    """Warn of open uncertain deliveries, if there are any, and say how to close them."""
    if deliveries:
        what = f"{pluralize(deliveries, 'email')} may or may not have arrived"
        repair = (
            "postroom status names whose; postroom send --resend-uncertain sends them again, "
            "postroom status --acknowledge leaves them"
        )
        print_problems([Problem("send", message=what, hint=repair)], "warning")


def print_outdated(command: str, written: Sequence[datetime], zone: ZoneInfo) -> None:
    """Warn of letters that keep the words which they had at these instants."""
    for instant in written:
        what = (
            "a letter that some have already keeps its words of "
            f"{instant.astimezone(zone):%Y-%m-%d %H:%M %Z}; what was changed since is not in it"
        )
        repair = "postroom send --anew sends the others the new words"
        print_problems([Problem(command, message=what, hint=repair)], "warning")
