"""The URLs for unsubscribing and for preferences, and the function that unsubscribes someone.

The web page, one-click unsubscribing and emails to the bounces address all call `unsubscribe`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urljoin

from postroom.models import Site

UnsubscribeMethod: TypeAlias = Literal["one click", "page", "mail"]
"""How a subscriber unsubscribed: one click in the mail program, the web page, or an email."""
# The form of `tokens.new_token`. Other text is never looked up: it may hold characters that a
# database rejects.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
TOKEN_PLACEHOLDER = "postroom-token-is-here"  # noqa: S105 - stands for tokens, is none
"""Text in place of a token: as long as a token, and made of the same characters."""
SERVICE_PATH = "list/"
"""The path of the pages of `postroom serve`, relative to `mail.unsubscribe`."""
UNSUBSCRIBE_PATH = f"{SERVICE_PATH}unsubscribe/"
PREFERENCES_PATH = f"{SERVICE_PATH}preferences/"


class UnsubscribeStore(Protocol):
    """The part of the subscriber store that unsubscribing needs."""

    def unsubscribe(self, token: str, at: datetime, method: str, /) -> bool:
        """Unsubscribe the subscriber with `token`; return whether their state changed."""
        ...


def unsubscribe(
    store: UnsubscribeStore, token: str, at: datetime, method: UnsubscribeMethod
) -> bool:
    """Unsubscribe the subscriber with `token` at the instant `at`; return whether anything changed.

    A token never expires, and can be used again. An unknown token is not an error, and the response
    to it must be the same as to a known one, so that nobody can test which tokens exist. Errors of
    `store` are passed on; repeating the call is safe.
    """
    return bool(_TOKEN.fullmatch(token)) and store.unsubscribe(token, at, method)


def unsubscribe_url(site: Site, token: str = TOKEN_PLACEHOLDER) -> str:
    """Return the URL of the unsubscribe page, which also takes the one-click POST (RFC 8058)."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", UNSUBSCRIBE_PATH + token)


def preferences_url(site: Site, token: str = TOKEN_PLACEHOLDER) -> str:
    """Return the URL of the preferences page, which `postroom serve` does not offer yet."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", PREFERENCES_PATH + token)
