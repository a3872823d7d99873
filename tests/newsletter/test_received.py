"""Emails as received: from the command line through a real SMTP server."""

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
    """An aiosmtpd handler that keeps the received messages."""

    envelopes: list[Envelope] = Factory(list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take one message."""
        self.envelopes.append(envelope)
        return "250 OK"


@frozen
class ReceivedEmail:
    """A message as received, its site, and the parts rendered for it."""

    site: Site
    sender: str
    message: EmailMessage
    html: str
    text: str

    def part(self, kind: str) -> str:
        """Return the content of a part with line feeds."""
        body = self.message.get_body((kind,))
        assert isinstance(body, EmailMessage)
        return str(body.get_content()).replace("\r\n", "\n")


def digest(site_dir: Path, form: str) -> bytes:
    """Return what `postroom digest` prints."""
    command = [str(POSTROOM), "digest", form, "--at", AT.isoformat()]
    return subprocess.run(command, cwd=site_dir, capture_output=True, check=True).stdout


def send(data: bytes) -> Envelope:
    """Send a message by SMTP and return the received envelope."""
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
def received(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ReceivedEmail:
    """Return the newest email of each site as received."""
    site_dir = sites.write_all(tmp_path_factory.mktemp("inbox"))[request.param]
    envelope = send(digest(site_dir, "--eml"))
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    html, text = (digest(site_dir, form).decode() for form in ("--html", "--text"))
    # The newer policies put spaces between the encoded words of a name.
    sender = str(message_from_bytes(envelope.content)["From"])
    return ReceivedEmail(load_settings(site_dir), sender, message, html, text)


def test_the_parts_arrive_unchanged(received: ReceivedEmail) -> None:
    """HTML and text arrive exactly as `postroom digest` prints them."""
    assert (received.part("html"), received.part("plain")) == (received.html, received.text)


def test_the_text_is_the_first_part(received: ReceivedEmail) -> None:
    """The text part precedes the HTML part."""
    kinds = [part.get_content_type() for part in received.message.iter_parts()]
    assert (received.message.get_content_type(), kinds) == (
        "multipart/alternative",
        ["text/plain", "text/html"],
    )


def test_the_subject_arrives(received: ReceivedEmail) -> None:
    """The subject is the title of the HTML."""
    title = lxml_html.document_fromstring(received.html).xpath("string(//title)")
    assert received.message["Subject"] == title


def test_the_sender_arrives(received: ReceivedEmail) -> None:
    """The sender is the name and the email address of the site, in any script."""
    name, address = parseaddr(received.sender)
    shown = str(make_header(decode_header(name)))
    assert (shown, address) == (received.site.title, received.site.contact.email)


def test_every_field_arrives_once(received: ReceivedEmail) -> None:
    """Every header field arrives once, and the mail server adds none but its own."""
    wanted = "From To Subject Date Message-ID MIME-Version Content-Type".split()
    added = {"X-Peer", "X-MailFrom", "X-RcptTo"}
    assert [name for name in received.message if name not in added] == wanted


def test_the_message_has_no_defects(received: ReceivedEmail) -> None:
    """The standard library finds no defect in the message and its parts."""
    parts = [received.message, *received.message.iter_parts()]
    assert [defect for part in parts for defect in part.defects] == []
