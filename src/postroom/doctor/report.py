"""The settings and the outside world → advice.

Each room looks at one thing and returns findings; nothing is changed and no letter is sent. The
outside is given: who answers for domain names, the mail server, the clock, the database.
"""

from __future__ import annotations

from collections.abc import Iterator

from postroom.doctor.dkim import check_dkim_key
from postroom.doctor.dns import Resolver, check_dmarc, check_mx, check_spf, domain_of
from postroom.doctor.findings import Diagnosis
from postroom.models import MailSettings


def check_domains(mail: MailSettings, resolver: Resolver) -> Iterator[Diagnosis]:
    """Yield what there is to say about the domains that `mail` names, as the world sees them."""
    sender = domain_of(mail.sender)
    envelope = domain_of(mail.bounces) or sender
    if not sender:
        return
    # RFC 7208 §2.4: SPF is asked of the envelope's domain, not of that in From.
    yield from check_spf(envelope, resolver)
    signer = ""
    if mail.dkim_selector:
        key = check_dkim_key(sender, mail.dkim_selector, resolver)
        yield from key
        signer = "" if any(one.level == "problem" for one in key) else sender
    yield from check_dmarc(sender, envelope, signer, resolver)
    uses = {envelope: "bounces"} if mail.bounces else {}
    replies = domain_of(mail.reply_to) or sender
    for domain in dict.fromkeys((sender, replies)):
        uses[domain] = "bounces and answers" if domain in uses else "answers"
    for domain, use in uses.items():
        yield from check_mx(domain, use, resolver)
