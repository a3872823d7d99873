"""The rules for posts as their authors write them, and for the settings."""

from __future__ import annotations

from postroom.rules.rule import Rule

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
