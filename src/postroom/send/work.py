"""The letters that a run sends: those of its plan, or those that are uncertain, once more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from attrs import define, evolve, field, frozen

from postroom.delivery.ledger import wait
from postroom.delivery.owed import message_key
from postroom.letters.headers import parted
from postroom.letters.personal import Prepared
from postroom.model import Bookmark, Claim, FrozenLetter, Letter, Outcome, Site
from postroom.send.line import Outgoing
from postroom.send.replies import outcome
from postroom.send.rows import Clock, Desk, Reply, Store
from postroom.tokens import Keys, envelope_sender

# Letters kept at hand; a run goes through them in order, so a few would do.
_AT_HAND = 64


@frozen
class Sender:
    """What is the same for all letters of a newsroom: the sender, and the keys that sign it."""

    bounces: str
    address: str
    keys: Keys

    def envelope(self, delivery: int) -> str:
        """Return the address to which a server reports that `delivery` failed."""
        if self.bounces:
            return envelope_sender(self.bounces, delivery, self.keys)
        return self.address

    def hashed(self, key: str) -> str:
        """Return the hash under which the address with this key is suppressed."""
        return self.keys.suppression(key)


def sender_of(site: Site, keys: Keys) -> Sender:
    """Return the sender that the settings name."""
    bounces = parted(site.mail.bounces)[1] if site.mail.bounces else ""
    return Sender(bounces, parted(site.mail.sender)[1], keys)


class _Letters:
    """Frozen letters made ready once, for all the subscribers who get them."""

    def __init__(
        self,
        read: Callable[[int], tuple[Letter, bytes] | None],
        write: Callable[[bytes], bytes],
    ) -> None:
        """Take a letter, and its content, from `read`; None if it is not to be sent."""
        self._read = read
        self._write = write
        self._at_hand: dict[int, tuple[Letter, Prepared] | None] = {}

    def find(self, number: int) -> tuple[Letter, Prepared] | None:
        """Return the letter with this id, written as it goes over the wire.

        A token is as long as its placeholder and holds no dot, so it may be put in afterwards.
        Raises `ValueError` for a letter that cannot be written so.
        """
        if number not in self._at_hand:
            if len(self._at_hand) >= _AT_HAND:
                self._at_hand.pop(next(iter(self._at_hand)))
            found = self._read(number)
            ready = (found[0], Prepared(self._write(found[1]))) if found else None
            self._at_hand[number] = ready
        return self._at_hand[number]


@define
class Planned:
    """The letters of a run's plan; `write` writes a message as it goes over the wire."""

    store: Store
    run: int
    clock: Clock
    sender: Sender
    write: Callable[[bytes], bytes]
    _letters: _Letters = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._letters = _Letters(self._read, self.write)

    def _read(self, number: int) -> tuple[Letter, bytes] | None:
        frozen_letter = self.store.letters.find(number)
        return (as_planned(frozen_letter), frozen_letter.content) if frozen_letter else None

    def take(self, outcomes: Sequence[Outcome], limit: int) -> Sequence[Claim]:
        """Record `outcomes`, and take up to `limit` letters for sending."""
        hashed = self.sender.hashed
        return self.store.ledger.turn(self.run, outcomes, limit, self.clock(), hashed)

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what became of letters."""
        self.store.ledger.record(self.run, outcomes, self.clock())

    def wake(self) -> int:
        """Plan the deferred letters whose time has come."""
        return self.store.ledger.wake(self.run, self.clock())

    def outgoing(self, claim: Claim) -> Outgoing | Outcome:
        """Return the letter as it leaves, or what becomes of it because it cannot."""
        try:
            found = self._letters.find(claim.letter)
        except ValueError as error:
            return evolve(self.unsent(claim, str(error), wait(claim.attempts)), refused=True)
        if found is None:
            return Outcome(claim.id, "uncertain", "all its posts are gone")
        letter, prepared = found
        # The key says which letter it is and to whom, so it is the same when it is tried again.
        message_id = prepared.message_id(message_key(claim.subscriber, letter))
        try:
            message = prepared.message(claim.address, claim.token, message_id)
        except ValueError as error:
            return Outcome(claim.id, "bounced", str(error), refused=True)
        return Outgoing(claim, self.sender.envelope(claim.id), message)

    def unsent(self, claim: Claim, why: str, pause: timedelta = timedelta()) -> Outcome:
        """Return what is written of a letter that was claimed, and that no server heard of."""
        return Outcome(claim.id, "deferred", why, self.clock() + pause)

    def outcome(self, claim: Claim, reply: Reply) -> Outcome:
        """Return what is written of a letter after the server's reply."""
        return outcome(claim, reply, self.clock(), self.sender.hashed)


@define
class Uncertain(Planned):
    """The letters whose fate is uncertain, to be sent once more, less the posts that are gone.

    The row stays the same, and so does the Message-ID: who gets such a letter twice may see it
    once. What is not accepted now stays uncertain (rule 11).
    """

    desk: Desk
    visible: Collection[str]
    _after: int = 0

    def _read(self, number: int) -> tuple[Letter, bytes] | None:
        frozen_letter = self.store.letters.find(number)
        if frozen_letter is None:
            return None
        letter = as_planned(frozen_letter)
        kept = tuple(post for post in letter.posts if post in self.visible)
        if not kept:
            return None
        if kept == letter.posts:
            return letter, frozen_letter.content
        return letter, self.desk.write(evolve(letter, posts=kept), frozen_letter.date)

    def take(self, outcomes: Sequence[Outcome], limit: int) -> Sequence[Claim]:
        """Record `outcomes`, and take up to `limit` uncertain letters."""
        ledger, hashed = self.store.ledger, self.sender.hashed
        claims = ledger.turn_again(
            self.run, outcomes, limit, self.clock(), hashed, after=self._after
        )
        self._after = max((claim.id for claim in claims), default=self._after)
        return claims

    def wake(self) -> int:
        """Return 0: an uncertain letter waits for nothing but a person."""
        return 0

    def unsent(self, claim: Claim, why: str, pause: timedelta = timedelta()) -> Outcome:
        """Return what is written of a letter that was claimed, and that no server heard of now."""
        return evolve(super().unsent(claim, why, pause), state="uncertain", due=None)

    def outcome(self, claim: Claim, reply: Reply) -> Outcome:
        """Return what is written of a letter after the server's reply."""
        told = super().outcome(claim, reply)
        if told.state == "sent":
            return told
        return evolve(told, state="uncertain", due=None, refused=False)


def as_planned(letter: FrozenLetter) -> Letter:
    """Return the letter of which `letter` is the frozen form."""
    return Letter(letter.frequency, Bookmark(letter.boundary), letter.posts, letter.language)
