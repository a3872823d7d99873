"""The settings and the outside world → advice.

Each room looks at one thing and returns findings; nothing is changed and no letter is sent. The
outside is given: who answers for domain names, the mail server, the clock, the database.
"""

from __future__ import annotations

from collections.abc import Iterator

from postroom.doctor.dkimkey import dkim_key
from postroom.doctor.dmarc import dmarc
from postroom.doctor.domains import Resolver, domain_of
from postroom.doctor.finding import Finding, Level, Section, as_findings
from postroom.doctor.machine import Relay, clock, database, relay
from postroom.doctor.mx import mx
from postroom.doctor.settings import SECRETS, secrets, settings
from postroom.doctor.spf import spf
from postroom.model import MailSettings

__all__ = [
    "SECRETS",
    "Finding",
    "Level",
    "Relay",
    "Resolver",
    "Section",
    "as_findings",
    "clock",
    "database",
    "domains",
    "relay",
    "secrets",
    "settings",
]


def domains(mail: MailSettings, resolver: Resolver) -> Iterator[Finding]:
    """Yield what there is to say about the domains that `mail` names, as the world sees them."""
    sender = domain_of(mail.sender)
    envelope = domain_of(mail.bounces) or sender
    if not sender:
        return
    # RFC 7208 §2.4: SPF is asked of the envelope's domain, not of that in From.
    yield from spf(envelope, resolver)
    signer = ""
    if mail.dkim_selector:
        key = dkim_key(sender, mail.dkim_selector, resolver)
        yield from key
        signer = "" if any(one.level == "problem" for one in key) else sender
    yield from dmarc(sender, envelope, signer, resolver)
    uses = {envelope: "bounces"} if mail.bounces else {}
    replies = domain_of(mail.reply_to) or sender
    for domain in dict.fromkeys((sender, replies)):
        uses[domain] = "bounces and answers" if domain in uses else "answers"
    for domain, use in uses.items():
        yield from mx(domain, use, resolver)
