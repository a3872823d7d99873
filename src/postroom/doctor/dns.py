"""Look up DNS records, and check SPF, DMARC and MX records.

No function here raises when a lookup fails: the failure is reported as a finding.
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
    """The DNS records of one name and type, as text.

    The strings of a TXT record are joined without spaces (RFC 7208 §3.3, RFC 6376 §3.6.2.2). An MX
    record is given as its host name, which is "." for the null MX (RFC 7505). The status is
    `nothing` if the name has no such record, and `failed` if no answer came; `reason` then says
    why.
    """

    status: Status
    records: tuple[str, ...] = ()
    reason: str = ""


class SystemResolver:
    """A resolver that uses the name servers of this machine and caches every answer."""

    def __init__(self, timeout: float = _TIMEOUT) -> None:
        """Set the `timeout` of each DNS query, in seconds."""
        self._timeout = timeout
        self._cache: dict[tuple[str, RecordType], DnsAnswer] = {}

    def lookup(self, name: str, kind: RecordType) -> DnsAnswer:
        """Return the records of `name`, a domain name in ASCII without a dot at its end."""
        if (name, kind) not in self._cache:
            self._cache[name, kind] = self._query(name, kind)
        return self._cache[name, kind]

    def _query(self, name: str, kind: RecordType) -> DnsAnswer:
        import dns.exception  # noqa: PLC0415 - slow, and only `doctor` needs it
        import dns.resolver  # noqa: PLC0415

        try:
            records = dns.resolver.resolve(f"{name}.", kind, lifetime=self._timeout)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return DnsAnswer("nothing")
        except dns.exception.Timeout:
            return DnsAnswer("failed", reason=f"no answer in {self._timeout:g} s")
        except (dns.exception.DNSException, OSError, UnicodeError, ValueError) as error:
            return DnsAnswer("failed", reason=" ".join(str(error).split()) or type(error).__name__)
        return DnsAnswer("found", tuple(sorted(_text(record, kind) for record in records)))


def _text(record: dns.rdata.Rdata, kind: RecordType) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
    if kind == "MX":
        host: str = record.exchange.to_text()  # type: ignore[attr-defined]
        return host if host == "." else host.rstrip(".")
    return record.to_text().rstrip(".")


_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*([^;]*?)\s*")


class Resolver(Protocol):
    """A source of DNS records."""

    def lookup(self, name: str, kind: RecordType) -> DnsAnswer:
        """Return the records of `name`, a domain name in ASCII without a dot at its end."""


def domain_of(mailbox: str) -> str:
    """Return the domain of a mailbox such as `News <news@example.com>`, "" if there is none.

    The domain is returned in ASCII and lower case, without a dot at its end.
    """
    local, _, domain = parseaddr(mailbox)[1].rpartition("@")
    try:
        return local and domain.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError:
        return ""


def parse_tags(text: str) -> dict[str, str] | None:
    """Parse a tag list such as `v=DKIM1; p=…` (RFC 6376 §3.2); return None if it is malformed.

    Tag names are returned in lower case. A list that repeats a tag is malformed.
    """
    tags: dict[str, str] = {}
    for part in filter(str.strip, text.split(";")):
        match = _TAG.fullmatch(part)
        if not match or match[1].lower() in tags:
            return None
        tags[match[1].lower()] = match[2]
    return tags


def lookup_failed(subject: str, name: str, answer: DnsAnswer) -> Diagnosis:
    """Return the finding which says that the lookup of `name` failed."""
    message = f"{name} could not be looked up ({answer.reason})"
    return problem(subject, message, "try again, or check this machine's name servers")


@frozen
class DmarcPolicy:
    """The DMARC record that applies to a domain, and its organisational domain.

    `domain` is the domain that has the record, "" if no record applies. If a domain has several
    DMARC records, they are ignored (RFC 9989) and `several` contains the domain. `failed` is the
    finding about the first lookup that failed.
    """

    organisation: str
    domain: str = ""
    record: str = ""
    several: tuple[str, ...] = ()
    failed: Diagnosis | None = None


def find_dmarc_policy(domain: str, resolver: Resolver) -> DmarcPolicy:
    """Find the DMARC policy of `domain` by the DNS tree walk (RFC 9989).

    The record `_dmarc` is looked up below the domain and below each of its parent domains. The
    highest domain with a record is the organisational domain. The walk ends early at a record with
    `psd=n`, whose domain is then the organisational one, or with `psd=y` (a public suffix), where
    it is the domain below.
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
    # RFC 9989: at most eight lookups, so labels of a long name are skipped.
    starts = [0, *range(max(1, len(labels) - 7), len(labels))]
    return tuple(".".join(labels[start:]) for start in starts if labels[start:])


