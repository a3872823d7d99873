"""What people may do with their subscription, without a word of HTTP or mail.

Each rule is a function over the rows that it needs and no more; the web page, the one click of a
mail program and the mail to the bounces address all come here.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urljoin

from postroom.models import Site

UnsubscribeMethod: TypeAlias = Literal["one click", "page", "mail"]
"""How somebody left: by their mail program's button, on the page, or by a mail."""
# What `tokens.mint` makes. Nothing else is looked for: a database may choke on other characters.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


class UnsubscribeStore(Protocol):
    """The rows of subscribers, as far as leaving needs them."""

    def unsubscribe(self, token: str, at: datetime, way: str) -> bool:
        """Put the subscriber with `token` into `left` if they still receive; return whether."""
        ...


def unsubscribe(book: UnsubscribeStore, token: str, at: datetime, way: UnsubscribeMethod) -> bool:
    """Let the subscriber with `token` leave at the instant `at`; return whether that was news.

    A token never expires and is never used up: it opens nothing but the way out, and whoever left
    already stays away. An unknown one is no error, and must be answered as a known one is.
    Raises what `book` raises if nothing could be written; then the same may be tried again.
    """
    return bool(_TOKEN.fullmatch(token)) and book.unsubscribe(token, at, way)


TOKEN_PLACEHOLDER = "postroom-token-is-here"  # noqa: S105 - stands for tokens, is none
_UNSUBSCRIBE, _PREFERENCES = "list/unsubscribe/", "list/preferences/"


def unsubscribe_url(site: Site, token: str = TOKEN_PLACEHOLDER) -> str:
    """Return the address where the subscriber with `token` leaves, by one POST (RFC 8058)."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", _UNSUBSCRIBE + token)


def preferences_url(site: Site, token: str = TOKEN_PLACEHOLDER) -> str:
    """Return the address where the subscriber with `token` chooses what to get."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", _PREFERENCES + token)
