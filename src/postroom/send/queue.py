"""Queues of deliveries to send: the planned ones of a run, or uncertain ones to send again."""

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
from postroom.send.pool import OutgoingMessage
from postroom.smtp.transaction import TransactionResult

# Prepared issues in memory. A run goes through its issues in order, so a few would do.
_CACHE_SIZE = 64


@frozen
class Sender:
    """The addresses that send the emails of a site, and the keys that sign envelope senders.

    `bounces` is the address that receives bounces, empty if there is none; `address` is that of
    the From header.
    """

    bounces: str
    address: str
    keys: Keys

    def envelope(self, delivery: int) -> str:
        """Return the envelope sender for `delivery`, to which servers report a failure.

        If the site has an address for bounces, the envelope sender contains the signed delivery id.
        """
        if self.bounces:
            return envelope_sender(self.bounces, delivery, self.keys)
        return self.address

    def hash_key(self, key: str) -> str:
        """Return the suppression hash of `key`, the key of an address."""
        return self.keys.suppression(key)


def make_sender(site: Site, keys: Keys) -> Sender:
    """Return the sender that the settings of `site` describe."""
    bounces = split_address(site.mail.bounces)[1] if site.mail.bounces else ""
    return Sender(bounces, split_address(site.mail.sender)[1], keys)


class _IssueCache:
    """A cache of issues in the form for SMTP, each prepared once for all its subscribers."""

    def __init__(
        self,
        read: Callable[[int], tuple[Issue, bytes] | None],
        to_wire: Callable[[bytes], bytes],
    ) -> None:
        """Prepare for use; `read` returns the issue with an id, and its content.

        It returns None if the issue must not be sent. `to_wire` converts a message for DATA.
        """
        self._read = read
        self._to_wire = to_wire
        self._prepared: dict[int, tuple[Issue, PreparedIssue] | None] = {}

    def find(self, number: int) -> tuple[Issue, PreparedIssue] | None:
        """Return the issue with this id in the form for SMTP, None if it must not be sent.

        The content still has placeholders for the subscriber's token. The token is inserted later,
        and leaves the form valid: it is as long as its placeholder and contains no dot, so no dot
        must be doubled. Raises `ValueError` for an issue that SMTP cannot carry.
        """
        if number not in self._prepared:
            if len(self._prepared) >= _CACHE_SIZE:
                self._prepared.pop(next(iter(self._prepared)))
            found = self._read(number)
            prepared = (found[0], PreparedIssue(self._to_wire(found[1]))) if found else None
            self._prepared[number] = prepared
        return self._prepared[number]


@define
class PlannedQueue:
    """The deliveries that the run with the id `run` has planned.

    `to_wire` converts a message to the form for the DATA command of SMTP.
    """

    store: Store
    run: int
    clock: Clock
    sender: Sender
    to_wire: Callable[[bytes], bytes]
    _issues: _IssueCache = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._issues = _IssueCache(self._read, self.to_wire)

    def _read(self, number: int) -> tuple[Issue, bytes] | None:
        snapshot = self.store.issues.find(number)
        return (issue_of(snapshot), snapshot.content) if snapshot else None

    def claim(self, outcomes: Sequence[DeliveryOutcome], limit: int) -> Sequence[ClaimedDelivery]:
        """Record `outcomes` and claim up to `limit` deliveries, in one transaction."""
        hash_key = self.sender.hash_key
        return self.store.deliveries.record_and_claim(
            self.run, outcomes, limit, self.clock(), hash_key
        )

    def record(self, outcomes: Sequence[DeliveryOutcome]) -> None:
        """Record the outcomes of deliveries."""
        self.store.deliveries.record(self.run, outcomes, self.clock())

    def retry_deferred(self) -> int:
        """Plan the deferred deliveries whose delay is over; return their number."""
        return self.store.deliveries.retry_deferred(self.run, self.clock())

    def make_message(self, claim: ClaimedDelivery) -> OutgoingMessage | DeliveryOutcome:
        """Return the message for a delivery, or the delivery's outcome if it cannot be sent."""
        try:
            found = self._issues.find(claim.issue)
        except ValueError as error:
            unsent = self.unsent_outcome(claim, str(error), retry_delay(claim.attempts))
            return evolve(unsent, refused=True)
        if found is None:
            return DeliveryOutcome(claim.id, "uncertain", "all its posts are gone")
        issue, prepared = found
        # The key depends on the issue and the subscriber alone, so a retry has the same one.
        message_id = prepared.message_id(message_key(claim.subscriber, issue))
        try:
            message = prepared.message(claim.address, claim.token, message_id)
        except ValueError as error:
            return DeliveryOutcome(claim.id, "bounced", str(error), refused=True)
        return OutgoingMessage(claim, self.sender.envelope(claim.id), message)

    def unsent_outcome(
        self, claim: ClaimedDelivery, reason: str, delay: timedelta = timedelta()
    ) -> DeliveryOutcome:
        """Return the outcome of a claimed delivery that was not submitted to the server.

        It is deferred, to be tried again after `delay`.
        """
        return DeliveryOutcome(claim.id, "deferred", reason, self.clock() + delay)

    def outcome(self, claim: ClaimedDelivery, reply: TransactionResult) -> DeliveryOutcome:
        """Return the outcome of a delivery after the server's reply."""
        return make_outcome(claim, reply, self.clock(), self.sender.hash_key)


@define
class UncertainQueue(PlannedQueue):
    """The uncertain deliveries, to be sent again without the posts that are no longer visible.

    The Message-ID stays the same, so a mail program that has received both copies may show them as
    one email. A delivery that the server does not accept now stays uncertain (delivery rules,
    rule 11).
    """

    content: ContentSource
    visible: Collection[str]
    _after: int = 0

    def _read(self, number: int) -> tuple[Issue, bytes] | None:
        snapshot = self.store.issues.find(number)
        if snapshot is None:
            return None
        issue = issue_of(snapshot)
        posts = tuple(post for post in issue.posts if post in self.visible)
        if not posts:
            return None
        if posts == issue.posts:
            return issue, snapshot.content
        return issue, self.content.render(evolve(issue, posts=posts), snapshot.date)

    def claim(self, outcomes: Sequence[DeliveryOutcome], limit: int) -> Sequence[ClaimedDelivery]:
        """Record `outcomes` and claim up to `limit` uncertain deliveries."""
        claims = self.store.deliveries.record_and_claim_uncertain(
            self.run, outcomes, limit, self.clock(), self.sender.hash_key, after=self._after
        )
        self._after = max((claim.id for claim in claims), default=self._after)
        return claims

    def retry_deferred(self) -> int:
        """Return 0, because uncertain deliveries are never sent again without a request."""
        return 0

    def unsent_outcome(
        self, claim: ClaimedDelivery, reason: str, delay: timedelta = timedelta()
    ) -> DeliveryOutcome:
        """Return the outcome of a claimed delivery that was not submitted: it stays uncertain."""
        return evolve(
            super().unsent_outcome(claim, reason, delay), state="uncertain", retry_at=None
        )

    def outcome(self, claim: ClaimedDelivery, reply: TransactionResult) -> DeliveryOutcome:
        """Return the outcome after the server's reply: sent, or else still uncertain."""
        outcome = super().outcome(claim, reply)
        if outcome.state == "sent":
            return outcome
        return evolve(outcome, state="uncertain", retry_at=None, refused=False)


def issue_of(snapshot: IssueSnapshot) -> Issue:
    """Return the issue that `snapshot` was made from."""
    return Issue(snapshot.frequency, Cursor(snapshot.cutoff), snapshot.posts, snapshot.language)
