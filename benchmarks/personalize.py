"""Times how many letters one core makes of a rendered one, and weighs that against the usual way.

    python benchmarks/personalize.py [--letters 200000] [--size 20]

The usual way builds each letter with the standard library's EmailMessage. Processor time counts,
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
READERS = [(f"reader.{n}@mail{n % 100}.example.com", new_token(), f"{n:064x}") for n in range(1000)]
Make = Callable[[tuple[str, str, str]], bytes]


def rendered(size: int) -> RenderedEmail:
    """Return a letter whose message has about `size` bytes: a quarter text, the rest HTML."""
    line = '<p style="margin: 0 0 16px;">Words of Köln and elsewhere, 12 of them in a line.</p>\n'
    words = "Words of Köln and elsewhere, twelve of them in a line.\n"
    links = f"{unsubscribe_url(SITE)}\n{preferences_url(SITE)}\n"
    html = line * (size * 3 // 4 // (len(line) + 12)) + links
    return RenderedEmail("We moved to Köln", html, words * (size // 4 // (len(words) + 6)) + links)


def fast(letter: RenderedEmail) -> Make:
    """Return Postroom's way: the letter is prepared once, each message is put together."""
    prepared = prepare_issue(letter, SITE, NOW)

    def make(reader: tuple[str, str, str]) -> bytes:
        address, token, key = reader
        return prepared.message(address, token, prepared.message_id(key))

    return make


def with_envelope(letter: RenderedEmail) -> Make:
    """Return the same with all that the mail server is told besides."""
    make = fast(letter)

    def make_both(reader: tuple[str, str, str]) -> bytes:
        envelope_sender(MAIL.bounces, int(reader[2], 16), KEYS)
        return make(reader)

    return make_both


def usual(letter: RenderedEmail) -> Make:
    """Return the usual way: each message is built of fields and two parts."""

    def make(reader: tuple[str, str, str]) -> bytes:
        address, token, key = reader
        mail = EmailMessage(policy=policy.SMTP)
        mail["To"] = address
        mail["Message-ID"] = f"<{key[:32]}@example.com>"
        mail["From"] = MAIL.sender
        mail["Subject"] = letter.subject
        mail["Date"] = format_datetime(NOW)
        mail["List-Id"] = list_id(SITE)
        mail["List-Unsubscribe"] = f"<{unsubscribe_url(SITE, token)}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        mail.set_content(letter.text.replace(TOKEN_PLACEHOLDER, token), cte="quoted-printable")
        html = letter.html.replace(TOKEN_PLACEHOLDER, token)
        mail.add_alternative(html, subtype="html", cte="quoted-printable")
        return mail.as_bytes()

    return make


def rate(make: Make, letters: int) -> float:
    """Return how many letters are made in a second of one core, the best of three tries."""
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        for number in range(letters):
            make(READERS[number % len(READERS)])
        best = max(best, letters / (time.process_time() - start))
    return best


def main() -> None:
    """Measure each way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=20, help="KB of a message")
    chosen = parser.parse_args()
    letter = rendered(chosen.size * 1000)
    start = time.process_time()
    size = len(fast(letter)(READERS[0]))
    print(f"a message of {size:,} bytes, prepared in {(time.process_time() - start) * 1e3:.1f} ms")
    print(f"{'way':28}{'letters/s':>12}{'each':>12}")
    slowest = 0.0
    for name, way, count in (
        ("EmailMessage for each", usual, max(100, chosen.letters // 500)),
        ("prepared", fast, chosen.letters),
        ("prepared, with envelope", with_envelope, chosen.letters),
    ):
        found = rate(way(letter), count)
        slowest = slowest or found
        print(f"{name:28}{found:>12,.0f}{1e6 / found:>9,.1f} µs{found / slowest:>9,.0f}x")


if __name__ == "__main__":
    main()
