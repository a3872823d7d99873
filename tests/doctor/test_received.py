"""`postroom doctor --received`: letters signed with a key made for the test, sound and damaged."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dkim
import pytest
import time_machine
from attrs import evolve, frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.doctor import received
from postroom.doctor.dkim import SignatureVerdict, VerificationError, verify_signatures
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER
from postroom.models import Site
from postroom.newsletter.personalize import prepare_issue
from postroom.newsletter.render import RenderedEmail
from tests.support.dns_records import WHOLE, Offline, Records
from tests.support.site import AT, CommandResult

TOKEN = "t" * len(TOKEN_PLACEHOLDER)
RESULTS = (
    b"Authentication-Results: mx.example.net;\r\n"
    b" dkim=pass (2048-bit (nested) key) header.d=example.com;\r\n"
    b" spf=pass smtp.mailfrom=bounces@example.com; dmarc=pass (p=NONE) header.from=example.com\r\n"
)
COVERED = (
    b"From To Subject Date Message-ID MIME-Version Content-Type List-Id List-Unsubscribe"
    b" List-Unsubscribe-Post"
).split()


@frozen
class Key:
    """A throw-away key: to sign with, and as the DNS publishes it."""

    private: bytes
    record: str


@pytest.fixture(scope="module")
def key() -> Key:
    """Return a fresh RSA key of 2048 bits."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = made.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Key(private, f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}")


@pytest.fixture
def unsigned(site: Site) -> bytes:
    """Return a letter as Postroom makes it for a subscriber."""
    rendered = RenderedEmail("We moved: Grüße", "<p>Hello</p>", "Hello\n")
    prepared = prepare_issue(
        rendered, evolve(site, mail=WHOLE), datetime(2026, 11, 22, 9, tzinfo=UTC)
    )
    return prepared.message("reader@example.net", TOKEN, "1.abc@example.com")


Sign = Callable[..., bytes]


@pytest.fixture
def signed(unsigned: bytes, key: Key) -> Sign:
    """Return a function that signs the letter and delivers it as a mailbox keeps it."""

    def sign(
        data: bytes = unsigned,
        domain: bytes = b"example.com",
        covered: list[bytes] = COVERED,
        above: bytes = b"Return-Path: <bounces+1@example.com>\r\n" + RESULTS,
        *,
        length: bool = False,
    ) -> bytes:
        signature: bytes = dkim.sign(
            data, b"mail", domain, key.private, include_headers=covered, length=length
        )
        return above + signature + data

    return sign


@pytest.fixture
def records(key: Key) -> Records:
    """Return what the DNS says of the sender."""
    return {
        "TXT mail._domainkey.example.com": key.record,
        "TXT mail._domainkey.relay.example": key.record,
        "TXT _dmarc.example.com": "v=DMARC1; p=none",
    }


def found(data: bytes, records: Records) -> list[str]:
    """Return everything that is found in a letter, as `level: line`."""
    sections = received.check_received(data, Offline(records), verify_signatures)
    return [f"{one.level}: {one}" for section in sections for one in section.findings]


def faults(data: bytes, records: Records) -> list[str]:
    """Return what is found in a letter and is not well."""
    return [line for line in found(data, records) if not line.startswith("ok: ")]


def test_a_whole_letter_is_well(signed: Sign, records: Records) -> None:
    """A letter of ours, signed as it should be and delivered, has nothing wrong."""
    lines = found(signed(), records)
    assert [line for line in lines if not line.startswith("ok: ")] == []
    assert "ok: Subject: We moved: Grüße" in lines
    assert "ok: signature of example.com: covers the body and every important field" in lines
    assert "ok: signature of example.com: is valid, with the key mail" in lines
    assert "ok: dmarc: passed at mx.example.net" in lines


def test_the_readers_token_is_not_shown(signed: Sign, records: Records) -> None:
    """The address by which the reader leaves stands in no finding."""
    assert TOKEN not in " ".join(found(signed(), records))


@pytest.mark.parametrize(
    "saved",
    [
        lambda data: data.replace(b"\r\n", b"\n"),
        lambda data: b"From bounces@example.com Sun Nov 22 09:00:00 2026\n" + data,
        lambda data: b"\xef\xbb\xbf" + data,
    ],
)
def test_a_saved_letter_is_read_as_it_was_sent(
    signed: Sign, records: Records, saved: Callable[[bytes], bytes]
) -> None:
    """Line ends of this machine, a mailbox's first line and a byte order mark do no harm."""
    assert faults(saved(signed()), records) == []


