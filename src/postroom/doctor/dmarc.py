"""DMARC: does the sender's domain ask receivers to check, and would a letter pass? (RFC 9989)."""

from __future__ import annotations

from collections.abc import Iterator

from postroom.doctor.domains import Resolver, aligned, policy, tags
from postroom.doctor.finding import Finding, advice, problem, well

_POLICIES = ("none", "quarantine", "reject")


def dmarc(sender: str, envelope: str, signer: str, resolver: Resolver) -> tuple[Finding, ...]:
    """Return what there is to say about the DMARC record for the domain `sender` of From.

    `envelope` is the domain that bounces go to, `signer` the one whose key signs, empty if that is
    not known.
    """
    found = policy(sender, resolver)
    subject = f"DMARC of {sender}"
    if found.failed:
        return (found.failed,)
    for name in found.several:
        return (problem(subject, f"{name} has several records, and then none counts", "keep one"),)
    record = tags(found.record)
    if not record:
        repair = f"publish at _dmarc.{sender}: v=DMARC1; p=none; rua=mailto:…"
        return (problem(subject, "there is no record", repair),)
    wanted = record.get("p", "").lower()
    if wanted not in _POLICIES:
        what = f"{found.domain} says no policy that is known: {found.record}"
        return (problem(subject, what, f"write p={', p='.join(_POLICIES[:-1])} or p=reject"),)
    place = f"{found.record} (at {found.domain}; organisation {found.organisation})"
    return (well(subject, place), *_alignment(sender, envelope, signer, record, resolver))


def _alignment(
    sender: str, envelope: str, signer: str, record: dict[str, str], resolver: Resolver
) -> Iterator[Finding]:
    subject = "DMARC alignment"
    # RFC 9989: r, relaxed, unless the record says s.
    by_spf = aligned(sender, envelope, resolver, strict=record.get("aspf") == "s")
    by_dkim = aligned(sender, signer, resolver, strict=record.get("adkim") == "s")
    if by_spf and by_dkim:
        yield well(subject, f"{sender} goes with the signer {signer} and the bounces of {envelope}")
    elif by_dkim:
        what = f"{sender} goes with the signer {signer}, not with the bounces of {envelope}"
        yield advice(subject, what, f"let mail.bounces be at {sender}, so that SPF counts too")
    elif by_spf:
        what = f"{sender} goes with the bounces of {envelope}; no signer is known that it goes with"
        yield advice(subject, what, f"sign as {sender} and set mail.dkim_selector")
    else:
        what = f"{sender} goes neither with the bounces of {envelope} nor with a known signer"
        yield problem(subject, what, f"sign as {sender}, or let mail.bounces be there")