def is_aligned(domain: str, other: str, resolver: Resolver, *, strict: bool = False) -> bool:
    """Tell whether two domains are aligned (RFC 9989).

    Domains are aligned if they have the same organisational domain; with `strict`, only if they
    are equal.
    """
    if domain == other:
        return bool(domain)
    if strict or not domain or not other:
        return False
    return (
        find_dmarc_policy(domain, resolver).organisation
        == find_dmarc_policy(other, resolver).organisation
    )


def check_mx(domain: str, use: str, resolver: Resolver) -> tuple[Diagnosis, ...]:
    """Return the findings about the MX records of `domain`, which must accept email.

    `use` says in the findings what the domain receives, such as `bounces`.
    """
    subject = f"MX of {domain}"
    answer = resolver.lookup(domain, "MX")
    if answer.status == "failed":
        return (lookup_failed(subject, domain, answer),)
    hosts = [host for host in answer.records if host != "."]
    if hosts:
        return (ok(subject, f"{use} go to {', '.join(hosts)}"),)
    if answer.records:
        # RFC 7505 §3: the null MX.
        message = f"says that the domain accepts no email, so {use} are lost"
        return (problem(subject, message, "use a domain that accepts email"),)
    for kind in ("A", "AAAA"):
        if resolver.lookup(domain, kind).status == "found":
            # RFC 5321 §5.1: without an MX record email goes to the host itself.
            message = f"is missing, so {use} go to the host itself"
            hint = "add an MX record, or check that the host accepts email"
            return (advice(subject, message, hint),)
    return (problem(subject, f"is missing, so {use} are lost", "add an MX record"),)


_POLICIES = ("none", "quarantine", "reject")


def check_dmarc(
    sender: str, envelope: str, signer: str, resolver: Resolver
) -> tuple[Diagnosis, ...]:
    """Return the findings about the DMARC record for `sender`, the domain of From.

    `envelope` is the domain of the envelope sender. `signer` is the domain of the DKIM key, or ""
    if there is no key.
    """
    policy = find_dmarc_policy(sender, resolver)
    subject = f"DMARC of {sender}"
    if policy.failed:
        return (policy.failed,)
    for name in policy.several:
        return (problem(subject, f"{name} has several records, so none counts", "keep one"),)
    tags = parse_tags(policy.record)
    if not tags:
        hint = f"publish at _dmarc.{sender}: v=DMARC1; p=none; rua=mailto:…"
        return (problem(subject, "there is no record", hint),)
    if tags.get("p", "").lower() not in _POLICIES:
        message = f"{policy.domain} has no known policy: {policy.record}"
        return (problem(subject, message, "write p=none, p=quarantine or p=reject"),)
    place = f"{policy.record} (at {policy.domain}; organisation {policy.organisation})"
    return (ok(subject, place), *_check_alignment(sender, envelope, signer, tags, resolver))


