"""The domain name system: a name and a type → its records, or why there are none.

Nothing here raises: a doctor reports what he could not find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    import dns.rdata

RecordType: TypeAlias = Literal["A", "AAAA", "MX", "TXT"]
Status: TypeAlias = Literal["found", "nothing", "failed"]
_TIMEOUT = 5.0


@frozen
class Answer:
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
        self._known: dict[tuple[str, RecordType], Answer] = {}

    def lookup(self, name: str, kind: RecordType) -> Answer:
        """Return the records of `name`, a domain name in ASCII without a dot at its end."""
        if (name, kind) not in self._known:
            self._known[name, kind] = self._asked(name, kind)
        return self._known[name, kind]

    def _asked(self, name: str, kind: RecordType) -> Answer:
        import dns.exception  # noqa: PLC0415 - slow to import, and only the doctor asks
        import dns.resolver  # noqa: PLC0415

        try:
            found = dns.resolver.resolve(f"{name}.", kind, lifetime=self._timeout)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Answer("nothing")
        except dns.exception.Timeout:
            return Answer("failed", reason=f"no answer in {self._timeout:g} s")
        except (dns.exception.DNSException, OSError, UnicodeError, ValueError) as error:
            return Answer("failed", reason=" ".join(str(error).split()) or type(error).__name__)
        return Answer("found", tuple(sorted(_text(record, kind) for record in found)))


def _text(record: dns.rdata.Rdata, kind: RecordType) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
    if kind == "MX":
        host: str = record.exchange.to_text()  # type: ignore[attr-defined]
        return host if host == "." else host.rstrip(".")
    return record.to_text().rstrip(".")