@pytest.mark.parametrize(
    ("pattern", "put", "said"),
    [
        (rb"Subject: [^\n]*\n", b"", "problem: Subject: is missing"),
        (rb"Subject: [^\n]*\n", b"Subject: \r\n", "problem: Subject: is empty"),
        (rb"\AReturn", b"From: a@example.com\r\nReturn", "problem: From: occurs 2 times"),
        (rb"From: [^\n]*\n", b"From: nobody\r\n", "problem: From: has no email address"),
        (rb"List-Id: [^\n]*\n", b"", "problem: List-Id: is missing"),
        (rb"List-Id: [^\n]*\n", b"List-Id: news\r\n", "problem: List-Id: has no identifier"),
        (rb"https://news", b"http://news", "problem: List-Unsubscribe: has 0 https URLs"),
        (
            rb"List-Unsubscribe:\s+<",
            b"List-Unsubscribe: =?utf-8?q?<",
            "List-Unsubscribe: is encoded",
        ),
        (rb"=One-Click", b"=Click", "problem: List-Unsubscribe-Post: is not List-Unsubscribe=One"),
        (rb"MIME-Version: 1.0\r\n", b"", "problem: MIME-Version: is missing or not 1.0"),
        (rb"multipart/alternative", b"multipart/mixed", "problem: parts: found multipart/mixed of"),
        (
            rb"text/plain",
            b"text/html",
            "parts: found multipart/alternative of text/html, text/html",
        ),
        (
            rb"Content-Type: multipart[^\n]*\n[^\n]*\n",
            b"",
            "problem: parts: found text/plain instead",
        ),
        (rb"Return-Path: [^\n]*\n", b"", "advice: Return-Path: is missing"),
        (rb"Return-Path: [^\n]*\n", b"Return-Path: <>\r\n", "problem: Return-Path: is empty"),
        (rb"\+1@example.com", b"@relay.example", "advice: Return-Path: relay.example is not ali"),
        (rb"\AReturn", b"Return-Path: <b@example.com>\r\nReturn", "advice: Return-Path: occurs 2"),
        (rb"dkim=pass", b"dkim=fail", "problem: dkim: is fail at mx.example.net"),
        (rb"dmarc=pass", b"dmarc=none", "advice: dmarc: is none at mx.example.net"),
        (rb"spf=pass", b"iprev=pass", "advice: spf: was not checked by mx.example.net"),
        (re.escape(RESULTS), b"", "advice: Authentication-Results: is missing"),
        (rb"DKIM-Signature:(.|\n)*?\n(?=\S)", b"", "problem: DKIM-Signature: is missing"),
        (rb" bh=", b" xx=", "problem: DKIM-Signature: is malformed"),
        (rb"Hello", b"Howdy", "problem: signature of example.com: is not valid: body hash"),
        (rb"Subject: ", b"Subject: Re: ", "problem: signature of example.com: is not valid: "),
        (rb"\r\n b=.", b"\r\n b=!", "problem: signature of example.com: is not valid: "),
    ],
)
def test_names_what_became_of_a_letter(
    signed: Sign, records: Records, pattern: bytes, put: bytes, said: str
) -> None:
    """Each damage on the way is named."""
    damaged = re.sub(pattern, put, signed(), count=1)
    assert damaged != signed()
    assert any(said in line for line in faults(damaged, records))


def test_what_another_server_claims_does_not_count(signed: Sign, records: Records) -> None:
    """Results below the receiver's own, under another name, may be forged and are not read."""
    above = RESULTS.replace(b"=pass", b"=fail") + RESULTS.replace(b"mx.example", b"mx2.example")
    lines = faults(signed(above=b"Return-Path: <b@example.com>\r\n" + above), records)
    assert len(lines) == 3
    assert all("is fail at mx.example.net" in line for line in lines)


@pytest.mark.parametrize("left_out", [b"List-Unsubscribe", b"List-Unsubscribe-Post"])
def test_both_fields_for_leaving_are_signed(
    signed: Sign, records: Records, left_out: bytes
) -> None:
    """A signature that does not cover a field of one-click leaving is a problem (RFC 8058)."""
    covered = [name for name in COVERED if name != left_out]
    (line,) = faults(signed(covered=covered), records)
    start = f"problem: signature of example.com: does not cover {left_out.decode()}; ask"
    assert line.startswith(start)


def test_other_fields_are_better_signed(signed: Sign, records: Records) -> None:
    """A signature that leaves out fields of lesser weight is advised against."""
    covered = [name for name in COVERED if name not in {b"Date", b"Content-Type"}]
    (line,) = faults(signed(covered=covered), records)
    assert line.startswith("advice: signature of example.com: does not cover Date, Content-Type;")


def test_the_whole_letter_is_signed(signed: Sign, records: Records) -> None:
    """A signature of the beginning alone lets anybody write on (RFC 6376 §8.2)."""
    (line,) = faults(signed(length=True), records)
    assert line.startswith("problem: signature of example.com: covers only the beginning")


