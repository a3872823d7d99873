"""The domain name system: a name and a type → its records, or why there are none.

Nothing here raises: a doctor reports what he could not find out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from email.utils import parseaddr
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from attrs import Factory, define, frozen

from postroom.doctor.findings import Diagnosis, advice, ok, problem

if TYPE_CHECKING:
    import dns.rdata


RecordType: TypeAlias = Literal["A", "AAAA", "MX", "TXT"]
Status: TypeAlias = Literal["found", "nothing", "failed"]
_TIMEOUT = 5.0


@frozen
class DnsAnswer:
    """The records of one name and type, as text.

    A TXT record is its strings joined without a blank (RFC 7208 §3.3, RFC 6376 §3.6.2.2), an MX
    record its host name, "." for the null MX (RFC 7505). `nothing` is a name or type that does not
    exist; `failed` is no answer, with `reason`.
    """

    status: Status
    records: tuple[str, ...] = ()
    reason: str = ""


class SystemResolver:
    """Asks the name servers that this machine is set up with, once for each question."""

    def __init__(self, timeout: float = _TIMEOUT) -> None:
        """Give up a question after `timeout` seconds."""
        self._timeout = timeout
        self._known: dict[tuple[str, RecordType], DnsAnswer] = {}

    def lookup(self, name: str, kind: RecordType) -> DnsAnswer:
        """Return the records of `name`, a domain name in ASCII without a dot at its end."""
        if (name, kind) not in self._known:
            self._known[name, kind] = self._asked(name, kind)
        return self._known[name, kind]

    def _asked(self, name: str, kind: RecordType) -> DnsAnswer:
        import dns.exception  # noqa: PLC0415 - slow to import, and only the doctor asks
        import dns.resolver  # noqa: PLC0415

        try:
            found = dns.resolver.resolve(f"{name}.", kind, lifetime=self._timeout)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return DnsAnswer("nothing")
        except dns.exception.Timeout:
            return DnsAnswer("failed", reason=f"no answer in {self._timeout:g} s")
        except (dns.exception.DNSException, OSError, UnicodeError, ValueError) as error:
            return DnsAnswer("failed", reason=" ".join(str(error).split()) or type(error).__name__)
        return DnsAnswer("found", tuple(sorted(_text(record, kind) for record in found)))


def _text(record: dns.rdata.Rdata, kind: RecordType) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
    if kind == "MX":
        host: str = record.exchange.to_text()  # type: ignore[attr-defined]
        return host if host == "." else host.rstrip(".")
    return record.to_text().rstrip(".")


_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*([^;]*?)\s*")


class Resolver(Protocol):
    """Whoever answers questions about domain names."""

    def lookup(self, name: str, kind: RecordType) -> DnsAnswer:
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


def parse_tags(text: str) -> dict[str, str] | None:
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


def lookup_failed(subject: str, name: str, answer: DnsAnswer) -> Diagnosis:
    """Return the finding that a question about `name` had no answer."""
    what = f"{name} could not be looked up ({answer.reason})"
    return problem(subject, what, "try again, or check this machine's name servers")


@frozen
class DmarcPolicy:
    """The DMARC record that is nearest to a domain, and where the domain's organisation begins.

    `domain` is where the record stands, empty if there is none; `several` domains have more than
    one record, which then count as none; `failed` is a question without an answer.
    """

    organisation: str
    domain: str = ""
    record: str = ""
    several: tuple[str, ...] = ()
    failed: Diagnosis | None = None


def find_dmarc_policy(domain: str, resolver: Resolver) -> DmarcPolicy:
    """Return the DMARC policy for `domain` and its organisational domain, by the DNS tree walk.

    RFC 9989, DNS Tree Walk: `_dmarc` is asked for at the domain and at each of those above it. Of
    the domains with a record the highest is the organisation's, unless one says `psd=n` (it is
    that one) or `psd=y` (it is the one below).
    """
    found: dict[str, str] = {}
    several: list[str] = []
    failed: Diagnosis | None = None
    organisation = ""
    names = _upwards(domain)
    for below, name in zip(("", *names), names, strict=False):
        answer = resolver.lookup(f"_dmarc.{name}", "TXT")
        if answer.status == "failed":
            failed = failed or lookup_failed("DMARC", f"_dmarc.{name}", answer)
        records = [text for text in answer.records if re.match(r"v\s*=\s*DMARC1\s*(;|$)", text)]
        if len(records) > 1:
            several.append(name)
        if len(records) != 1:
            continue
        found[name] = records[0]
        mark = (parse_tags(records[0]) or {}).get("psd", "").lower()
        organisation = (below or name) if mark == "y" else name
        if mark in {"n", "y"}:
            break
    nearest = domain if domain in found else organisation if organisation in found else ""
    record = found.get(nearest, "")
    return DmarcPolicy(organisation or domain, nearest, record, tuple(several), failed)


def _upwards(domain: str) -> tuple[str, ...]:
    labels = domain.split(".")
    # RFC 9989: long names are cut, so that no domain costs more than eight questions.
    starts = [0, *range(max(1, len(labels) - 7), len(labels))]
    return tuple(".".join(labels[start:]) for start in starts if labels[start:])


def is_aligned(one: str, other: str, resolver: Resolver, *, strict: bool = False) -> bool:
    """Tell whether two domains are of one organisation (RFC 9989), or `strict`ly the same."""
    if one == other:
        return bool(one)
    if strict or not one or not other:
        return False
    return (
        find_dmarc_policy(one, resolver).organisation
        == find_dmarc_policy(other, resolver).organisation
    )


def check_mx(domain: str, use: str, resolver: Resolver) -> tuple[Diagnosis, ...]:
    """Return whether mail can be sent to `domain`; `use` says what for, such as `bounces`."""
    subject = f"MX of {domain}"
    answer = resolver.lookup(domain, "MX")
    if answer.status == "failed":
        return (lookup_failed(subject, domain, answer),)
    hosts = [host for host in answer.records if host != "."]
    if hosts:
        return (ok(subject, f"{use} go to {', '.join(hosts)}"),)
    if answer.records:
        # RFC 7505 §3: the null MX.
        what, repair = "says that it takes no mail", f"use a domain that does: {use} are lost"
        return (problem(subject, what, repair),)
    for kind in ("A", "AAAA"):
        if resolver.lookup(domain, kind).status == "found":
            # RFC 5321 §5.1: without MX the host itself is asked.
            what = f"is missing, so {use} go to the host itself"
            return (
                advice(subject, what, "add an MX record, and be sure that mail is taken there"),
            )
    return (problem(subject, f"is missing, so {use} are lost", "add an MX record"),)


_POLICIES = ("none", "quarantine", "reject")


def check_dmarc(
    sender: str, envelope: str, signer: str, resolver: Resolver
) -> tuple[Diagnosis, ...]:
    """Return what there is to say about the DMARC record for the domain `sender` of From.

    `envelope` is the domain that bounces go to, `signer` the one whose key signs, empty if that is
    not known.
    """
    found = find_dmarc_policy(sender, resolver)
    subject = f"DMARC of {sender}"
    if found.failed:
        return (found.failed,)
    for name in found.several:
        return (problem(subject, f"{name} has several records, and then none counts", "keep one"),)
    record = parse_tags(found.record)
    if not record:
        repair = f"publish at _dmarc.{sender}: v=DMARC1; p=none; rua=mailto:…"
        return (problem(subject, "there is no record", repair),)
    wanted = record.get("p", "").lower()
    if wanted not in _POLICIES:
        what = f"{found.domain} says no policy that is known: {found.record}"
        return (problem(subject, what, f"write p={', p='.join(_POLICIES[:-1])} or p=reject"),)
    place = f"{found.record} (at {found.domain}; organisation {found.organisation})"
    return (ok(subject, place), *_alignment(sender, envelope, signer, record, resolver))


def _alignment(
    sender: str, envelope: str, signer: str, record: dict[str, str], resolver: Resolver
) -> Iterator[Diagnosis]:
    subject = "DMARC alignment"
    # RFC 9989: r, relaxed, unless the record says s.
    by_spf = is_aligned(sender, envelope, resolver, strict=record.get("aspf") == "s")
    by_dkim = is_aligned(sender, signer, resolver, strict=record.get("adkim") == "s")
    if by_spf and by_dkim:
        yield ok(subject, f"{sender} goes with the signer {signer} and the bounces of {envelope}")
    elif by_dkim:
        what = f"{sender} goes with the signer {signer}, not with the bounces of {envelope}"
        yield advice(subject, what, f"let mail.bounces be at {sender}, so that SPF counts too")
    elif by_spf:
        what = f"{sender} goes with the bounces of {envelope}; no signer is known that it goes with"
        yield advice(subject, what, f"sign as {sender} and set mail.dkim_selector")
    else:
        what = f"{sender} goes neither with the bounces of {envelope} nor with a known signer"
        yield problem(subject, what, f"sign as {sender}, or let mail.bounces be there")


LOOKUPS = 10
"""RFC 7208 §4.6.4: with more, receivers give up and the record counts as broken."""
VOIDS = 2
# Enough to tell by how much a record is over, and an end for one that includes itself.
_ENOUGH = 30
_TERM = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)(?:([:=/])(.*))?")
_MECHANISMS = frozenset("all include a mx ptr ip4 ip6 exists".split())


@frozen
class SpfTerm:
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
    failed: list[Diagnosis] = Factory(list)

    def follow(self, domain: str, record: str) -> str:
        """Count what `record` of `domain` needs; return the qualifier of its `all`, or nothing."""
        redirect = ""
        for text in record.split()[1:]:
            term = parse_spf_term(text)
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

    def _ask(self, domain: str, term: SpfTerm) -> None:
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
            self.failed.append(lookup_failed("SPF", name, answer))
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
            self.failed.append(lookup_failed("SPF", domain, answer))
            return ""
        records = _records(answer.records)
        self.voids += answer.status == "nothing"
        if len(records) != 1:
            count = "several records" if records else "no record"
            self.faults.append(f"{how} of {domain}, which has {count}")  # RFC 7208 §5.2, §6.1
            return ""
        return self.follow(_plain(domain), records[0])


def check_spf(domain: str, resolver: Resolver) -> tuple[Diagnosis, ...]:
    """Return what there is to say about the SPF record of `domain`.

    Which of its mechanisms matches is known only when a letter arrives, so the worst case counts:
    none but the last.
    """
    subject = f"SPF of {domain}"
    answer = resolver.lookup(domain, "TXT")
    if answer.status == "failed":
        return (lookup_failed(subject, domain, answer),)
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


def _costs(subject: str, record: str, walk: _Walk) -> Iterator[Diagnosis]:
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
        yield ok(subject, f"{record} ({walk.lookups} of {LOOKUPS} look-ups)")


def _ending(subject: str, qualifier: str) -> Iterator[Diagnosis]:
    if qualifier == "+":
        what = "ends in +all, which lets everybody send in your name"
        yield problem(subject, what, "end it with ~all or -all")
    elif qualifier not in {"-", "~"}:
        found = "?all" if qualifier else "no all"
        yield advice(subject, f"ends in {found}, which says nothing of others", "end it with ~all")


def parse_spf_term(text: str) -> SpfTerm | str:
    """Return one term of a record, or what is wrong with it (RFC 7208 §12)."""
    match = _TERM.fullmatch(text)
    if not match:
        return f"'{text}' is no mechanism"
    qualifier, name, mark, value = (part or "" for part in match.groups())
    name = name.lower()
    if mark == "=" and not qualifier:
        return SpfTerm("", name, value, modifies=True)
    if name not in _MECHANISMS or mark == "=":
        return f"'{text}' is no mechanism"
    if name in {"ip4", "ip6"}:
        return (
            SpfTerm(qualifier, name, value, modifies=False)
            if _is_net(name, value)
            else f"'{text}' is no network"
        )
    if (name in {"include", "exists"}) != (bool(value) and name not in {"a", "mx", "ptr"}):
        return f"'{text}' names no domain" if not value else f"'{text}' takes no value"
    # `a/24` has lengths of networks and no name.
    return SpfTerm(qualifier, name, value if mark == ":" else "", modifies=False)


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
