"""What is known of one rule."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from postroom.models import Severity


@frozen
class Rule:
    """A rule's name, its severity where the settings give none, why it is one, and its source."""

    name: str
    severity: Severity
    reason: str
    source: str


POSTS = (
    Rule(
        "post-id",
        "warning",
        "Readers and the ledger of letters know a post by its id; one made from the file's name"
        " changes with it.",
        "RFC 4287 §4.2.6",
    ),
    Rule(
        "post-key",
        "warning",
        "A key that is nearly one of Postroom's is a slip, and what it says is ignored.",
        "docs/posts.md",
    ),
    Rule(
        "post-summary",
        "warning",
        "Lists, letters and summary feeds show it; the first paragraph was not written for them.",
        "RFC 4287 §4.2.13",
    ),
    Rule(
        "post-title",
        "warning",
        "More than 70 characters are cut in search results and lists of letters, and a subject"
        " of more takes a second line.",
        "RFC 5322 §2.1.1",
    ),
    Rule(
        "post-topic",
        "warning",
        "Names that differ in case or punctuation are one topic; the odd one is a slip.",
        "docs/posts.md",
    ),
    Rule(
        "post-date-ahead",
        "warning",
        "A post that waits for more than half a year has a wrong year more often than patience.",
        "docs/posts.md",
    ),
    Rule(
        "post-date-early",
        "warning",
        "Ids belong to who held the domain on the date in them; a post from before that has a"
        " wrong date, or the settings' id has.",
        "RFC 4151 §2.1",
    ),
    Rule(
        "post-date-twin",
        "warning",
        "Readers drop entries of one time, so the second is moved from the time you wrote.",
        "docs/posts.md",
    ),
    Rule(
        "post-alt",
        "warning",
        "Who does not see a picture reads its description; in letters everybody does.",
        "WCAG 2.2, SC 1.1.1",
    ),
    Rule(
        "post-image",
        "error",
        "A picture that is not there is a broken one in every reader, and in a letter for ever.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-image-size",
        "warning",
        "A picture of more than 1 MB takes longer than the rest of the page on a phone.",
        "HTTP Archive, Web Almanac, page weight",
    ),
    Rule(
        "post-image-pixels",
        "warning",
        "Without width and height the text jumps when the picture arrives.",
        "HTML Living Standard, dimension attributes",
    ),
    Rule(
        "post-heading",
        "warning",
        "Who listens to a page goes by its headings; a skipped level sounds like a missing part.",
        "WCAG 2.2, SC 1.3.1 (technique G141)",
    ),
    Rule(
        "post-link-words",
        "warning",
        "Links are also read as a list, where 'click here' says nothing.",
        "WCAG 2.2, SC 2.4.4",
    ),
    Rule(
        "post-link",
        "error",
        "It leads to nothing, and what has been mailed cannot be corrected.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-link-unpublished",
        "error",
        "It leads to a draft, or to a post that comes later: to nothing, on the day it is read.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-link-expired",
        "warning",
        "It leads to a post whose expiryDate has come: to nothing, for those who read it later.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-link-withdrawn",
        "warning",
        "It leads to a notice that the post was taken back.",
        "RFC 9110 §15.5.11",
    ),
    Rule(
        "post-anchor",
        "warning",
        "Without the part it names, a link ends at the top of the page.",
        "HTML Living Standard, scrolling to a fragment",
    ),
    Rule(
        "post-link-outside",
        "warning",
        "Pages elsewhere move and vanish. Looked at with --links only.",
        "RFC 9110 §15.5",
    ),
)

SETTINGS = (
    Rule(
        "settings-language",
        "warning",
        "Pages and letters would mix English words into the newsroom's language.",
        "WCAG 2.2, SC 3.1.1",
    ),
    Rule(
        "settings-url",
        "warning",
        "Browsers warn of pages that come without encryption.",
        "W3C TAG, Securing the Web",
    ),
)

