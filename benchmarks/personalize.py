"""Time how many messages one core personalizes, compared with the usual method.

    python benchmarks/personalize.py [--emails 200000] [--size 20]

The usual method builds each email with the standard library's EmailMessage. Processor time counts,
so that other work on the machine does little harm; each figure is the best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from zoneinfo import ZoneInfo

from postroom.mail.tokens import Keys, envelope_sender, new_token
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER, preferences_url, unsubscribe_url
from postroom.models import MailSettings, Site
from postroom.newsletter.personalize import list_id, prepare_issue
from postroom.newsletter.render import RenderedEmail

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
KEYS = Keys((b"a key for measuring only",))
MAIL = MailSettings(
    sender="Example News <news@example.com>",
    bounces="bounces@example.com",
    unsubscribe="https://news.example.com",
)
SITE = Site(
    title="Example News",
    url="https://news.example.com/",
    id="tag:news.example.com,2026:",
    language="en",
    timezone=ZoneInfo("UTC"),
    mail=MAIL,
)
SUBSCRIBERS = [
    (f"subscriber.{n}@mail{n % 100}.example.com", new_token(), f"{n:064x}") for n in range(1000)
]
Make = Callable[[tuple[str, str, str]], bytes]


def rendered(size: int) -> RenderedEmail:
    """Return an email whose message has about `size` bytes: a quarter text, the rest HTML."""
    line = '<p style="margin: 0 0 16px;">Words of Köln and elsewhere, 12 of them in a line.</p>\n'
    words = "Words of Köln and elsewhere, twelve of them in a line.\n"
    links = f"{unsubscribe_url(SITE)}\n{preferences_url(SITE)}\n"
    html = line * (size * 3 // 4 // (len(line) + 12)) + links
    return RenderedEmail("We moved to Köln", html, words * (size // 4 // (len(words) + 6)) + links)


def fast(email: RenderedEmail) -> Make:
    """Return Postroom's method: the email is prepared once, each message is put together."""
    prepared = prepare_issue(email, SITE, NOW)

    def make(subscriber: tuple[str, str, str]) -> bytes:
        address, token, key = subscriber
        return prepared.message(address, token, prepared.message_id(key))

    return make


def with_envelope(email: RenderedEmail) -> Make:
    """Return the same with all that the mail server is told besides."""
    make = fast(email)

    def make_both(subscriber: tuple[str, str, str]) -> bytes:
        envelope_sender(MAIL.bounces, int(subscriber[2], 16), KEYS)
        return make(subscriber)

    return make_both


def usual(email: RenderedEmail) -> Make:
    """Return the usual method: each message is built of fields and two parts."""

    def make(subscriber: tuple[str, str, str]) -> bytes:
        address, token, key = subscriber
        mail = EmailMessage(policy=policy.SMTP)
        mail["To"] = address
        mail["Message-ID"] = f"<{key[:32]}@example.com>"
        mail["From"] = MAIL.sender
        mail["Subject"] = email.subject
        mail["Date"] = format_datetime(NOW)
        mail["List-Id"] = list_id(SITE)
        mail["List-Unsubscribe"] = f"<{unsubscribe_url(SITE, token)}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        mail.set_content(email.text.replace(TOKEN_PLACEHOLDER, token), cte="quoted-printable")
        html = email.html.replace(TOKEN_PLACEHOLDER, token)
        mail.add_alternative(html, subtype="html", cte="quoted-printable")
        return mail.as_bytes()

    return make


def rate(make: Make, emails: int) -> float:
    """Return how many emails are made in a second of one core, the best of three tries."""
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        for number in range(emails):
            make(SUBSCRIBERS[number % len(SUBSCRIBERS)])
        best = max(best, emails / (time.process_time() - start))
    return best


def main() -> None:
    """Measure each method and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=20, help="KB of a message")
    chosen = parser.parse_args()
    email = rendered(chosen.size * 1000)
    start = time.process_time()
    size = len(fast(email)(SUBSCRIBERS[0]))
    print(f"a message of {size:,} bytes, prepared in {(time.process_time() - start) * 1e3:.1f} ms")
    print(f"{'method':28}{'emails/s':>12}{'each':>12}")
    slowest = 0.0
    for name, method, count in (
        ("EmailMessage for each", usual, max(100, chosen.emails // 500)),
        ("prepared", fast, chosen.emails),
        ("prepared, with envelope", with_envelope, chosen.emails),
    ):
        found = rate(method(email), count)
        slowest = slowest or found
        print(f"{name:28}{found:>12,.0f}{1e6 / found:>9,.1f} µs{found / slowest:>9,.0f}x")


if __name__ == "__main__":
    main()