def _check_alignment(
    sender: str, envelope: str, signer: str, tags: dict[str, str], resolver: Resolver
) -> Iterator[Diagnosis]:
    subject = "DMARC alignment"
    # RFC 9989: relaxed unless the record says s.
    by_spf = is_aligned(sender, envelope, resolver, strict=tags.get("aspf") == "s")
    by_dkim = is_aligned(sender, signer, resolver, strict=tags.get("adkim") == "s")
    if by_spf and by_dkim:
        yield ok(subject, f"{sender} is aligned with signer {signer} and envelope {envelope}")
    elif by_dkim:
        message = f"{sender} is aligned with signer {signer}, but not with envelope {envelope}"
        yield advice(subject, message, f"set mail.bounces to an address at {sender}")
    elif by_spf:
        message = f"{sender} is aligned with envelope {envelope}, but no DKIM signature was found"
        yield advice(subject, message, f"sign emails as {sender}, and set mail.dkim_selector")
    else:
        message = f"{sender} is aligned neither with envelope {envelope} nor with a known signer"
        yield problem(
            subject, message, f"sign as {sender}, or set mail.bounces to an address there"
        )


LOOKUPS = 10
"""Most DNS lookups of an SPF record; with more, receivers ignore it (RFC 7208 §4.6.4)."""
VOIDS = 2
# Counting stops here, also for a record that includes itself.
_MAX_COUNT = 30
_TERM = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)(?:([:=/])(.*))?")
_MECHANISMS = frozenset("all include a mx ptr ip4 ip6 exists".split())


@frozen
class SpfTerm:
    """One term of an SPF record, such as `-all`, `include:example.com` or `redirect=example.com`.

    `modifies` tells a modifier (`redirect=…`) from a mechanism (RFC 7208 §4.6.1).
    """

    qualifier: str
    name: str
    value: str
    modifies: bool


@define
class _SpfEvaluation:
    """The DNS lookups and errors of an SPF record with all its includes, in the worst case."""

    resolver: Resolver
    lookups: int = 0
    voids: int = 0
    errors: list[str] = Factory(list)
    advice: list[str] = Factory(list)
    failed: list[Diagnosis] = Factory(list)

    def follow(self, domain: str, record: str) -> str:
        """Count the lookups of `record`, the SPF record of `domain`, and follow its includes.

        Return the qualifier of its `all`, "" if it has no `all`.
        """
        redirect = ""
        for text in record.split()[1:]:
            term = parse_spf_term(text)
            if isinstance(term, str):
                self.errors.append(f"{domain}: {term}")
            elif term.modifies:
                redirect = term.value if term.name == "redirect" else redirect
            elif term.name == "all":
                # RFC 7208 §5.1, §6.1: later terms and redirect are ignored.
                return term.qualifier or "+"
            elif term.name not in {"ip4", "ip6"}:
                self._count(domain, term)
        return self._follow_domain(redirect, "redirect") if redirect else ""

    def _count(self, domain: str, term: SpfTerm) -> None:
        target = term.value.partition("/")[0] or domain
        if term.name == "include":
            self._follow_domain(target, "include")
            return
        self.lookups += 1
        if self.lookups > _MAX_COUNT or "%" in target:
            return  # RFC 7208 §7: macros are expanded for each email
        if term.name == "ptr":
            self.advice.append(f"{domain} uses ptr, which receivers may ignore (RFC 7208 §5.5)")
        elif not any(self._exists(target, kind) for kind in _record_types(term.name)):
            self.voids += 1

    def _exists(self, name: str, kind: RecordType) -> bool:
        answer = self.resolver.lookup(_normalize(name), kind)
        if answer.status == "failed":
            self.failed.append(lookup_failed("SPF", name, answer))
        elif kind == "MX" and len(answer.records) > LOOKUPS:
            # RFC 7208 §4.6.4
            self.errors.append(f"{name} has more than {LOOKUPS} MX records")
        return answer.status != "nothing"

    def _follow_domain(self, domain: str, how: str) -> str:
        self.lookups += 1
        if self.lookups > _MAX_COUNT or "%" in domain:
            return ""
        answer = self.resolver.lookup(_normalize(domain), "TXT")
        if answer.status == "failed":
            self.failed.append(lookup_failed("SPF", domain, answer))
            return ""
        records = _records(answer.records)
        self.voids += answer.status == "nothing"
        if len(records) != 1:
            count = "several records" if records else "no record"
            self.errors.append(f"{how} of {domain}, which has {count}")  # RFC 7208 §5.2, §6.1
            return ""
        return self.follow(_normalize(domain), records[0])


