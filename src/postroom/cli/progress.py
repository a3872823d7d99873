"""Show the progress of a run: a bar on a terminal, elsewhere a line every ten seconds."""

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

# Seconds between two lines, and between two states of the bar.
_LINE_INTERVAL = 10.0
_BAR_INTERVAL = 0.1


class Progress:
    """The progress of a run on standard error."""

    def __init__(self, zone: ZoneInfo) -> None:
        """Show instants in the time zone of the site."""
        self._zone = zone
        self._total = 0
        self._began = self._shown = time.monotonic()
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
        """Print how many emails are planned; warn of uncertain deliveries and outdated issues."""
        warn_of_uncertain(plan.uncertain)
        print_outdated("send", plan.outdated, self._zone)
        self._total = plan.subscribers
        self._began = self._shown = time.monotonic()
        if not self._total:
            if plan.waiting:
                reason = f"{pluralize(plan.waiting, 'deferred email')} must wait for a retry"
            else:
                reason = "postroom plan shows what is due next, and when"
            click.echo(f"nothing is due; {reason}")
            return
        click.echo(f"{pluralize(self._total, 'email')} to send")
        if _can_redraw():
            self._bar = _make_bar()
            self._task = self._bar.add_task(f"0 of {self._total:,}", total=self._total)
            self._bar.start()

    def show(self, counts: Counts) -> None:
        """Show how many deliveries have an outcome, unless it was shown a moment ago."""
        now = time.monotonic()
        if now - self._shown < (_BAR_INTERVAL if self._bar else _LINE_INTERVAL):
            return
        self._shown = now
        done = sum(counts.values())
        line = self._line(done, now - self._began)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, description=line)
        else:
            click.echo(line, err=True)

    def _line(self, done: int, seconds: float) -> str:
        rate = done / seconds
        line = f"{done:,} of {self._total:,}, {rate:,.1f} a second"
        remaining = max(0, self._total - done)
        return f"{line}, {_span(remaining / rate)} left" if rate and remaining else line

    def end(self, counts: Counts) -> None:
        """Print how long the run took."""
        done = sum(counts.values())
        if self._bar:
            self._bar.stop()
        if done:
            seconds = time.monotonic() - self._began
            rate = done / seconds
            click.echo(f"{pluralize(done, 'email')} in {_span(seconds)}, {rate:,.1f} a second")


def _can_redraw() -> bool:
    """Tell whether standard error is a terminal on which a line can be erased."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def clear_line() -> bytes:
    """Return the characters that erase the progress bar, for code that writes in its place."""
    return b"\r\x1b[K" if _can_redraw() else b""


def _make_bar() -> Bar:
    # The import takes 60 ms, and only a terminal needs it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    # So narrow that the numbers of a million emails fit on a terminal of 80 columns.
    columns = (BarColumn(20), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _span(seconds: float) -> str:
    """Return `1 h 12 min`, `4 min 30 s` or `12.3 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.1f} s"


def warn_of_uncertain(deliveries: int) -> None:
    """Warn of open uncertain deliveries, if there are any, with the commands that close them."""
    if deliveries:
        message = f"{pluralize(deliveries, 'email')} may or may not have arrived"
        hint = (
            "postroom status names the subscribers; postroom send --resend-uncertain sends the "
            "emails again, postroom status --acknowledge counts them as delivered"
        )
        print_problems([Problem("send", message=message, hint=hint)], "warning")


def print_outdated(command: str, dates: Sequence[datetime], zone: ZoneInfo) -> None:
    """Warn that issues keep their old content although posts have changed; `dates` names them."""
    for date in dates:
        message = (
            "an issue that some subscribers have received keeps its content of "
            f"{date.astimezone(zone):%Y-%m-%d %H:%M %Z}, without later changes"
        )
        hint = "postroom send --anew sends the edited posts to the other subscribers"
        print_problems([Problem(command, message=message, hint=hint)], "warning")
