"""Random tokens, keyed hashes, and the email addresses that contain them.

The source of randomness and the keys are arguments, so that tests can fix both. The headers and
links of an email contain the subscriber's opaque token, which is short enough for a header line.
The envelope sender contains the id of the delivery instead, with a signature.
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
"""A source of randomness: takes a number of bytes and returns that many."""

SECRET_KEY_VAR = "POSTROOM_SECRET_KEY"  # noqa: S105 - the name of a variable
# 128 bits cannot be guessed, and 22 characters keep a List-Unsubscribe line shorter than 76.
TOKEN_BYTES = 16
MIN_KEY_LENGTH = 16
# A signed number, or a token, after the + of a local part (RFC 5233 §1), in any case: some mail
# servers write local parts in capitals, others in lower case. Emails of earlier versions carry the
# token itself.
_BOUNCE = re.compile(r"\+([0-9]{1,11})-([a-z2-7]{16})@", re.IGNORECASE | re.ASCII)
_UNSUBSCRIBE = re.compile(
    r"\+leave-(?:([a-z2-7]{27})|([A-Za-z0-9_-]{22}))@", re.IGNORECASE | re.ASCII
)
NEW_KEY_HINT = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
NO_KEY_MESSAGE = "is not set"
NO_KEY_HINT = f"set it to the key of this site; if the site has none yet, {NEW_KEY_HINT}"


def new_token(random: Random = secrets.token_bytes) -> str:
    """Return a new opaque token of 22 characters, all of which are allowed in a URL."""
    return base64.urlsafe_b64encode(random(TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def hash_token(token: str, purpose: str) -> str:
    """Return the stored form of a single-use token: SHA-256, bound to its purpose.

    A token made for one purpose is therefore invalid for another, and a stolen database contains no
    single-use token that works.
    """
    return hashlib.sha256(f"{purpose}\0{token}".encode()).hexdigest()


def is_equal(token: str, other: str) -> bool:
    """Tell whether two tokens are equal, in constant time."""
    return hmac.compare_digest(token.encode(), other.encode())


@frozen
class Keys:
    """The secret keys of a site, newest first."""

    _keys: tuple[bytes, ...] = field(repr=False)

    @property
    def newest(self) -> bytes:
        """The key that signs new values."""
        return self._keys[0]

    @property
    def oldest(self) -> bytes:
        """The oldest key, with which all suppression hashes are made.

        It must never be removed: the addresses are not stored, so the hashes cannot be made again.
        """
        return self._keys[-1]

    def suppression(self, key: str) -> str:
        """Return the suppression hash of the address with this `key` (`EmailAddress.key`).

        The hash is keyed (HMAC-SHA-256, RFC 2104): without the key, nobody can find out by trial
        which addresses a stolen database contains.
        """
        return hmac.digest(self.oldest, b"suppression\0" + key.encode(), hashlib.sha256).hex()

    @property
    def proof(self) -> str:
        """A value made from the oldest key, by which the database recognises that key.

        It does not reveal the key.
        """
        return hmac.new(self.oldest, b"proof", hashlib.sha256).hexdigest()

    def sign(self, number: int) -> str:
        """Return the signature of a number: 80 bits of HMAC-SHA-256, in lower case."""
        return _signature(self.newest, number)

    def has_signed(self, number: int, signature: str) -> bool:
        """Tell whether `signature` is the signature of `number` by any of the keys."""
        lowered = signature.lower()
        return any(is_equal(_signature(key, number), lowered) for key in self._keys)


def _signature(key: bytes, number: int) -> str:
    digest = hmac.digest(key, b"bounce\0%d" % number, hashlib.sha256)
    return base64.b32encode(digest[:10]).decode("ascii").lower()


def envelope_sender(bounces: str, number: int, keys: Keys) -> str:
    """Return the envelope sender of delivery `number`, to which bounces are sent (VERP).

    The envelope sender is the setting `mail.bounces` with the signed number after a `+`, as in
    `bounces+42-mfzwizltoq2ds3rn@example.com`. So every bounce identifies its delivery, and nobody
    can forge a bounce for another delivery. The subscriber's token is not used for this, because
    mail servers log envelope senders.
    """
    local, _, domain = bounces.rpartition("@")
    return f"{local}+{number}-{keys.sign(number)}@{domain}"


def read_envelope_sender(address: str, keys: Keys) -> int | None:
    """Return the id of the delivery in the envelope sender `address`, to which a bounce was sent.

    Returns None if `address` has no valid signature.

    The text before the `+` does not matter: `mail.bounces` may have changed since, and mail servers
    may add a prefix.
    """
    found = _BOUNCE.search(address)
    return int(found[1]) if found and keys.has_signed(int(found[1]), found[2]) else None


def token_in_address(token: str) -> str:
    """Return the form of `token` in an email address: 27 characters of base32, in lower case.

    Mail servers may change the case of a local part, which would make another token of it. 22
    characters of base64 have 132 bits, which need 27 characters of 5 bits (RFC 4648 §5, §6).
    """
    # 24 characters of base64 are whole bytes; the two that are added are cut off again.
    encoded = base64.b32encode(base64.urlsafe_b64decode(f"{token}AA"))
    return encoded[:27].decode("ascii").lower()


def unsubscribe_address(bounces: str, token: str) -> str:
    """Return the email address for unsubscribing by email, which carries `token` (RFC 2369)."""
    local, _, domain = bounces.rpartition("@")
    return f"{local}+leave-{token_in_address(token)}@{domain}"


def read_unsubscribe_address(text: str) -> str | None:
    """Return the token in the first unsubscribe address in `text`, None if there is none."""
    found = _UNSUBSCRIBE.search(text)
    if found is None:
        return None
    encoded, token = found.groups()
    if token:
        return str(token)
    decoded = base64.b32decode(f"{encoded.upper()}AA===")
    return base64.urlsafe_b64encode(decoded)[:22].decode("ascii")


def parse_keys(text: str | None) -> Keys:
    """Return the keys in `text`, a comma-separated list, newest first.

    Raises `SettingsError` if there is no key, or if one is too short.
    """
    keys = [key.strip() for key in (text or "").split(",") if key.strip()]
    if not keys:
        raise SettingsError([Problem(SECRET_KEY_VAR, message=NO_KEY_MESSAGE, hint=NO_KEY_HINT)])
    for number, key in enumerate(keys, 1):
        if len(key) < MIN_KEY_LENGTH:
            message = f"key {number} is shorter than {MIN_KEY_LENGTH} characters"
            raise SettingsError([Problem(SECRET_KEY_VAR, message=message, hint=NEW_KEY_HINT)])
    return Keys(tuple(key.encode() for key in keys))
