"""Find faults of links in posts, pages and emails without looking at their targets."""

from __future__ import annotations

import re
from collections.abc import Collection

from postroom.markdown.html import SCHEMES
from postroom.settings.validation import is_uri

# In the languages of the theme.
_GENERIC_TEXTS = frozenset(
    text.strip()
    for text in (
        "click, click here, here, learn more, link, more, read more, this, this link, this page, "
        "hier, hier klicken, klicken sie hier, mehr, mehr lesen, weiter, weiterlesen, "
        "cliquez ici, en savoir plus, ici, lire la suite, plus, "
        "aquí, haga clic aquí, haz clic aquí, leer más, más, "
        "اضغط هنا, اقرأ المزيد, المزيد, انقر هنا, هنا, "
        "כאן, לחץ כאן, לחצו כאן, עוד, קרא עוד, "
        "更多, 此处, 点此, 点击这里, 这里, 阅读全文, 阅读更多"
    ).split(",")
)
_AROUND = " .…!?:»›>→。！"  # noqa: RUF001
_PHONE_NUMBER = re.compile(r"\+?[0-9().-]+(?:;.*)?")


def is_generic_link_text(text: str) -> bool:
    """Tell whether a link's text, such as "click here", says nothing about its target."""
    words = text.strip(_AROUND).casefold()
    return bool(text) and (not words or words in _GENERIC_TEXTS)


def url_fault(url: str, ids: Collection[str] = ()) -> str:
    """Return what is wrong with the URL of a link, or an empty string if it can be followed.

    `ids` are the ids in the document; a URL that begins with `#` must name one of them.
    """
    scheme, colon, rest = url.partition(":")
    if url.startswith("#"):
        return "" if url[1:] in ids else "is not an id in this email"
    if not colon or not scheme.isalnum():
        return "is not an absolute URL"
    if scheme.lower() not in SCHEMES:
        return "has a scheme that mail programs do not open"
    return _fault_of_rest(scheme.lower(), rest) if is_uri(url) else "is not a valid URL"


def _fault_of_rest(scheme: str, rest: str) -> str:
    if scheme == "mailto" and "@" not in rest and "to=" not in rest:
        return "has no email address"
    is_number = scheme != "tel" or _PHONE_NUMBER.fullmatch(rest)
    return "" if is_number else "is not a phone number"
