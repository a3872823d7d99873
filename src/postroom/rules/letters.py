"""The rules for letters, by the numbers under which `letters` knows them.

M is for messages, H for HTML, and N for what laws and mailbox providers ask of a newsletter.
"""

from __future__ import annotations

from postroom.rules.rule import Rule

LETTERS = (
    Rule(
        "letter-m1", "error", "A message has the fields of a letter and no other.", "RFC 5322 §3.6"
    ),
    Rule(
        "letter-m2",
        "error",
        "No field decodes to a line break or another control character.",
        "RFC 2047 §5",
    ),
    Rule(
        "letter-m3",
        "error",
        "No field that programs read is encoded.",
        "RFC 8058 §3.1, RFC 2919 §2",
    ),
    Rule(
        "letter-m4",
        "error",
        "From is the sender of the settings, name and all.",
        "15 U.S.C. 7704 (a)(1)",
    ),
    Rule(
        "letter-m5",
        "error",
        "A text and an HTML part, in that order, in UTF-8, lines of 78 bytes at most.",
        "RFC 2046 §5.1.4, RFC 5322 §2.1.1",
    ),
    Rule(
        "letter-m6",
        "error",
        "Each field of identity stands once; one person is addressed, nobody gets a copy.",
        "RFC 5322 §3.6",
    ),
    Rule(
        "letter-m7",
        "error",
        "The Message-ID is of the sender's domain; the date can be read.",
        "RFC 5322 §3.6.4",
    ),
    Rule(
        "letter-m8",
        "error",
        "List-Id, List-Unsubscribe and List-Unsubscribe-Post stand once.",
        "RFC 2369 §2, RFC 2919 §2",
    ),
    Rule(
        "letter-m9",
        "error",
        "A signature covers all that matters, both List-Unsubscribe fields included.",
        "RFC 8058 §4, RFC 6376 §5.4",
    ),
    Rule(
        "letter-h1",
        "error",
        "90 KB of HTML at most, and nothing is loaded.",
        "Gmail Help, clipped messages",
    ),
    Rule(
        "letter-h2",
        "error",
        "Every heading and link of one part stands in the other.",
        "RFC 2046 §5.1.4",
    ),
    Rule(
        "letter-h3",
        "error",
        "One title, no level skipped, language and direction, layout tables that say so.",
        "WCAG 2.2, SC 1.3.1 and 3.1.1",
    ),
    Rule("letter-h4", "error", "A contrast of 4.5 by day and by night.", "WCAG 2.2, SC 1.4.3"),
    Rule(
        "letter-h5",
        "error",
        "No text below 13 pixels, nothing that mail programs drop, links with words.",
        "Can I email; WCAG 2.2, SC 2.4.4",
    ),
    Rule(
        "letter-h6",
        "error",
        "Conditional comments are whole, and rules for the night are there.",
        "Microsoft, Outlook conditional comments",
    ),
    Rule(
        "letter-h7",
        "warning",
        "First comes a hidden line of 40 to 130 characters for the list of letters.",
        "Litmus, preview text",
    ),
    Rule(
        "letter-h8",
        "error",
        "Numbers and postal addresses run from left to right, names in their own direction.",
        "Unicode UAX #9",
    ),
    Rule(
        "letter-h9",
        "error",
        "Both parts say who writes and how to reach them, and lead to the reader's choices.",
        "RFC 2369 §1",
    ),
    Rule(
        "letter-n3",
        "error",
        "One https address with an opaque token, and one click is enough to leave by it.",
        "RFC 8058 §3.1",
    ),
    Rule(
        "letter-n7",
        "error",
        "Both parts show the page to leave at, and it is the reader's own.",
        "Gmail, Email sender guidelines",
    ),
    Rule(
        "letter-n10",
        "error",
        "One sender; lines of 998 bytes at most.",
        "RFC 5322 §3.6.2 and §2.1.1",
    ),
    Rule("letter-n12", "error", "List-Id is the one of the settings' id.", "RFC 2919 §2"),
    Rule("letter-n15", "error", "Both parts name a postal address.", "15 U.S.C. 7704 (a)(5)"),
    Rule(
        "letter-n16",
        "error",
        "Somebody signs, and an answer reaches them.",
        "Directive 2000/31/EC, Article 5",
    ),
    Rule("letter-n21", "error", "Both parts lead to the same pages.", "RFC 2046 §5.1.4"),
    Rule("letter-n22", "error", "No line break stands alone, and no NUL.", "RFC 5321 §2.3.8"),
)
