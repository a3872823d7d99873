"""Random tokens, the forms in which they are kept, keyed hashes, and addresses that carry them.

The source of randomness and the keys are arguments, so that a test can fix both. What stands in a
letter's fields and links is an opaque token, short enough for a header line, which says nothing to
whoever reads it; only the envelope's sender is signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable

from attrs import field, frozen

from postroom.errors import Problem, SettingsError

Random = Callable[[int], bytes]
"""Returns as many random bytes as asked for."""

SECRET_KEY_VAR = "POSTROOM_SECRET_KEY"  # noqa: S105 - the name of a variable
# 128 bits cannot be guessed, and their 22 characters keep a List-Unsubscribe line under 76.
TOKEN_BYTES = 16
SHORTEST_KEY = 16
# A signed number, or a token, behind the + of a local part (RFC 5233 §1). Mail servers are free to
# write the first in capitals, for they made no promise about senders.
_BOUNCED = re.compile(r"\+([0-9]{1,11})-([a-z2-7]{16})@", re.IGNORECASE)
_LEAVING = re.compile(r"\+leave-([A-Za-z0-9_-]{22})@")
_MAKE = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
_UNSET = f"set what this newsroom had; if it had none yet, {_MAKE}"


def new_token(random: Random = secrets.token_bytes) -> str:
    """Return a new opaque token of 22 characters that may stand in a URL."""
    return base64.urlsafe_b64encode(random(TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def hash_token(token: str, purpose: str) -> str:
    """Return the form in which a single-use token is kept: SHA-256, bound to its purpose.

    A token asked for one purpose is therefore unknown to every other, and a stolen database opens
    nothing.
    """
    return hashlib.sha256(f"{purpose}\0{token}".encode()).hexdigest()


def is_equal(one: str, other: str) -> bool:
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
        return hmac.digest(self.oldest, b"suppression\0" + key.encode(), hashlib.sha256).hex()

    @property
    def proof(self) -> str:
        """A value by which the database recognises the oldest key, and which does not tell it."""
        return hmac.new(self.oldest, b"proof", hashlib.sha256).hexdigest()

    def mark(self, number: int) -> str:
        """Return the signature of a number: 80 bits of HMAC-SHA-256, in small letters."""
        return _mark(self.newest, number)

    def has_marked(self, number: int, mark: str) -> bool:
        """Tell whether `mark` is the signature of `number` by any of the keys."""
        return any(is_equal(_mark(key, number), mark.lower()) for key in self._keys)


def _mark(key: bytes, number: int) -> str:
    made = hmac.digest(key, b"bounce\0%d" % number, hashlib.sha256)
    return base64.b32encode(made[:10]).decode("ascii").lower()


def envelope_sender(bounces: str, number: int, keys: Keys) -> str:
    """Return the address to which a server reports that delivery `number` failed (VERP).

    It is the settings' `bounces` with the signed number behind a `+`, as in
    `bounces+42-mfzwizltoq2ds3rn@example.com`: a report then names its delivery however little it
    says, and nobody can report one that they were not sent. It holds no token, because every server
    on the way writes it down.
    """
    local, _, domain = bounces.rpartition("@")
    return f"{local}+{number}-{keys.mark(number)}@{domain}"


def read_envelope_sender(address: str, keys: Keys) -> int | None:
    """Return the delivery that a report sent to `address` is about, if we signed its number.

    What stands before the `+` does not matter: `bounces` may have had another value then, and
    servers on the way put marks of their own in front.
    """
    found = _BOUNCED.search(address)
    return int(found[1]) if found and keys.has_marked(int(found[1]), found[2]) else None


def unsubscribe_address(bounces: str, token: str) -> str:
    """Return the address a mail to which unsubscribes the subscriber with `token` (RFC 2369)."""
    local, _, domain = bounces.rpartition("@")
    return f"{local}+leave-{token}@{domain}"


def read_unsubscribe_address(address: str) -> str | None:
    """Return the token of the subscriber whom a mail to `address` unsubscribes."""
    found = _LEAVING.search(address)
    return found[1] if found else None


def parse_keys(text: str | None) -> Keys:
    """Return the keys written in `text`, a comma list, newest first.

    Raises `SettingsError` if there is none, or one is too short to be a secret.
    """
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if not words:
        raise SettingsError([Problem(SECRET_KEY_VAR, message="is not set", hint=_UNSET)])
    for number, word in enumerate(words, 1):
        if len(word) < SHORTEST_KEY:
            what = f"key {number} is shorter than {SHORTEST_KEY} characters"
            raise SettingsError([Problem(SECRET_KEY_VAR, message=what, hint=_MAKE)])
    return Keys(tuple(word.encode() for word in words))