def check_spf(domain: str, resolver: Resolver) -> tuple[Diagnosis, ...]:
    """Return the findings about the SPF record of `domain`.

    Lookups are counted for the worst case, in which no mechanism matches before the last one, since
    only the receiver of an email knows which one matches.
    """
    subject = f"SPF of {domain}"
    answer = resolver.lookup(domain, "TXT")
    if answer.status == "failed":
        return (lookup_failed(subject, domain, answer),)
    records = _records(answer.records)
    if not records:
        hint = "publish the record of your mail server's operator: v=spf1 include:… ~all"
        return (problem(subject, "there is no record", hint),)
    if len(records) > 1:
        # RFC 7208 §4.5
        message = f"there are {len(records)} records, so none counts"
        return (problem(subject, message, "merge them into one"),)
    result = _SpfEvaluation(resolver)
    qualifier = result.follow(domain, records[0])
    return (
        *_check_cost(subject, records[0], result),
        *_check_all(subject, qualifier),
        *result.failed,
    )


def _records(texts: tuple[str, ...]) -> list[str]:
    # RFC 7208 §4.5
    return [text for text in texts if re.match(r"v=spf1( |$)", text, re.IGNORECASE)]


def _check_cost(subject: str, record: str, result: _SpfEvaluation) -> Iterator[Diagnosis]:
    for error in result.errors:
        yield problem(subject, error, "correct it: receivers ignore a record with an error")
    for message in result.advice:
        yield advice(subject, message, "remove it")
    if result.lookups > LOOKUPS:
        count = f"more than {_MAX_COUNT}" if result.lookups > _MAX_COUNT else str(result.lookups)
        message = f"needs {count} lookups, and receivers stop after {LOOKUPS}"
        yield problem(subject, message, "remove services that do not send for you")
    if result.voids > VOIDS:
        message = f"{result.voids} of its names do not exist, and receivers accept {VOIDS}"
        yield problem(subject, message, "remove them")
    if not result.errors and result.lookups <= LOOKUPS and result.voids <= VOIDS:
        yield ok(subject, f"{record} ({result.lookups} of {LOOKUPS} lookups)")


def _check_all(subject: str, qualifier: str) -> Iterator[Diagnosis]:
    if qualifier == "+":
        message = "ends with +all, which lets everybody send in your name"
        yield problem(subject, message, "end it with ~all or -all")
    elif qualifier not in {"-", "~"}:
        ending = "with ?all" if qualifier else "without all"
        message = f"ends {ending}, which allows other servers to send in your name"
        yield advice(subject, message, "end it with ~all")


def parse_spf_term(text: str) -> SpfTerm | str:
    """Parse one term of an SPF record (RFC 7208 §12); return an error text if it is malformed."""
    match = _TERM.fullmatch(text)
    if not match:
        return f"'{text}' is not a mechanism"
    qualifier, name, mark, value = (part or "" for part in match.groups())
    name = name.lower()
    if mark == "=" and not qualifier:
        return SpfTerm("", name, value, modifies=True)
    if name not in _MECHANISMS or mark == "=":
        return f"'{text}' is not a mechanism"
    if name in {"ip4", "ip6"}:
        return (
            SpfTerm(qualifier, name, value, modifies=False)
            if _is_network(name, value)
            else f"'{text}' is not a network"
        )
    if (name in {"include", "exists"}) != (bool(value) and name not in {"a", "mx", "ptr"}):
        return f"'{text}' has no domain" if not value else f"'{text}' must not have a value"
    # `a/24` has prefix lengths and no name.
    return SpfTerm(qualifier, name, value if mark == ":" else "", modifies=False)


def _is_network(name: str, value: str) -> bool:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return network.version == int(name[-1])


def _record_types(name: str) -> tuple[RecordType, ...]:
    types: dict[str, tuple[RecordType, ...]] = {"mx": ("MX",), "a": ("A", "AAAA")}
    return types.get(name, ("A",))


def _normalize(domain: str) -> str:
    return domain.lower().rstrip(".")
