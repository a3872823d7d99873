"""The resolver, with a name server of the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from postroom.doctor.dns import DnsAnswer, RecordType, SystemResolver

_ZONE = {
    "TXT long.example.": '"v=DKIM1; p=AB" "CD"',
    "TXT strange.example.": '"\\255"',
    "MX e.example.": "10 MX.e.example.",
    "MX none.example.": "0 .",
    "A e.example.": "192.0.2.1",
    "AAAA e.example.": "2001:db8::1",
}


class NameServer:
    """Serve `_ZONE`; ignore `silent.example`, and fail for `broken.example`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.asked: list[str] = []

    def serve(self) -> None:
        """Answer queries until the socket is closed or times out."""
        while True:
            try:
                data, client = self.connection.recvfrom(4096)
            except OSError:
                return
            if data == b"end":
                return
            if answer := self._answer(dns.message.from_wire(data)):
                self.connection.sendto(answer.to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        (question,) = query.question
        name, kind = str(question.name), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{kind} {name}")
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name == "silent.example.":
            return None
        if name == "broken.example.":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif text := _ZONE.get(f"{kind} {name}"):
            response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
        elif not any(key.endswith(f" {name}") for key in _ZONE):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Run a name server on 127.0.0.1, the only one for this process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.bind(("127.0.0.1", 0))
        connection.settimeout(10)
        server = NameServer(connection)
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = connection.getsockname()[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        connection.sendto(b"end", connection.getsockname())
        thread.join(15)


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("long.example", "TXT", DnsAnswer("found", ("v=DKIM1; p=ABCD",))),
        ("strange.example", "TXT", DnsAnswer("found", ("�",))),
        ("e.example", "MX", DnsAnswer("found", ("MX.e.example",))),
        ("none.example", "MX", DnsAnswer("found", (".",))),
        ("e.example", "A", DnsAnswer("found", ("192.0.2.1",))),
        ("e.example", "AAAA", DnsAnswer("found", ("2001:db8::1",))),
        ("e.example", "TXT", DnsAnswer("nothing")),
        ("nowhere.example", "A", DnsAnswer("nothing")),
        ("silent.example", "A", DnsAnswer("failed", reason="no answer in 0.5 s")),
    ],
)
@pytest.mark.usefixtures("name_server")
def test_records_are_text(name: str, kind: RecordType, answer: DnsAnswer) -> None:
    """Strings of a TXT record are joined; `nothing` and `failed` differ."""
    assert SystemResolver(0.5).lookup(name, kind) == answer


@pytest.mark.usefixtures("name_server")
def test_server_failure_is_an_answer() -> None:
    """A failure of the name server is an answer with its reason."""
    answer = SystemResolver(0.5).lookup("broken.example", "TXT")
    assert answer.status == "failed"
    assert answer.reason


def test_impossible_name_is_an_answer(name_server: NameServer) -> None:
    """A name that DNS does not allow fails without a query."""
    assert SystemResolver(0.5).lookup("a" * 64 + ".example", "TXT").status == "failed"
    assert not name_server.asked


def test_answers_are_cached(name_server: NameServer) -> None:
    """The second lookup of a name uses the first answer."""
    resolver = SystemResolver(0.5)
    assert resolver.lookup("e.example", "A") == resolver.lookup("e.example", "A")
    assert name_server.asked == ["A e.example."]
