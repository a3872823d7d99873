"""A finished letter → what is wrong with it, each fault with the name of its rule.

Nothing is sent or fixed here. What the rules say stands in `rules.RULES`.
"""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import Message
from itertools import chain

from postroom.errors import Problem
from postroom.letters.compose import Rendered
from postroom.letters.contrastlint import CONTRAST_RULES
from postroom.letters.footlint import FOOT_RULES
from postroom.letters.htmllint import HTML_RULES
from postroom.letters.linklint import LINK_RULES
from postroom.letters.messagelint import MESSAGE_RULES, byte_findings, contents, reader_findings
from postroom.letters.parts import Parts
from postroom.letters.rules import Finding, Findings
from postroom.letters.stylelint import STYLE_RULES
from postroom.model import Site

_PART_RULES = (*HTML_RULES, *STYLE_RULES, *CONTRAST_RULES, *LINK_RULES, *FOOT_RULES)


def lint(message: bytes, site: Site, path: str = "letter") -> list[Problem]:
    """Return every problem of one subscriber's finished message; `path` is where it lies.

    A problem's `rule` names it for all rooms, its `key` in `RULES`. Nothing is raised,
    whatever `message` holds.
    """
    return _problems(path, chain(byte_findings(message), _guarded(_message, message, site)))


def lint_rendered(letter: Rendered, site: Site, path: str = "letter") -> list[Problem]:
    """Return every problem of the letter as everyone sees it, without a subscriber's links.

    A problem's `rule` names it for all rooms, its `key` in `RULES`. Nothing is raised,
    whatever `letter` holds.
    """
    return _problems(path, _parts(Parts(letter.html, letter.text, site)))


def _message(message: bytes, site: Site) -> Findings:
    read = message_from_bytes(message, policy=policy.compat32)
    for rule in MESSAGE_RULES:
        yield from _guarded(rule, read, site)
    yield from _guarded(_contents, read, site)


def _contents(message: Message, site: Site) -> Findings:
    text, html = contents(message)
    if html or text:
        parts = Parts(html, text, site, personal=True)
        yield from _parts(parts)
        yield from _guarded(reader_findings, message, parts)


def _parts(parts: Parts) -> Findings:
    for rule in _PART_RULES:
        yield from _guarded(rule, parts)


def _guarded(rule: Callable[..., Findings], *letter: object) -> Findings:
    try:
        yield from rule(*letter)
    except Exception as error:  # noqa: BLE001 - the email package raises anything at strange bytes
        what = f"cannot be taken apart ({rule.__name__.strip('_')}: {type(error).__name__})"
        yield "readable", what, "look at the letter"


def _problems(path: str, findings: Findings | chain[Finding]) -> list[Problem]:
    return [
        Problem(path, key=name, what=what, repair=repair, rule=f"letter-{name}")
        for name, what, repair in dict.fromkeys(findings)
    ]
