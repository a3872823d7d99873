"""Where mail to a domain goes: bounces and answers must arrive somewhere."""

from __future__ import annotations

from postroom.doctor.domains import Resolver, unanswered
from postroom.doctor.finding import Finding, advice, problem, well


def mx(domain: str, use: str, resolver: Resolver) -> tuple[Finding, ...]:
    """Return whether mail can be sent to `domain`; `use` says what for, such as `bounces`."""
    subject = f"MX of {domain}"
    answer = resolver.lookup(domain, "MX")
    if answer.status == "failed":
        return (unanswered(subject, domain, answer),)
    hosts = [host for host in answer.records if host != "."]
    if hosts:
        return (well(subject, f"{use} go to {', '.join(hosts)}"),)
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
