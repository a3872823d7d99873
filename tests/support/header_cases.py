"""Difficult company names, and a check that header fields with them read back."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

HIDDEN_BCC = "A é =?UTF-8?Q?=0A?=Bcc: injected@example.com"
NAMES = {
    "plain": "Example News",
    "comma": "Example Company, International",
    "quotes": 'The "Daily" News',
    "lone quote": '"Oops News',
    "apostrophe": "O'Brien's News",
    "backslash": "back\\slash\\",
    "brackets": "News (Holdings) [of] <us>, at: all; times@home",
    "120 characters": "Example Company International Holdings Limited of the Northern and Southern "
    "Provinces and of all the Islands between them",
    "120 characters, punctuated": "Example Company, International (Holdings), of the Northern and "
    "Southern Provinces, and of all the Islands between them",
    "one long word": "x" * 120,
    "sixty quotes": '"' * 61 + "x",
    "accents": "Société Générale, Équipements & Cie (Holdings) Réunies de la Côte d'Azur",
    "Cyrillic": "Новости компании «Пример», международное акционерное общество холдингов и фондов",
    "120 characters, Cyrillic": "Новости компании «Пример», международное акционерное общество "
    "холдингов и фондов северных и южных провинций и островов",
    "CJK": "示例磁铁新闻有限公司、国际控股集团以及北方和南方各省的所有分支机构和岛屿",
    "Arabic": "أخبار شركة المثال، المجموعة الدولية القابضة وجميع فروعها في الشمال والجنوب",
    "emoji": "News 🧲🎉 👩‍🔬 🇪🇺 and more 🧲🎉 👩‍🔬 🇪🇺 and more 🧲🎉 👩‍🔬 🇪🇺",
    "encoded word": "=?utf-8?q?not_encoded?=",
    "half an encoded word": "What is =?utf-8",
    "hidden line break": HIDDEN_BCC,
}
UNSUBSCRIBE = (
    f"<https://news.example.com/list/unsubscribe/{'x' * 200}>,"
    f" <mailto:bounces+leave-{'x' * 27}@bounces.news.example.com>"
)
FIELDS = ["From", "Subject", "List-Unsubscribe"]


def faults(headers: Any) -> Iterator[str]:
    """Yield every value that does not read back from a message encoded by these rules."""
    for case, name in NAMES.items():
        yield from (f"{case}: {fault}" for fault in _faults(headers, name))
    for character in "\r\n\0":
        for rule in (headers.encode_text, headers.encode_mailbox, headers.encode_plain):
            try:
                rule("X-Field", f"News{character}Bcc: a@example.com <b@example.com>")
            except ValueError:
                continue
            yield f"{rule.__name__}: {character!r} is accepted"


def _faults(headers: Any, name: str) -> Iterator[str]:
    lines = (
        headers.encode_mailbox("From", f"{name} <news@münchen.example>"),
        headers.encode_text("Subject", name),
        headers.encode_plain("List-Unsubscribe", UNSUBSCRIBE),
    )
    data = "".join(lines).encode("ascii") + b"\r\nA body.\r\n"
    # Neither the old nor the new parser may find another field.
    for parser in (policy.compat32, policy.default):
        if (found := message_from_bytes(data, policy=parser).keys()) != FIELDS:
            yield f"the fields are {found}"
    read = message_from_bytes(data, policy=policy.compat32)
    if headers.decode_field(read["Subject"]) != name:
        yield "another Subject"
    if headers.decode_mailbox(read["From"]) != (name, "news@xn--mnchen-3ya.example"):
        yield "another From"
    if headers.unfold(read["List-Unsubscribe"]) != UNSUBSCRIBE:
        yield "another List-Unsubscribe"
