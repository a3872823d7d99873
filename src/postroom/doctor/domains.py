"""Domains: of an address, of an organisation, and whether two belong together (RFC 9989)."""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Protocol

from attrs import frozen

from postroom.doctor.finding import Finding, problem
from postroom.resolver import Answer, RecordType

_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*([^;]*?)\s*")


class Resolver(Protocol):
    """Whoever answers questions about domain names."""

    def lookup(self, name: str, kind: RecordType) -> Answer:
        """Return the records of `name`, a domain name in ASCII without a dot at its end."""


def domain_of(mailbox: str) -> str:
    """Return the domain of a mailbox such as `News <news@example.com>`, or nothing.

    It is in lower case and ASCII, without a dot at its end.
    """
    local, _, domain = parseaddr(mailbox)[1].rpartition("@")
    try:
        return local and domain.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError:
        return ""


def tags(text: str) -> dict[str, str] | None:
    """Return the tags of a list such as `v=DKIM1; p=…` (RFC 6376 §3.2), or nothing if it is none.

    Names are in lower case; a name that stands twice makes the list invalid.
    """
    found: dict[str, str] = {}
    for part in filter(str.strip, text.split(";")):
        match = _TAG.fullmatch(part)
        if not match or match[1].lower() in found:
            return None
        found[match[1].lower()] = match[2]
    return found


def unanswered(subject: str, name: str, answer: Answer) -> Finding:
    """Return the finding that a question about `name` had no answer."""
    what = f"{name} could not be looked up ({answer.reason})"
    return problem(subject, what, "try again, or check this machine's name servers")


@frozen
class Policy:
    """The DMARC record that is nearest to a domain, and where the domain's organisation begins.

    `domain` is where the record stands, empty if there is none; `several` domains have more than
    one record, which then count as none; `failed` is a question without an answer.
    """

    organisation: str
    domain: str = ""
    record: str = ""
    several: tuple[str, ...] = ()
    failed: Finding | None = None


def policy(domain: str, resolver: Resolver) -> Policy:
    """Return the DMARC policy for `domain` and its organisational domain, by the DNS tree walk.

    RFC 9989, DNS Tree Walk: `_dmarc` is asked for at the domain and at each of those above it. Of
    the domains with a record the highest is the organisation's, unless one says `psd=n` (it is
    that one) or `psd=y` (it is the one below).
    """
    found: dict[str, str] = {}
    several: list[str] = []
    failed: Finding | None = None
    organisation = ""
    names = _upwards(domain)
    for below, name in zip(("", *names), names, strict=False):
        answer = resolver.lookup(f"_dmarc.{name}", "TXT")
        if answer.status == "failed":
            failed = failed or unanswered("DMARC", f"_dmarc.{name}", answer)
        records = [text for text in answer.records if re.match(r"v\s*=\s*DMARC1\s*(;|$)", text)]
        if len(records) > 1:
            several.append(name)
        if len(records) != 1:
            continue
        found[name] = records[0]
        mark = (tags(records[0]) or {}).get("psd", "").lower()
        organisation = (below or name) if mark == "y" else name
        if mark in {"n", "y"}:
            break
    nearest = domain if domain in found else organisation if organisation in found else ""
    record = found.get(nearest, "")
    return Policy(organisation or domain, nearest, record, tuple(several), failed)


def _upwards(domain: str) -> tuple[str, ...]:
    labels = domain.split(".")
    # RFC 9989: long names are cut, so that no domain costs more than eight questions.
    starts = [0, *range(max(1, len(labels) - 7), len(labels))]
    return tuple(".".join(labels[start:]) for start in starts if labels[start:])


def aligned(one: str, other: str, resolver: Resolver, *, strict: bool = False) -> bool:
    """Tell whether two domains are of one organisation (RFC 9989), or `strict`ly the same."""
    if one == other:
        return bool(one)
    if strict or not one or not other:
        return False
    return policy(one, resolver).organisation == policy(other, resolver).organisation
