"""The links of a letter → those that lead nowhere, or do not say where."""

from __future__ import annotations

import re
from collections.abc import Collection

from lxml.etree import _Element as Element

from postroom.letters.parts import Parts, shown
from postroom.letters.rules import Findings
from postroom.markdown.dialect import SCHEMES
from postroom.schema import is_uri

# In the languages that the theme speaks.
_EMPTY_WORDS = frozenset(
    word.strip()
    for word in (
        "click here, here, link, more, read more, this, this link, learn more, click, "
        "hier, hier klicken, klicken sie hier, mehr, mehr lesen, weiterlesen, weiter, "
        "ici, cliquez ici, lire la suite, en savoir plus, plus, "
        "aquí, haz clic aquí, haga clic aquí, leer más, más, "
        "هنا, اضغط هنا, انقر هنا, اقرأ المزيد, المزيد, "
        "כאן, לחצו כאן, לחץ כאן, קרא עוד, עוד, "
        "这里, 点击这里, 点此, 更多, 阅读更多, 阅读全文"
    ).split(",")
)
_AROUND = " .…!?:»›>→。！"  # noqa: RUF001
_NUMBER = re.compile(r"\+?[0-9().-]+(?:;.*)?")


def _words(parts: Parts) -> Findings:
    for link in parts.links:
        words, address = shown(link), link.get("href")
        if not words and not _pictured(link):
            yield "empty-link", f"the link to {address} has no words", "let it say where it leads"
        elif words.strip(_AROUND).casefold() in _EMPTY_WORDS:
            what = f"the link to {address} says '{words}'"
            yield "link-words", what, "let it say where it leads"


def _pictured(link: Element) -> bool:
    return any(image.get("alt", "").strip() for image in link.iter("img"))


def _addresses(parts: Parts) -> Findings:
    ids = {one.get("id", "") for one in parts.elements if "id" in one.attrib}
    for link in parts.links:
        if fault := fault_of(link.get("href", ""), ids):
            what = f"the link '{shown(link)}' leads to '{link.get('href')}', which {fault}"
            yield "bad-href", what, "write the whole address"


def fault_of(address: str, ids: Collection[str] = ()) -> str:
    """Return what is wrong with the address of a link, nothing if it can be followed.

    `ids` are those of the letter, to which an address that begins with `#` may lead.
    """
    scheme, colon, rest = address.partition(":")
    if address.startswith("#"):
        return "" if address[1:] in ids else "is nowhere in the letter"
    if not colon or not scheme.isalnum():
        return "is no whole address"
    if scheme.lower() not in SCHEMES:
        return "no mail program opens"
    return _fault_of_rest(scheme.lower(), rest) if is_uri(address) else "nobody can read"


def _fault_of_rest(scheme: str, rest: str) -> str:
    if scheme == "mailto" and "@" not in rest and "to=" not in rest:
        return "names nobody"
    return "is no number" if scheme == "tel" and not _NUMBER.fullmatch(rest) else ""


LINK_RULES = (_words, _addresses)