FEEDS = (
    Rule(
        "feed-xml",
        "error",
        "A reader shows nothing at all of XML that is not well-formed.",
        "XML 1.0 §2.1",
    ),
    Rule("feed-json", "error", "It must be JSON, with a list of items.", "JSON Feed 1.1"),
    Rule(
        "feed-size",
        "error",
        "Validators and some readers refuse more than 5 MB.",
        "W3C Feed Validation Service",
    ),
    Rule(
        "feed-id",
        "error",
        "Each entry has one id, a URI, and no other entry has it.",
        "RFC 4287 §4.2.6, RFC 3986",
    ),
    Rule(
        "feed-guid",
        "error",
        "A guid that is no address must not be called a permalink.",
        "RSS 2.0, guid",
    ),
    Rule(
        "feed-title",
        "error",
        "A title is plain text; readers disagree on tags and references in it.",
        "RFC 4287 §3.1.1.1, RSS Best Practices Profile",
    ),
    Rule(
        "feed-updated",
        "error",
        "Each entry has one time of its own; validators and readers object to equal ones.",
        "RFC 4287 §4.2.15",
    ),
    Rule("feed-author", "error", "The feed, or each entry, has an author.", "RFC 4287 §4.1.1"),
    Rule(
        "feed-link",
        "error",
        "Links are absolute, one leads to the feed itself, and none says the same as another.",
        "RFC 4287 §4.1.1, RSS Best Practices Profile",
    ),
    Rule("feed-url", "error", "The address of an item is absolute.", "JSON Feed 1.1"),
    Rule("feed-language", "error", "A language is a tag such as en or en-US.", "RFC 5646 §2.1"),
    Rule(
        "feed-summary",
        "error",
        "An entry with content has a summary before it; some readers show the first of both.",
        "RFC 4287 §4.2.13",
    ),
    Rule(
        "feed-description",
        "error",
        "A description is text, escaped for readers that present HTML, and precedes the content.",
        "RSS 2.0, item; RSS Best Practices Profile, content:encoded",
    ),
    Rule(
        "feed-enclosure",
        "error",
        "An attached file has an address, a type and a length, and in RSS it is the only one.",
        "RSS 2.0, enclosure",
    ),
    Rule(
        "feed-content",
        "error",
        "Readers drop scripts, forms and styles, and cannot follow relative addresses.",
        "RFC 4287 §8.1, RSS Best Practices Profile",
    ),
)

PAGES = (
    Rule(
        "page-id",
        "error",
        "An id that stands twice sends links, labels and screen readers to the wrong place.",
        "HTML Living Standard, the id attribute",
    ),
    Rule(
        "page-title",
        "warning",
        "Pages of one title, or of none, cannot be told apart in tabs and search results.",
        "WCAG 2.2, SC 2.4.2",
    ),
    Rule(
        "page-language",
        "error",
        "A voice reads a page in the language that is named.",
        "WCAG 2.2, SC 3.1.1",
    ),
    Rule(
        "page-heading",
        "warning",
        "One first-level heading says what a page is; a skipped level sounds like a missing part.",
        "WCAG 2.2, SC 1.3.1",
    ),
    Rule(
        "page-alt",
        "error",
        "Of a picture without alt a voice reads the name of the file.",
        "WCAG 2.2, SC 1.1.1",
    ),
    Rule(
        "page-empty-link",
        "error",
        "A voice has nothing to say for it.",
        "WCAG 2.2, SC 2.4.4",
    ),
    Rule(
        "page-link",
        "error",
        "It leads to nothing. What posts themselves link to is told as theirs.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "page-anchor",
        "warning",
        "Without the part it names, a link ends at the top of the page.",
        "HTML Living Standard, scrolling to a fragment",
    ),
    Rule(
        "page-contrast",
        "error",
        "Text with a contrast below 4.5 is lost on many people, and on everybody in the sun.",
        "WCAG 2.2, SC 1.4.3",
    ),
)

EARLIER = (
    Rule(
        "earlier-id",
        "error",
        "A new id is a new post: every reader shows it again, and every subscriber gets it again.",
        "RFC 4287 §4.2.6.1",
    ),
    Rule(
        "earlier-address",
        "warning",
        "Links to the old address break, unless the host redirects them.",
        "W3C, Cool URIs don't change",
    ),
    Rule(
        "earlier-gone",
        "warning",
        "A deleted post leaves broken links and stays in readers; `withdrawn` takes it back.",
        "RFC 9110 §15.5.11",
    ),
    Rule(
        "earlier-history",
        "warning",
        "Archive documents should never change: readers do not fetch them again.",
        "RFC 5005 §4",
    ),
)

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

LETTERS = tuple(Rule(f"email-{name}", *known) for name, known in _RULES.items())

KINDS: Mapping[str, tuple[Rule, ...]] = {
    "Posts": POSTS,
    "Settings": SETTINGS,
    "Feeds": FEEDS,
    "Pages": PAGES,
    "Letters": LETTERS,
    "What was published earlier": EARLIER,
}
RULES: Mapping[str, Rule] = {rule.name: rule for kind in KINDS.values() for rule in kind}
