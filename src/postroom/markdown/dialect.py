"""The Markdown that posts are written in."""

from __future__ import annotations

import re
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

_TAG = re.compile(rf"<(/?)({'|'.join(sorted(HIDDEN))})\b", re.IGNORECASE)


def shown(source: str) -> str:
    """Return HTML in which a tag of a hidden element that is never closed is plain text.

    Who writes about <title> without quoting it would else lose all that follows.
    """
    ends = {tag[2].lower(): tag.start() for tag in _TAG.finditer(source) if tag[1]}
    return _TAG.sub(lambda tag: tag[0] if _closes(tag, ends) else f"&lt;{tag[0][1:]}", source)


def _closes(tag: re.Match[str], ends: dict[str, int]) -> bool:
    return bool(tag[1]) or tag.start() < ends.get(tag[2].lower(), 0)
