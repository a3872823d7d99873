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

SCHEMES = frozenset("http https mailto tel sms xmpp irc ircs geo magnet".split())
"""The kinds of addresses that a link may have."""

HIDDEN = frozenset(
    "script style svg math template noscript object applet select textarea title".split()
)
"""Elements that vanish with everything in them."""
