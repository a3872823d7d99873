"""The letters that a run sends: those of its plan, or those that are uncertain, once more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from attrs import define, evolve, field, frozen

from postroom.db.store import Store
from postroom.mail.tokens import Keys, envelope_sender
from postroom.models import ClaimedDelivery, Cursor, DeliveryOutcome, Issue, IssueSnapshot, Site
from postroom.newsletter.mime import split_address
from postroom.newsletter.personalize import PreparedIssue
from postroom.scheduling.rules import message_key
from postroom.send.content import ContentSource
from postroom.send.outcomes import Clock, make_outcome, retry_delay
from postroom.send.pool import OutgoingMessage, SmtpReply

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


def make_sender(site: Site, keys: Keys) -> Sender:
    """Return the sender that the settings name."""
    bounces = split_address(site.mail.bounces)[1] if site.mail.bounces else ""
    return Sender(bounces, split_address(site.mail.sender)[1], keys)


class _Letters:
    """Frozen letters made ready once, for all the subscribers who get them."""

    def __init__(
        self,
        read: Callable[[int], tuple[Issue, bytes] | None],
        write: Callable[[bytes], bytes],
    ) -> None:
        """Take a letter, and its content, from `read`; None if it is not to be sent."""
        self._read = read
        self._write = write
        self._at_hand: dict[int, tuple[Issue, PreparedIssue] | None] = {}

    def find(self, number: int) -> tuple[Issue, PreparedIssue] | None:
        """Return the letter with this id, written as it goes over the wire.

        A token is as long as its placeholder and holds no dot, so it may be put in afterwards.
        Raises `ValueError` for a letter that cannot be written so.
        """
        if number not in self._at_hand:
            if len(self._at_hand) >= _AT_HAND:
                self._at_hand.pop(next(iter(self._at_hand)))
            found = self._read(number)
            ready = (found[0], PreparedIssue(self._write(found[1]))) if found else None
            self._at_hand[number] = ready
        return self._at_hand[number]


@define
class PlannedQueue:
    """The letters of a run's plan; `write` writes a message as it goes over the wire."""

    store: Store
    run: int
    clock: Clock
    sender: Sender
    write: Callable[[bytes], bytes]
    _letters: _Letters = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._letters = _Letters(self._read, self.write)

    def _read(self, number: int) -> tuple[Issue, bytes] | None:
        frozen_letter = self.store.issues.find(number)
        return (render_as_planned(frozen_letter), frozen_letter.content) if frozen_letter else None

    def take(self, outcomes: Sequence[DeliveryOutcome], limit: int) -> Sequence[ClaimedDelivery]:
        """Record `outcomes`, and take up to `limit` letters for sending."""
        hashed = self.sender.hashed
        return self.store.deliveries.record_and_claim(
            self.run, outcomes, limit, self.clock(), hashed
        )

    def record(self, outcomes: Sequence[DeliveryOutcome]) -> None:
        """Write down what became of letters."""
        self.store.deliveries.record(self.run, outcomes, self.clock())

    def wake(self) -> int:
        """Plan the deferred letters whose time has come."""
        return self.store.deliveries.retry_deferred(self.run, self.clock())

    def outgoing(self, claim: ClaimedDelivery) -> OutgoingMessage | DeliveryOutcome:
        """Return the letter as it leaves, or what becomes of it because it cannot."""
        try:
            found = self._letters.find(claim.issue)
        except ValueError as error:
            return evolve(self.unsent(claim, str(error), retry_delay(claim.attempts)), refused=True)
        if found is None:
            return DeliveryOutcome(claim.id, "uncertain", "all its posts are gone")
        letter, prepared = found
        # The key says which letter it is and to whom, so it is the same when it is tried again.
        message_id = prepared.message_id(message_key(claim.subscriber, letter))
        try:
            message = prepared.message(claim.address, claim.token, message_id)
        except ValueError as error:
            return DeliveryOutcome(claim.id, "bounced", str(error), refused=True)
        return OutgoingMessage(claim, self.sender.envelope(claim.id), message)

    def unsent(
        self, claim: ClaimedDelivery, why: str, pause: timedelta = timedelta()
    ) -> DeliveryOutcome:
        """Return what is written of a letter that was claimed, and that no server heard of."""
        return DeliveryOutcome(claim.id, "deferred", why, self.clock() + pause)

    def outcome(self, claim: ClaimedDelivery, reply: SmtpReply) -> DeliveryOutcome:
        """Return what is written of a letter after the server's reply."""
        return make_outcome(claim, reply, self.clock(), self.sender.hashed)


@define
class UncertainQueue(PlannedQueue):
    """The letters whose fate is uncertain, to be sent once more, less the posts that are gone.

    The row stays the same, and so does the Message-ID: who gets such a letter twice may see it
    once. What is not accepted now stays uncertain (rule 11).
    """

    desk: ContentSource
    visible: Collection[str]
    _after: int = 0

    def _read(self, number: int) -> tuple[Issue, bytes] | None:
        frozen_letter = self.store.issues.find(number)
        if frozen_letter is None:
            return None
        letter = render_as_planned(frozen_letter)
        kept = tuple(post for post in letter.posts if post in self.visible)
        if not kept:
            return None
        if kept == letter.posts:
            return letter, frozen_letter.content
        return letter, self.desk.render(evolve(letter, posts=kept), frozen_letter.date)

    def take(self, outcomes: Sequence[DeliveryOutcome], limit: int) -> Sequence[ClaimedDelivery]:
        """Record `outcomes`, and take up to `limit` uncertain letters."""
        ledger, hashed = self.store.deliveries, self.sender.hashed
        claims = ledger.record_and_claim_uncertain(
            self.run, outcomes, limit, self.clock(), hashed, after=self._after
        )
        self._after = max((claim.id for claim in claims), default=self._after)
        return claims

    def wake(self) -> int:
        """Return 0: an uncertain letter waits for nothing but a person."""
        return 0

    def unsent(
        self, claim: ClaimedDelivery, why: str, pause: timedelta = timedelta()
    ) -> DeliveryOutcome:
        """Return what is written of a letter that was claimed, and that no server heard of now."""
        return evolve(super().unsent(claim, why, pause), state="uncertain", retry_at=None)

    def outcome(self, claim: ClaimedDelivery, reply: SmtpReply) -> DeliveryOutcome:
        """Return what is written of a letter after the server's reply."""
        told = super().outcome(claim, reply)
        if told.state == "sent":
            return told
        return evolve(told, state="uncertain", retry_at=None, refused=False)


def render_as_planned(letter: IssueSnapshot) -> Issue:
    """Return the letter of which `letter` is the frozen form."""
    return Issue(letter.frequency, Cursor(letter.cutoff), letter.posts, letter.language)
