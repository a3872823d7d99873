"""The table of lint rules, each with its name, default severity, reason and source."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from postroom.models import Severity


@frozen
class Rule:
    """A lint rule; `severity` is the default, `reason` says why it exists."""

    name: str
    severity: Severity
    reason: str
    source: str


POSTS = (
    Rule(
        "post-id",
        "warning",
        "Feed readers and the delivery ledger recognise a post by its id. An id made from the file"
        " name changes when the file is renamed.",
        "RFC 4287 §4.2.6",
    ),
    Rule(
        "post-key",
        "warning",
        "A key that is similar to a known key is probably a typo, and its value is ignored.",
        "docs/posts.md",
    ),
    Rule(
        "post-summary",
        "warning",
        "Lists, emails and summary feeds show the summary. Without one they show the beginning of"
        " the text.",
        "RFC 4287 §4.2.13",
    ),
    Rule(
        "post-title",
        "warning",
        "Search results and mailboxes cut titles of more than 70 characters, and a longer subject"
        " needs a second line.",
        "RFC 5322 §2.1.1",
    ),
    Rule(
        "post-topic",
        "warning",
        "Names that differ only in case or punctuation are one topic. The rare spelling is probably"
        " a typo.",
        "docs/posts.md",
    ),
    Rule(
        "post-date-ahead",
        "warning",
        "A date more than half a year ahead is usually a wrong year.",
        "docs/posts.md",
    ),
    Rule(
        "post-date-early",
        "warning",
        "A tag URI is valid only if its author owned the domain on the date in it. A post before"
        " that date has a wrong date, or the id in the settings has.",
        "RFC 4151 §2.1",
    ),
    Rule(
        "post-date-order",
        "warning",
        "A post cannot change before it is published. One of the two dates is wrong, and feed"
        " readers may not show the change.",
        "RFC 4287 §4.2.15",
    ),
    Rule(
        "post-date-twin",
        "warning",
        "Feed readers drop entries with equal times, so the second post is moved to another time.",
        "docs/posts.md",
    ),
    Rule(
        "post-alt",
        "warning",
        "People who do not see an image get its description instead, and so does everybody who"
        " reads the email.",
        "WCAG 2.2, SC 1.1.1",
    ),
    Rule(
        "post-image",
        "error",
        "A missing image is broken in every feed reader, and cannot be corrected in emails that"
        " have been sent.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-image-size",
        "warning",
        "An image of more than 1 MB takes longer to load on a phone than the rest of the page.",
        "HTTP Archive, Web Almanac, page weight",
    ),
    Rule(
        "attachment-active",
        "warning",
        "HTML, JavaScript and SVG files with scripts run with the rights of the site, whoever wrote"
        " the post.",
        "OWASP, Unrestricted File Upload",
    ),
    Rule(
        "post-image-pixels",
        "warning",
        "Without width and height the text moves when the image loads.",
        "HTML Living Standard, dimension attributes",
    ),
    Rule(
        "post-heading",
        "warning",
        "Users of screen readers navigate by headings. A skipped level looks like a missing part.",
        "WCAG 2.2, SC 1.3.1 (technique G141)",
    ),
    Rule(
        "post-character",
        "warning",
        "Control characters come from other programs and are invisible. No feed can hold them, so"
        " they are left out.",
        "XML 1.0 §2.2",
    ),
    Rule(
        "post-emphasis",
        "warning",
        "Beside punctuation, signs of emphasis work only with a space or more punctuation on the"
        " other side. Otherwise people see the signs.",
        "CommonMark §6.2",
    ),
    Rule(
        "post-link-words",
        "warning",
        "Screen readers list links without their context, where 'click here' says nothing.",
        "WCAG 2.2, SC 2.4.4",
    ),
    Rule(
        "post-link",
        "error",
        "The link is broken, and cannot be corrected in emails that have been sent.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-link-unpublished",
        "error",
        "The link leads to a draft or to a scheduled post, so it is broken when the post is"
        " published.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-link-expired",
        "warning",
        "The link leads to a post with an expiryDate, so it is broken after that date.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "post-link-withdrawn",
        "warning",
        "The link leads to a notice that the post was withdrawn.",
        "RFC 9110 §15.5.11",
    ),
    Rule(
        "post-anchor",
        "warning",
        "If the fragment of a link does not exist, browsers show the top of the page.",
        "HTML Living Standard, scrolling to a fragment",
    ),
    Rule(
        "post-link-outside",
        "warning",
        "Pages on other sites move and disappear. Checked with --links only.",
        "RFC 9110 §15.5",
    ),
)

SETTINGS = (
    Rule(
        "settings-language",
        "warning",
        "The theme has no translation, so pages and emails mix English with the site's language.",
        "WCAG 2.2, SC 3.1.1",
    ),
    Rule(
        "settings-url",
        "warning",
        "Browsers warn about pages without encryption.",
        "W3C TAG, Securing the Web",
    ),
)

FEEDS = (
    Rule(
        "feed-xml",
        "error",
        "Feed readers show nothing of XML that is not well-formed.",
        "XML 1.0 §2.1",
    ),
    Rule(
        "feed-json",
        "error",
        "A JSON Feed must be valid JSON with a list of items.",
        "JSON Feed 1.1",
    ),
    Rule(
        "feed-size",
        "error",
        "Validators and some feed readers refuse more than 5 MB.",
        "W3C Feed Validation Service",
    ),
    Rule(
        "feed-id",
        "error",
        "Each entry must have exactly one id, which is a URI and unique in the feed.",
        "RFC 4287 §4.2.6, RFC 3986",
    ),
    Rule(
        "feed-guid",
        "error",
        "A guid that is not a URL must not be marked as a permalink.",
        "RSS 2.0, guid",
    ),
    Rule(
        "feed-title",
        "error",
        "A title must be plain text. Feed readers treat tags and character references in it"
        " differently.",
        "RFC 4287 §3.1.1.1, RSS Best Practices Profile",
    ),
    Rule(
        "feed-updated",
        "error",
        "Each entry needs its own time. Validators and feed readers reject equal times.",
        "RFC 4287 §4.2.15",
    ),
    Rule(
        "feed-author",
        "error",
        "The feed, or each entry, must have an author.",
        "RFC 4287 §4.1.1",
    ),
    Rule(
        "feed-link",
        "error",
        "Links must be absolute, one must lead to the feed itself, and no two may be equal in type"
        " and language.",
        "RFC 4287 §4.1.1, RSS Best Practices Profile",
    ),
    Rule("feed-url", "error", "The URL of an item must be absolute.", "JSON Feed 1.1"),
    Rule(
        "feed-language",
        "error",
        "A language must be a tag such as en or en-US.",
        "RFC 5646 §2.1",
    ),
    Rule(
        "feed-summary",
        "error",
        "An entry with content needs a summary before it. Some feed readers show whichever comes"
        " first.",
        "RFC 4287 §4.2.13",
    ),
    Rule(
        "feed-description",
        "error",
        "A description must be text, escaped for feed readers that show HTML, and come before the"
        " content.",
        "RSS 2.0, item; RSS Best Practices Profile, content:encoded",
    ),
    Rule(
        "feed-enclosure",
        "error",
        "An enclosure must have a URL, a type and a length. RSS allows one for each item.",
        "RSS 2.0, enclosure",
    ),
    Rule(
        "feed-content",
        "error",
        "Feed readers remove scripts, forms and styles, and cannot resolve relative URLs.",
        "RFC 4287 §8.1, RSS Best Practices Profile",
    ),
)

PAGES = (
    Rule(
        "page-id",
        "error",
        "A duplicate id sends links, labels and screen readers to the wrong element.",
        "HTML Living Standard, the id attribute",
    ),
    Rule(
        "page-title",
        "warning",
        "Pages with no title, or with the title of another page, look alike in tabs and search"
        " results.",
        "WCAG 2.2, SC 2.4.2",
    ),
    Rule(
        "page-language",
        "error",
        "Screen readers choose the pronunciation by the language of the page.",
        "WCAG 2.2, SC 3.1.1",
    ),
    Rule(
        "page-heading",
        "warning",
        "One first-level heading names the page. A skipped level looks like a missing part.",
        "WCAG 2.2, SC 1.3.1",
    ),
    Rule(
        "page-alt",
        "error",
        "Screen readers read the file name of an image without alt.",
        "WCAG 2.2, SC 1.1.1",
    ),
    Rule(
        "page-empty-link",
        "error",
        "Screen readers have no text to read for the link.",
        "WCAG 2.2, SC 2.4.4",
    ),
    Rule(
        "page-link",
        "error",
        "The link is broken. Links in the text of a post are reported for the post.",
        "RFC 9110 §15.5.5",
    ),
    Rule(
        "page-anchor",
        "warning",
        "If the fragment of a link does not exist, browsers show the top of the page.",
        "HTML Living Standard, scrolling to a fragment",
    ),
    Rule(
        "page-contrast",
        "error",
        "Many people cannot read text with a contrast below 4.5, and in sunlight nobody can.",
        "WCAG 2.2, SC 1.4.3",
    ),
)

EARLIER = (
    Rule(
        "earlier-id",
        "error",
        "A new id makes a new post: feed readers show it again, and subscribers receive it again.",
        "RFC 4287 §4.2.6.1",
    ),
    Rule(
        "earlier-address",
        "warning",
        "Links to the old URL break unless the web server redirects them.",
        "W3C, Cool URIs don't change",
    ),
    Rule(
        "earlier-gone",
        "warning",
        "A deleted post leaves broken links and stays in feed readers. Use `withdrawn` to retract"
        " it.",
        "RFC 9110 §15.5.11",
    ),
    Rule(
        "earlier-history",
        "warning",
        "Archive documents must not change, because feed readers do not fetch them again.",
        "RFC 5005 §4",
    ),
)

_CAN_SPAM = "CAN-SPAM, 15 USC"
_GOOGLE = "Google, Email sender guidelines"
_PRACTICE = "practice of mail programs"
_WCAG = "WCAG 2.2, SC"

EMAIL_HEADERS = (
    Rule(
        "email-readable",
        "error",
        "A message that cannot be parsed is shown wrongly, or not at all, by mail programs.",
        "RFC 5322",
    ),
    Rule(
        "email-line-breaks",
        "error",
        "A bare CR or LF, or NUL, can inject header fields or commands on another server.",
        "RFC 5321 §2.3.8",
    ),
    Rule(
        "email-head-lines",
        "error",
        "SMTP servers cut lines of more than 998 bytes.",
        "RFC 5322 §2.1.1",
    ),
    Rule(
        "email-body-lines",
        "warning",
        "SMTP servers may wrap lines of more than 78 bytes.",
        "RFC 5322 §2.1.1",
    ),
    Rule(
        "email-fields",
        "error",
        "An unknown header field was injected, or discloses something about the sender.",
        "RFC 5322 §3.6",
    ),
    Rule(
        "email-control-characters",
        "error",
        "A line break in a decoded header field can start another field.",
        "CVE-2024-6923",
    ),
    Rule(
        "email-encoded-fields",
        "error",
        "Programs do not decode encoded words in fields that are not meant for people.",
        "RFC 2047 §5",
    ),
    Rule(
        "email-sender",
        "error",
        "Subscribers must recognise the sender, so From is always that of the settings.",
        f"{_CAN_SPAM} 7704(a)(1)",
    ),
    Rule(
        "email-one-sender",
        "error",
        "Mail providers refuse messages with several From addresses.",
        _GOOGLE,
    ),
    Rule(
        "email-reply-address",
        "warning",
        "Use a Reply-To address that someone reads.",
        f"{_CAN_SPAM} 7704(a)(3)",
    ),
    Rule(
        "email-subject",
        "error",
        "Spam filters and subscribers distrust an email without a subject.",
        f"{_CAN_SPAM} 7704(a)(2)",
    ),
    Rule(
        "email-parts",
        "error",
        "A message needs a text part, then an HTML part, both in UTF-8. Mail programs show the last"
        " part that they support.",
        "RFC 2046 §5.1.4",
    ),
    Rule(
        "email-identity",
        "error",
        "Mail providers refuse messages in which a required field is missing or duplicated.",
        "RFC 5322 §3.6",
    ),
    Rule(
        "email-one-recipient",
        "error",
        "No subscriber may see the email address of another one.",
        "GDPR Art. 5",
    ),
    Rule(
        "email-message-id",
        "error",
        "Mail programs recognise a duplicate by a Message-ID of the sender's own domain.",
        "RFC 5322 §3.6.4",
    ),
    Rule(
        "email-date",
        "error",
        "Spam filters distrust an email without a valid date.",
        "RFC 5322 §3.6.1",
    ),
    Rule(
        "email-list-fields",
        "error",
        "List-Id, List-Unsubscribe and List-Unsubscribe-Post must each occur once.",
        "RFC 8058 §3.1",
    ),
    Rule(
        "email-list-id",
        "error",
        "Mail filters recognise a list by its List-Id, so it must not change.",
        "RFC 2919 §3",
    ),
    Rule(
        "email-one-click",
        "error",
        "Mail programs offer one-click unsubscribing only with exactly one https URL.",
        "RFC 8058 §3.1",
    ),
    Rule(
        "email-opaque-token",
        "error",
        "An email address or a number in the unsubscribe URL can be guessed, and ends up in logs.",
        "RFC 8058 §7",
    ),
    Rule(
        "email-own-page",
        "error",
        "The unsubscribe link must unsubscribe the recipient and nobody else.",
        "RFC 8058 §3.1",
    ),
    Rule(
        "email-tracking",
        "error",
        "A link that identifies the subscriber tracks them without consent.",
        "GDPR Art. 6, 7",
    ),
    Rule(
        "email-signature",
        "error",
        "Header fields that the DKIM signature does not cover can be changed on the way.",
        "RFC 8058 §3.1, RFC 6376 §5.4",
    ),
)
EMAIL_HTML = (
    Rule(
        "email-size",
        "error",
        "Gmail cuts emails at about 102 KB, and hides the footer with the unsubscribe link.",
        _PRACTICE,
    ),
    Rule(
        "email-remote-load",
        "error",
        "A remote resource tells its server when and where the email is read.",
        "GDPR Art. 6",
    ),
    Rule(
        "email-pixel",
        "error",
        "Invisible images are used to track subscribers.",
        "CNIL, tracking pixels",
    ),
    Rule(
        "email-image-alt",
        "error",
        "Many mail programs block images and show only their description.",
        f"{_WCAG} 1.1.1",
    ),
    Rule(
        "email-image-size",
        "warning",
        "Without width and height the text moves when the image loads, and Outlook shows the image"
        " in full size.",
        _PRACTICE,
    ),
    Rule(
        "email-image-address",
        "error",
        "Mail programs show images only from absolute https URLs.",
        _PRACTICE,
    ),
    Rule(
        "email-script",
        "error",
        "Mail programs remove scripts, and spam filters reject emails with them.",
        _PRACTICE,
    ),
    Rule(
        "email-dropped-element",
        "error",
        "Mail programs remove the element and its contents.",
        _PRACTICE,
    ),
    Rule(
        "email-flex-or-grid",
        "error",
        "Outlook and Gmail do not support flex and grid layouts.",
        "caniemail.com",
    ),
    Rule(
        "email-position",
        "error",
        "Mail programs remove `position`, so elements overlap.",
        "caniemail.com",
    ),
    Rule(
        "email-background-image",
        "error",
        "A background image is loaded from a server, and Outlook does not show it.",
        "caniemail.com",
    ),
    Rule(
        "email-font-size",
        "error",
        "Text below 13 pixels is hard to read, and spam filters look for hidden text.",
        f"{_WCAG} 1.4.4",
    ),
    Rule(
        "email-contrast",
        "error",
        "Text needs a contrast of at least 4.5, in light mode and in dark mode.",
        f"{_WCAG} 1.4.3",
    ),
    Rule(
        "email-style-syntax",
        "error",
        "Mail programs ignore styles that they cannot parse.",
        "CSS Syntax 3 §5",
    ),
    Rule(
        "email-conditional-comments",
        "error",
        "Outlook shows a broken table, or nothing, after an unclosed conditional comment.",
        _PRACTICE,
    ),
    Rule(
        "email-dark-mode",
        "error",
        "Mail programs invert colours themselves if an email has no rules for dark mode.",
        _PRACTICE,
    ),
    Rule(
        "email-language",
        "error",
        "Screen readers choose the pronunciation by the language of the email.",
        f"{_WCAG} 3.1.1",
    ),
    Rule(
        "email-direction",
        "error",
        "Without a direction, Arabic and Hebrew are aligned to the wrong side.",
        f"{_WCAG} 1.3.2",
    ),
    Rule(
        "email-wrapper",
        "error",
        "Webmail removes the html element. A wrapper keeps role, language and direction.",
        _PRACTICE,
    ),
    Rule(
        "email-title",
        "error",
        "Browsers and screen readers announce an email by its title.",
        f"{_WCAG} 2.4.2",
    ),
    Rule(
        "email-first-heading",
        "error",
        "One first-level heading names the email.",
        f"{_WCAG} 1.3.1",
    ),
    Rule(
        "email-heading-order",
        "warning",
        "Users of screen readers navigate by headings. A skipped level looks like a missing part.",
        f"{_WCAG} 1.3.1",
    ),
    Rule(
        "email-layout-table",
        "error",
        "Screen readers announce rows and columns unless a table has role=presentation.",
        "WAI-ARIA 1.2",
    ),
    Rule(
        "email-duplicate-id",
        "error",
        "A duplicate id sends links and screen readers to the wrong element.",
        "HTML, the id attribute",
    ),
    Rule(
        "email-preheader",
        "error",
        "Mailboxes show the first text beside the subject. Text hidden in another way looks like"
        " spam.",
        _PRACTICE,
    ),
    Rule(
        "email-preheader-length",
        "warning",
        "Mailboxes show 40 to 130 characters beside the subject.",
        _PRACTICE,
    ),
    Rule(
        "email-data-direction",
        "error",
        "Numbers and addresses are reordered in right-to-left emails unless they have their own"
        " direction.",
        "UAX #9",
    ),
    Rule(
        "email-empty-link",
        "error",
        "Screen readers have no text to read for the link.",
        f"{_WCAG} 2.4.4",
    ),
    Rule(
        "email-link-words",
        "warning",
        "Screen readers list links without their context, where such a text says nothing.",
        f"{_WCAG} 2.4.4",
    ),
    Rule("email-bad-href", "error", "Mail programs cannot open the URL.", "RFC 3986 §4.3"),
)
EMAIL_PARTS = (
    Rule(
        "email-text-part",
        "error",
        "Subscribers who read plain text would receive an empty email.",
        "RFC 2046 §5.1.4",
    ),
    Rule(
        "email-same-words",
        "error",
        "The text part and the HTML part must have the same words.",
        "RFC 2046 §5.1.4",
    ),
    Rule(
        "email-same-links",
        "error",
        "The text part and the HTML part must have the same links.",
        "RFC 2046 §5.1.4",
    ),
    Rule(
        "email-contact",
        "error",
        "Both parts must name the sender and how to contact them.",
        "CAN-SPAM; §5 DDG",
    ),
    Rule(
        "email-postal-address",
        "error",
        "A commercial email must contain a postal address.",
        f"{_CAN_SPAM} 7704(a)(5)",
    ),
    Rule(
        "email-signed",
        "error",
        "An email must name the organization or person responsible for it.",
        "CAN-SPAM; §5 DDG",
    ),
    Rule(
        "email-unsubscribe",
        "error",
        "Both parts must have the unsubscribe link.",
        f"{_GOOGLE}; 15 USC 7704(a)(3)",
    ),
    Rule(
        "email-preferences",
        "warning",
        "Subscribers who can choose fewer emails do not have to unsubscribe.",
        "GDPR Art. 7(3)",
    ),
)

KINDS: Mapping[str, tuple[Rule, ...]] = {
    "Posts": POSTS,
    "Settings": SETTINGS,
    "Feeds": FEEDS,
    "Pages": PAGES,
    "Emails": (*EMAIL_HEADERS, *EMAIL_HTML, *EMAIL_PARTS),
    "Changes since an earlier build": EARLIER,
}
"""The rules by the headings of docs/checks.md."""
RULES: Mapping[str, Rule] = {rule.name: rule for rules in KINDS.values() for rule in rules}
