"""The rules for feed documents."""

from __future__ import annotations

from postroom.rules.rule import Rule

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
