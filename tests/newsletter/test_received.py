"""A letter on its way: from the command line through a real SMTP server into an inbox."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import sys
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from attrs import Factory, frozen
from lxml import html as lxml_html

from postroom.models import Site
from postroom.settings.site import load_settings
from tests.support import sites
from tests.support.site import AT

POSTROOM = Path(sys.executable).with_name("postroom")


@frozen
class Inbox:
    """Keeps what arrives, as a mail server's handler."""

    envelopes: list[Envelope] = Factory(list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take one message."""
        self.envelopes.append(envelope)
        return "250 kept"


@frozen
class Arrived:
    """A message as it arrived, whose it is, and the parts that were composed for it."""

    site: Site
    sender: str
    message: EmailMessage
    html: str
    text: str

    def part(self, kind: str) -> str:
        """Return the contents of a part, with line breaks as they were composed."""
        body = self.message.get_body((kind,))
        assert isinstance(body, EmailMessage)
        return str(body.get_content()).replace("\r\n", "\n")


def digest(site_dir: Path, form: str) -> bytes:
    """Return what `postroom digest` prints."""
    command = [str(POSTROOM), "digest", form, "--at", AT.isoformat()]
    return subprocess.run(command, cwd=site_dir, capture_output=True, check=True).stdout


def sent(data: bytes) -> Envelope:
    """Send a message by SMTP and return what came in at the other end."""
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(inbox, hostname="127.0.0.1", port=port, server_hostname="localhost")
    server.start()
    try:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost") as client:
            client.sendmail("bounces@news.example.com", ["reader@example.org"], data)
    finally:
        server.stop()
    (envelope,) = inbox.envelopes
    return envelope


@pytest.fixture(scope="module", params=["demo", "arabic", "stress"])
def arrived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Arrived:
    """Return the newest letter of each newsroom after its way."""
    site_dir = sites.write_all(tmp_path_factory.mktemp("inbox"))[request.param]
    envelope = sent(digest(site_dir, "--eml"))
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    html, text = (digest(site_dir, form).decode() for form in ("--html", "--text"))
    # The older parser: the newer one puts blanks between the encoded words of a name.
    sender = str(message_from_bytes(envelope.content)["From"])
    return Arrived(load_settings(site_dir), sender, message, html, text)


def test_the_parts_arrive_as_composed(arrived: Arrived) -> None:
    """HTML and text arrive letter by letter as `postroom digest` shows them."""
    assert (arrived.part("html"), arrived.part("plain")) == (arrived.html, arrived.text)


def test_the_text_is_the_first_part(arrived: Arrived) -> None:
    """A mail program finds the two parts in the order that it expects."""
    kinds = [part.get_content_type() for part in arrived.message.iter_parts()]
    assert (arrived.message.get_content_type(), kinds) == (
        "multipart/alternative",
        ["text/plain", "text/html"],
    )


def test_the_subject_arrives(arrived: Arrived) -> None:
    """The subject that arrives is the title of the HTML."""
    title = lxml_html.document_fromstring(arrived.html).xpath("string(//title)")
    assert arrived.message["Subject"] == title


def test_the_sender_arrives(arrived: Arrived) -> None:
    """The letter comes from the newsroom's own name and address, in whatever script."""
    name, address = parseaddr(arrived.sender)
    shown = str(make_header(decode_header(name)))
    assert (shown, address) == (arrived.site.title, arrived.site.contact.email)


def test_every_field_arrives_once(arrived: Arrived) -> None:
    """A mail server has nothing to add to a letter's fields, and nothing to mend in them."""
    wanted = "From To Subject Date Message-ID X-Unsent MIME-Version Content-Type".split()
    added = {"X-Peer", "X-MailFrom", "X-RcptTo"}
    assert [name for name in arrived.message if name not in added] == wanted


def test_nothing_in_a_letter_is_broken(arrived: Arrived) -> None:
    """The standard library finds no defect in what arrived, nor in its parts."""
    parts = [arrived.message, *arrived.message.iter_parts()]
    assert [defect for part in parts for defect in part.defects] == []
