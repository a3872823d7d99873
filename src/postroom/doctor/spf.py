"""SPF: may the mail server send for the domain that bounces go to? (RFC 7208)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from attrs import Factory, define, frozen

from postroom.doctor.domains import Resolver, unanswered
from postroom.doctor.finding import Finding, advice, problem, well
from postroom.resolver import RecordType

LOOKUPS = 10
"""RFC 7208 §4.6.4: with more, receivers give up and the record counts as broken."""
VOIDS = 2
# Enough to tell by how much a record is over, and an end for one that includes itself.
_ENOUGH = 30
_TERM = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)(?:([:=/])(.*))?")
_MECHANISMS = frozenset("all include a mx ptr ip4 ip6 exists".split())


@frozen
class Term:
    """One mechanism or modifier: `-all`, `include:example.com`, `redirect=example.com`."""

    qualifier: str
    name: str
    value: str
    modifies: bool


@define
class _Walk:
    """What evaluating a record costs at worst, with all that it includes."""

    resolver: Resolver
    lookups: int = 0
    voids: int = 0
    faults: list[str] = Factory(list)
    advice: list[str] = Factory(list)
    failed: list[Finding] = Factory(list)

    def follow(self, domain: str, record: str) -> str:
        """Count what `record` of `domain` needs; return the qualifier of its `all`, or nothing."""
        redirect = ""
        for text in record.split()[1:]:
            term = parsed(text)
            if isinstance(term, str):
                self.faults.append(f"{domain}: {term}")
            elif term.modifies:
                redirect = term.value if term.name == "redirect" else redirect
            elif term.name == "all":
                # RFC 7208 §5.1, §6.1: what follows is never read, nor is redirect.
                return term.qualifier or "+"
            elif term.name not in {"ip4", "ip6"}:
                self._ask(domain, term)
        return self._included(redirect, "redirect") if redirect else ""

    def _ask(self, domain: str, term: Term) -> None:
        target = term.value.partition("/")[0] or domain
        if term.name == "include":
            self._included(target, "include")
            return
        self.lookups += 1
        if self.lookups > _ENOUGH or "%" in target:
            return  # RFC 7208 §7: macros are filled in when a letter comes
        if term.name == "ptr":
            self.advice.append(f"{domain} uses ptr, which receivers may ignore (RFC 7208 §5.5)")
        elif not any(self._exists(target, kind) for kind in _questions(term.name)):
            self.voids += 1

    def _exists(self, name: str, kind: RecordType) -> bool:
        answer = self.resolver.lookup(
            _plain(name), "MX" if kind == "MX" else "AAAA" if kind == "AAAA" else "A"
        )
        if answer.status == "failed":
            self.failed.append(unanswered("SPF", name, answer))
        elif kind == "MX" and len(answer.records) > LOOKUPS:
            # RFC 7208 §4.6.4
            self.faults.append(f"{name} has more than {LOOKUPS} MX records")
        return answer.status != "nothing"

    def _included(self, domain: str, how: str) -> str:
        self.lookups += 1
        if self.lookups > _ENOUGH or "%" in domain:
            return ""
        answer = self.resolver.lookup(_plain(domain), "TXT")
        if answer.status == "failed":
            self.failed.append(unanswered("SPF", domain, answer))
            return ""
        records = _records(answer.records)
        self.voids += answer.status == "nothing"
        if len(records) != 1:
            count = "several records" if records else "no record"
            self.faults.append(f"{how} of {domain}, which has {count}")  # RFC 7208 §5.2, §6.1
            return ""
        return self.follow(_plain(domain), records[0])


def spf(domain: str, resolver: Resolver) -> tuple[Finding, ...]:
    """Return what there is to say about the SPF record of `domain`.

    Which of its mechanisms matches is known only when a letter arrives, so the worst case counts:
    none but the last.
    """
    subject = f"SPF of {domain}"
    answer = resolver.lookup(domain, "TXT")
    if answer.status == "failed":
        return (unanswered(subject, domain, answer),)
    records = _records(answer.records)
    if not records:
        repair = "publish what your mail server's operator asks for: v=spf1 include:… ~all"
        return (problem(subject, "there is no record", repair),)
    if len(records) > 1:
        # RFC 7208 §4.5
        what = f"there are {len(records)} records, and then none counts"
        return (problem(subject, what, "join them into one"),)
    walk = _Walk(resolver)
    ending = walk.follow(domain, records[0])
    return (*_costs(subject, records[0], walk), *_ending(subject, ending), *walk.failed)


def _records(texts: tuple[str, ...]) -> list[str]:
    # RFC 7208 §4.5
    return [text for text in texts if re.match(r"v=spf1( |$)", text, re.IGNORECASE)]


def _costs(subject: str, record: str, walk: _Walk) -> Iterator[Finding]:
    for fault in walk.faults:
        yield problem(subject, fault, "correct it: receivers take the whole record for broken")
    for one in walk.advice:
        yield advice(subject, one, "take it out")
    if walk.lookups > LOOKUPS:
        count = f"more than {_ENOUGH}" if walk.lookups > _ENOUGH else str(walk.lookups)
        what = f"needs {count} look-ups, and receivers give up after {LOOKUPS}"
        yield problem(subject, what, "take out what does not send for you, or name addresses")
    if walk.voids > VOIDS:
        what = f"{walk.voids} of its names do not exist, and receivers bear {VOIDS}"
        yield problem(subject, what, "take them out")
    if not walk.faults and walk.lookups <= LOOKUPS and walk.voids <= VOIDS:
        yield well(subject, f"{record} ({walk.lookups} of {LOOKUPS} look-ups)")


def _ending(subject: str, qualifier: str) -> Iterator[Finding]:
    if qualifier == "+":
        what = "ends in +all, which lets everybody send in your name"
        yield problem(subject, what, "end it with ~all or -all")
    elif qualifier not in {"-", "~"}:
        found = "?all" if qualifier else "no all"
        yield advice(subject, f"ends in {found}, which says nothing of others", "end it with ~all")


def parsed(text: str) -> Term | str:
    """Return one term of a record, or what is wrong with it (RFC 7208 §12)."""
    match = _TERM.fullmatch(text)
    if not match:
        return f"'{text}' is no mechanism"
    qualifier, name, mark, value = (part or "" for part in match.groups())
    name = name.lower()
    if mark == "=" and not qualifier:
        return Term("", name, value, modifies=True)
    if name not in _MECHANISMS or mark == "=":
        return f"'{text}' is no mechanism"
    if name in {"ip4", "ip6"}:
        return (
            Term(qualifier, name, value, modifies=False)
            if _is_net(name, value)
            else f"'{text}' is no network"
        )
    if (name in {"include", "exists"}) != (bool(value) and name not in {"a", "mx", "ptr"}):
        return f"'{text}' names no domain" if not value else f"'{text}' takes no value"
    # `a/24` has lengths of networks and no name.
    return Term(qualifier, name, value if mark == ":" else "", modifies=False)


def _is_net(name: str, value: str) -> bool:
    try:
        net = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return net.version == int(name[-1])


def _questions(name: str) -> tuple[RecordType, ...]:
    questions: dict[str, tuple[RecordType, ...]] = {"mx": ("MX",), "a": ("A", "AAAA")}
    return questions.get(name, ("A",))


def _plain(domain: str) -> str:
    return domain.lower().rstrip(".")
