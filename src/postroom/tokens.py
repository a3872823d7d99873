"""Random tokens, the forms in which they are kept, and the keyed hash of suppression.

The source of randomness and the keys are arguments, so that a test can fix both. Nothing here is
signed: an opaque token is short enough for a header line and says nothing to whoever reads it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

from attrs import field, frozen

from postroom.errors import Problem, SettingsError

Random = Callable[[int], bytes]
"""Returns as many random bytes as asked for."""

VARIABLE = "POSTROOM_SECRET_KEY"
# 128 bits cannot be guessed, and their 22 characters keep a List-Unsubscribe line under 76.
TOKEN_BYTES = 16
SHORTEST_KEY = 16
_REPAIR = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


def mint(random: Random = secrets.token_bytes) -> str:
    """Return a new opaque token of 22 characters that may stand in a URL."""
    return base64.urlsafe_b64encode(random(TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def stored(token: str, purpose: str) -> str:
    """Return the form in which a single-use token is kept: SHA-256, bound to its purpose.

    A token asked for one purpose is therefore unknown to every other, and a stolen database opens
    nothing.
    """
    return hashlib.sha256(f"{purpose}\0{token}".encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Tell whether two tokens are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


@frozen
class Keys:
    """The secret keys of a newsroom, newest first."""

    _keys: tuple[bytes, ...] = field(repr=False)

    @property
    def newest(self) -> bytes:
        """The key that signs."""
        return self._keys[0]

    @property
    def oldest(self) -> bytes:
        """The key of the suppression hashes, which is never removed: they cannot be made again."""
        return self._keys[-1]

    def suppression(self, key: str) -> str:
        """Return the hash under which an address is suppressed, for the address's `key`.

        It is keyed (HMAC-SHA-256, RFC 2104), so that whoever has the database alone cannot find
        out addresses by trying them.
        """
        return hmac.new(self.oldest, b"suppression\0" + key.encode(), hashlib.sha256).hexdigest()

    @property
    def proof(self) -> str:
        """A value by which the database recognises the oldest key, and which does not tell it."""
        return hmac.new(self.oldest, b"proof", hashlib.sha256).hexdigest()


def read_keys(text: str | None) -> Keys:
    """Return the keys written in `text`, a comma list, newest first.

    Raises `SettingsError` if there is none, or one is too short to be a secret.
    """
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if not words:
        raise SettingsError([Problem(VARIABLE, what="is not set", repair=_REPAIR)])
    for number, word in enumerate(words, 1):
        if len(word) < SHORTEST_KEY:
            what = f"key {number} is shorter than {SHORTEST_KEY} characters"
            raise SettingsError([Problem(VARIABLE, what=what, repair=_REPAIR)])
    return Keys(tuple(word.encode() for word in words))