def test_the_signer_goes_with_the_sender(signed: Sign, records: Records) -> None:
    """A mail server's own signature does not count, and does no harm beside ours."""
    foreign = signed(domain=b"relay.example")
    (line,) = faults(foreign, records)
    assert line.startswith(
        "problem: DKIM-Signature: is of relay.example, which is not aligned with"
    )
    assert faults(signed(data=signed(domain=b"relay.example", above=b"")), records) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ((), "problem: signature of example.com: is not valid: missing public key"),
        ("(fails)", "advice: signature of example.com: was not verified; mail._domainkey.example"),
        ("v=DKIM1; p=AAAA", "problem: signature of example.com: is not valid: "),
        ("v=DKIM1; p=!", "problem: signature of example.com: is not valid: "),
        ("v=DKIM1; k=dsa; p=AAAA", "problem: signature of example.com: is not valid: unknown"),
    ],
)
def test_a_signature_needs_its_key(
    signed: Sign, records: Records, record: str | tuple[str, ...], said: str
) -> None:
    """A key that is missing, unreadable or cannot be asked for is told apart."""
    (line,) = faults(signed(), {**records, "TXT mail._domainkey.example.com": record})
    assert line.startswith(said)


def test_another_key_does_not_verify(signed: Sign, records: Records) -> None:
    """A signature made by another key than the published one is not valid."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    der = other.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = f"p={base64.b64encode(der).decode()}"
    (line,) = faults(signed(), {**records, "TXT mail._domainkey.example.com": record})
    assert line.startswith("problem: signature of example.com: is not valid: ")


def test_says_that_it_cannot_verify(
    signed: Sign, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dkimpy all else is looked at, and the signature said not to be verified."""
    monkeypatch.setitem(sys.modules, "dkim", None)
    (line,) = faults(signed(), records)
    assert line.startswith("advice: signature of example.com: was not verified; dkimpy is not")


def test_a_letter_without_a_signature_has_none_to_verify(unsigned: bytes) -> None:
    """Where there is no signature of that number, none holds."""
    assert verify_signatures(unsigned, 0, lambda _: None).valid == "no"


def test_a_key_that_cannot_be_asked_for_proves_nothing(signed: Sign) -> None:
    """A resolver that fails makes the verdict unknown, with its reason."""

    def fails(_: str) -> str | None:
        raise VerificationError("the name servers are away")

    assert verify_signatures(signed(), 0, fails) == SignatureVerdict(
        "unknown", "the name servers are away"
    )


@pytest.mark.parametrize("data", [b"", b"\0\xff" * 50, b"hello", b"DKIM-Signature: ;;;\r\n\r\n"])
def test_any_bytes_can_be_looked_at(data: bytes) -> None:
    """What is no letter is full of problems and no crash."""
    assert any(line.startswith("problem: From: is missing") for line in faults(data, {}))


@pytest.fixture
def offline(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no question of the command leave this machine."""
    monkeypatch.setattr("postroom.cli.doctor.SystemResolver", lambda: Offline(records))


@pytest.mark.usefixtures("offline")
def test_the_command_reads_a_file(
    tmp_path: Path, postroom: Callable[..., CommandResult], signed: Sign, unsigned: bytes
) -> None:
    """`--letter` needs no newsroom; its exit code tells whether there are problems."""
    with time_machine.travel(AT):
        (tmp_path / "sound.eml").write_bytes(signed())
    outcome = postroom(tmp_path, "doctor", "--received", "sound.eml")
    assert (outcome.code, outcome.err) == (0, "")
    printed = outcome.out.splitlines()
    titles = [line for line in printed if not line.startswith("  ")]
    assert titles[:-1] == ["Fields", "Unsubscribe", "Parts", "Signature", "Receiver"]
    assert titles[-1] == "0 problems, 0 recommendations"
    (tmp_path / "unsigned.eml").write_bytes(unsigned)
    outcome = postroom(tmp_path, "doctor", "--received", "unsigned.eml")
    assert outcome.code == 1
    assert "✗ DKIM-Signature: is missing; let the mail server sign emails" in outcome.out


@pytest.mark.usefixtures("offline")
def test_the_command_refuses_what_is_no_file(
    tmp_path: Path, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is missing or far too long is wrong use."""
    assert postroom(tmp_path, "doctor", "--received", "none.eml").code == 2
    monkeypatch.setattr("postroom.cli.doctor.MAX_BYTES", 10)
    (tmp_path / "long.eml").write_bytes(b"x" * 11)
    outcome = postroom(tmp_path, "doctor", "--received", "long.eml")
    assert (outcome.code, outcome.errors) == (
        2,
        ["long.eml: is larger than 10 bytes; choose the file of an email"],
    )
