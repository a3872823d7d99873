"""The rules of a good letter: the message, its HTML, its style, its links and both its parts."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.model import Severity
from postroom.rules.rule import Rule

_GOOGLE = "Google, Email sender guidelines"
_PRACTICE = "practice of mail programs"
_WCAG = "WCAG 2.2, SC"

_RULES: Mapping[str, tuple[Severity, str, str]] = {
    # The message.
    "readable": (
        "error",
        "What cannot be taken apart here falls apart in mail programs, too.",
        "RFC 5322",
    ),
    "line-breaks": (
        "error",
        "A line break that stands alone, or NUL, forges lines on the way.",
        "RFC 5321 §2.3.8",
    ),
    "head-lines": ("error", "Servers cut lines of more than 998 bytes.", "RFC 5322 §2.1.1"),
    "body-lines": (
        "warning",
        "A line of more than 78 bytes may be broken on the way.",
        "RFC 5322 §2.1.1",
    ),
    "fields": (
        "error",
        "A field that no letter has was smuggled in, or tells of the sender.",
        "RFC 5322 §3.6",
    ),
    "control-characters": (
        "error",
        "A decoded line break starts a field of its own.",
        "CVE-2024-6923",
    ),
    "encoded-fields": (
        "error",
        "No program reads an encoded word in a field for programs.",
        "RFC 2047 §5",
    ),
    "sender": (
        "error",
        "A subscriber must see who writes, under one name.",
        "CAN-SPAM, 15 USC 7704(a)(1)",
    ),
    "one-sender": ("error", "Letters from several mailboxes are refused.", _GOOGLE),
    "reply-address": (
        "warning",
        "Whom nobody can answer nobody trusts.",
        "CAN-SPAM, 15 USC 7704(a)(3)",
    ),
    "subject": (
        "error",
        "A letter without a subject looks like spam.",
        "CAN-SPAM, 15 USC 7704(a)(2)",
    ),
    "parts": (
        "error",
        "A text part, then an HTML part, in UTF-8: each mail program shows the last it knows.",
        "RFC 2046 §5.1.4",
    ),
    "identity": (
        "error",
        "A field of identity that is doubled or missing is refused.",
        "RFC 5322 §3.6",
    ),
    "one-recipient": (
        "error",
        "Who sees another's address has learned what is not theirs.",
        "GDPR Art. 5",
    ),
    "message-id": (
        "error",
        "By the sender's own Message-ID a letter that came twice shows once.",
        "RFC 5322 §3.6.4",
    ),
    "date": ("error", "A date that nobody can read counts as forged.", "RFC 5322 §3.6.1"),
    "list-fields": (
        "error",
        "List-Id, List-Unsubscribe and List-Unsubscribe-Post stand once each.",
        "RFC 8058 §3.1",
    ),
    "list-id": ("error", "Filters know the list by an id that never changes.", "RFC 2919 §3"),
    "one-click": (
        "error",
        "A mail program leaves by one click only at one https address.",
        "RFC 8058 §3.1",
    ),
    "opaque-token": (
        "error",
        "An address or a number in the way to leave is guessed and logged.",
        "RFC 8058 §7",
    ),
    "own-page": (
        "error",
        "The link to leave takes off who reads it, and nobody else.",
        "RFC 8058 §3.1",
    ),
    "tracking": (
        "error",
        "A link that names its reader watches them without consent.",
        "GDPR Art. 6, 7",
    ),
    "signature": (
        "error",
        "What a signature leaves out anybody may change.",
        "RFC 8058 §3.1, RFC 6376 §5.4",
    ),
    # The HTML: what it weighs, loads and shows.
    "size": ("error", "Gmail cuts a letter at about 102 KB, and its foot with it.", _PRACTICE),
    "remote-load": (
        "error",
        "What a letter loads tells a stranger when and where it is read.",
        "GDPR Art. 6",
    ),
    "pixel": (
        "error",
        "A picture that nobody sees is there to watch the reader.",
        "CNIL, tracking pixels",
    ),
    "image-alt": ("error", "Many see the words of a picture alone.", f"{_WCAG} 1.1.1"),
    "image-size": (
        "warning",
        "Without a size the letter jumps, and Outlook shows it as large as it is.",
        _PRACTICE,
    ),
    "image-address": (
        "error",
        "Mail programs show pictures from whole https addresses alone.",
        _PRACTICE,
    ),
    "script": ("error", "Mail programs drop scripts, and filters the letter.", _PRACTICE),
    "dropped-element": ("error", "Mail programs drop it with all it holds.", _PRACTICE),
    "flex-or-grid": ("error", "Outlook and Gmail know no such layout.", "caniemail.com"),
    "position": ("error", "Mail programs drop it, and parts lie on each other.", "caniemail.com"),
    "background-image": (
        "error",
        "It is loaded from afar, and Outlook shows none.",
        "caniemail.com",
    ),
    "font-size": (
        "error",
        "Smaller text is hard to read, and hidden text is what spam does.",
        f"{_WCAG} 1.4.4",
    ),
    "contrast": ("error", "Text needs a contrast of 4.5 by day and by night.", f"{_WCAG} 1.4.3"),
    "style-syntax": ("error", "What cannot be read is dropped.", "CSS Syntax 3 §5"),
    "conditional-comments": (
        "error",
        "Outlook shows half a table, or nothing, where a condition is not closed.",
        _PRACTICE,
    ),
    "dark-mode": (
        "error",
        "Without rules for the night mail programs invent their own.",
        _PRACTICE,
    ),
    # The HTML: how it is built.
    "language": ("error", "A voice reads in the language that is named.", f"{_WCAG} 3.1.1"),
    "direction": (
        "error",
        "Without a direction Arabic and Hebrew start on the wrong side.",
        f"{_WCAG} 1.3.2",
    ),
    "wrapper": (
        "error",
        "Webmail drops the html element; a wrapper keeps role, language and direction.",
        _PRACTICE,
    ),
    "title": ("error", "A browser and a voice name a letter by its title.", f"{_WCAG} 2.4.2"),
    "first-heading": (
        "error",
        "One first-level heading says what the letter is.",
        f"{_WCAG} 1.3.1",
    ),
    "heading-order": (
        "warning",
        "Who goes by headings is lost where a level is skipped.",
        f"{_WCAG} 1.3.1",
    ),
    "layout-table": (
        "error",
        "A voice reads a table as rows and columns unless told otherwise.",
        "WAI-ARIA 1.2",
    ),
    "duplicate-id": (
        "error",
        "An id that stands twice leads links and voices astray.",
        "HTML, the id attribute",
    ),
    "preheader": (
        "error",
        "Mailboxes show the first text beside the subject; hidden otherwise it counts as spam.",
        _PRACTICE,
    ),
    "preheader-length": (
        "warning",
        "A mailbox shows 40 to 130 characters beside the subject.",
        _PRACTICE,
    ),
    "data-direction": (
        "error",
        "In a right-to-left letter numbers and addresses turn round.",
        "UAX #9",
    ),
    # The links.
    "empty-link": ("error", "A voice has nothing to say for it.", f"{_WCAG} 2.4.4"),
    "link-words": ("warning", "Out of its sentence such a link says nothing.", f"{_WCAG} 2.4.4"),
    "bad-href": ("error", "No mail program can follow it.", "RFC 3986 §4.3"),
    # Both parts.
    "text-part": ("error", "Who reads text alone gets an empty letter.", "RFC 2046 §5.1.4"),
    "same-words": ("error", "Both parts say the same.", "RFC 2046 §5.1.4"),
    "same-links": ("error", "Both parts lead to the same pages.", "RFC 2046 §5.1.4"),
    "contact": ("error", "Both parts say who writes and how to reach them.", "CAN-SPAM; §5 DDG"),
    "postal-address": (
        "error",
        "A commercial letter names a postal address.",
        "CAN-SPAM, 15 USC 7704(a)(5)",
    ),
    "signed": ("error", "Somebody answers for a letter.", "CAN-SPAM; §5 DDG"),
    "unsubscribe": ("error", "Both parts show where to leave.", f"{_GOOGLE}; 15 USC 7704(a)(3)"),
    "preferences": ("warning", "Who may choose less need not leave.", "GDPR Art. 7(3)"),
}

LETTERS = tuple(Rule(f"letter-{name}", *known) for name, known in _RULES.items())
