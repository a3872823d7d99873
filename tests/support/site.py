"""A site for tests: its settings, a post, and the result of a command."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SETTINGS = """\
title: Example News
url: https://news.example.com/
id: "tag:news.example.com,2026:"
language: en
timezone: Europe/Berlin
"""
POST = """\
---
title: We moved
date: 2026-11-20
id: tag:news.example.com,2026:we-moved
summary: Our office has a new address.
topics: [Company news]
---

We have moved to a *new* office.
"""

MakeSite = Callable[..., Path]


@frozen
class CommandResult:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that begin with `error: `, without that word."""
        lines = self.err.splitlines()
        return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]

    @property
    def warnings(self) -> list[str]:
        """The lines that begin with `warning: `, without that word."""
        lines = self.err.splitlines()
        return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
