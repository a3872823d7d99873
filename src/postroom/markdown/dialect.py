"""The Markdown that posts are written in."""

from __future__ import annotations

from collections.abc import Callable

import pyromark

Resolve = Callable[[str], str]
"""A relative address as written → the absolute one."""

OPTIONS = (
    pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
)
"""CommonMark with tables, footnotes, strikethrough and task lists."""
