"""Posts and feeds that are already made → what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve, frozen

from postroom.errors import Problem
from postroom.feeds.lint import lint
from postroom.model import Severity
from postroom.output import Contents

_FEEDS = ("atom.xml", "rss.xml", ".json")


@frozen(order=True)
class Finding:
    """A problem, the rule that found it, and how much it matters."""

    problem: Problem
    rule: str
    severity: Severity

    def __str__(self) -> str:
        """Return the problem's line with the rule's name behind it."""
        return f"{self.problem} [{self.rule}]"


def findings(
    warnings: Iterable[Problem],
    files: Mapping[str, Contents],
    folder: str,
    severities: Mapping[str, Severity],
) -> tuple[Finding, ...]:
    """Return what is wrong with posts (their `warnings`) and feeds (among `files`), in order.

    `severities` are those that the settings give to rules; what is off is left out.
    """
    found = (
        evolve(one, severity=severities.get(one.rule, one.severity))
        for one in (*_posts(warnings), *_feeds(files, folder))
    )
    return tuple(sorted(one for one in found if one.severity != "off"))


def _posts(warnings: Iterable[Problem]) -> Iterator[Finding]:
    for problem in warnings:
        yield Finding(problem, f"post-{problem.key or 'text'}", "warning")


def _feeds(files: Mapping[str, Contents], folder: str) -> Iterator[Finding]:
    for path, contents in files.items():
        if path.endswith(_FEEDS) and isinstance(contents, bytes):
            for problem in lint(contents, f"{folder}/{path}"):
                yield Finding(problem, f"feed-{problem.key}", "error")
