"""The messages of `messages/`, each in the format of one kind of server.

They are about delivery 42, whose number is signed with `KEY`, and the subscriber with the token
`TOKEN`.
"""

from __future__ import annotations

from datetime import datetime

from postroom.db.store import Store
from postroom.mail.tokens import Keys, envelope_sender, parse_keys
from postroom.models import ClaimedDelivery
from tests.support.site import ROOT

KEY = "a secret key of this test"
KEYS: Keys = parse_keys(KEY)
TOKEN = "reader-token-012345678"
BOUNCES = "bounces@example.com"
SENDER = envelope_sender(BOUNCES, 42, KEYS)
FOLDER = ROOT / "tests/messages"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.eml")))


def returned(name: str, delivery: int = 42, token: str = TOKEN, reader: str = "reader") -> bytes:
    """Return a message about this delivery, token and subscriber."""
    data = (FOLDER / f"{name}.eml").read_bytes()
    data = data.replace(SENDER.encode(), envelope_sender(BOUNCES, delivery, KEYS).encode())
    data = data.replace(b"reader@example.net", f"{reader}@example.net".encode())
    return data.replace(TOKEN.encode(), token.encode())


def begin(store: Store, at: datetime) -> int:
    """Begin a run at the instant `at`, to send the emails that the messages are about."""
    store.database.release_lock()
    return store.runs.begin(at)


def claim_all(store: Store, run: int, at: datetime) -> tuple[ClaimedDelivery, ...]:
    """Claim all planned deliveries."""
    return store.deliveries.record_and_claim(run, [], 10_000, at, str)
