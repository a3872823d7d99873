"""`postroom doctor --received`: signed emails, intact and damaged."""

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
    """A key of the test: the private key, and its DNS record."""

    private: bytes
    record: str


@pytest.fixture(scope="module")
def key() -> Key:
    """Return a new RSA key of 2048 bits."""
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
    """Return an email as Postroom makes it for a subscriber."""
    rendered = RenderedEmail("We moved: Grüße", "<p>Hello</p>", "Hello\n")
    prepared = prepare_issue(
        rendered, evolve(site, mail=WHOLE), datetime(2026, 11, 22, 9, tzinfo=UTC)
    )
    return prepared.message("reader@example.net", TOKEN, "1.abc@example.com")


Sign = Callable[..., bytes]


@pytest.fixture
def signed(unsigned: bytes, key: Key) -> Sign:
    """Return a function that signs the email and adds the receiver's fields."""

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
    """Return the DNS records of the sender."""
    return {
        "TXT mail._domainkey.example.com": key.record,
        "TXT mail._domainkey.relay.example": key.record,
        "TXT _dmarc.example.com": "v=DMARC1; p=none",
    }


def all_findings(data: bytes, records: Records) -> list[str]:
    """Return all findings as `level: line`."""
    sections = received.check_received(data, Offline(records), verify_signatures)
    return [f"{finding.level}: {finding}" for section in sections for finding in section.findings]


def bad_findings(data: bytes, records: Records) -> list[str]:
    """Return the findings that are not ok."""
    return [line for line in all_findings(data, records) if not line.startswith("ok: ")]


def test_intact_email_has_only_ok_findings(signed: Sign, records: Records) -> None:
    """An email of ours that is signed and delivered has no problem."""
    lines = all_findings(signed(), records)
    assert [line for line in lines if not line.startswith("ok: ")] == []
    assert "ok: Subject: We moved: Grüße" in lines
    assert "ok: signature of example.com: covers the body and every important field" in lines
    assert "ok: signature of example.com: is valid, with the key mail" in lines
    assert "ok: dmarc: passed at mx.example.net" in lines


def test_token_is_not_shown(signed: Sign, records: Records) -> None:
    """No finding contains the subscriber's token."""
    assert TOKEN not in " ".join(all_findings(signed(), records))


@pytest.mark.parametrize(
    "saved",
    [
        lambda data: data.replace(b"\r\n", b"\n"),
        lambda data: b"From bounces@example.com Sun Nov 22 09:00:00 2026\n" + data,
        lambda data: b"\xef\xbb\xbf" + data,
    ],
)
def test_saved_email_is_read_as_it_was_sent(
    signed: Sign, records: Records, saved: Callable[[bytes], bytes]
) -> None:
    """LF line ends, an mbox separator and a byte order mark are accepted."""
    assert bad_findings(saved(signed()), records) == []


@pytest.mark.parametrize(
    ("pattern", "put", "expected"),
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
def test_damage_is_found(
    signed: Sign, records: Records, pattern: bytes, put: bytes, expected: str
) -> None:
    """Each change on the way is a finding."""
    damaged = re.sub(pattern, put, signed(), count=1)
    assert damaged != signed()
    assert any(expected in line for line in bad_findings(damaged, records))


def test_results_of_other_servers_are_ignored(signed: Sign, records: Records) -> None:
    """Results under another name than the topmost one may be forged."""
    above = RESULTS.replace(b"=pass", b"=fail") + RESULTS.replace(b"mx.example", b"mx2.example")
    lines = bad_findings(signed(above=b"Return-Path: <b@example.com>\r\n" + above), records)
    assert len(lines) == 3
    assert all("is fail at mx.example.net" in line for line in lines)


@pytest.mark.parametrize("left_out", [b"List-Unsubscribe", b"List-Unsubscribe-Post"])
def test_unsubscribe_fields_must_be_signed(signed: Sign, records: Records, left_out: bytes) -> None:
    """A signature must cover both fields of one-click unsubscribing (RFC 8058)."""
    covered = [name for name in COVERED if name != left_out]
    (line,) = bad_findings(signed(covered=covered), records)
    start = f"problem: signature of example.com: does not cover {left_out.decode()}; ask"
    assert line.startswith(start)


def test_other_fields_should_be_signed(signed: Sign, records: Records) -> None:
    """Other fields that are not signed are advice."""
    covered = [name for name in COVERED if name not in {b"Date", b"Content-Type"}]
    (line,) = bad_findings(signed(covered=covered), records)
    assert line.startswith("advice: signature of example.com: does not cover Date, Content-Type;")


def test_whole_body_must_be_signed(signed: Sign, records: Records) -> None:
    """A partial signature allows text to be added (RFC 6376 §8.2)."""
    (line,) = bad_findings(signed(length=True), records)
    assert line.startswith("problem: signature of example.com: covers only the beginning")


def test_signer_must_be_aligned(signed: Sign, records: Records) -> None:
    """A mail server's own signature does not count, but does no harm beside ours."""
    foreign = signed(domain=b"relay.example")
    (line,) = bad_findings(foreign, records)
    assert line.startswith(
        "problem: DKIM-Signature: is of relay.example, which is not aligned with"
    )
    assert bad_findings(signed(data=signed(domain=b"relay.example", above=b"")), records) == []


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ((), "problem: signature of example.com: is not valid: missing public key"),
        ("(fails)", "advice: signature of example.com: was not verified; mail._domainkey.example"),
        ("v=DKIM1; p=AAAA", "problem: signature of example.com: is not valid: "),
        ("v=DKIM1; p=!", "problem: signature of example.com: is not valid: "),
        ("v=DKIM1; k=dsa; p=AAAA", "problem: signature of example.com: is not valid: unknown"),
    ],
)
def test_signature_needs_its_key(
    signed: Sign, records: Records, record: str | tuple[str, ...], expected: str
) -> None:
    """A missing key, an unreadable one and a failed lookup have findings of their own."""
    (line,) = bad_findings(signed(), {**records, "TXT mail._domainkey.example.com": record})
    assert line.startswith(expected)


def test_signature_of_another_key_is_not_valid(signed: Sign, records: Records) -> None:
    """A signature by another key than the published one is not valid."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    der = other.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = f"p={base64.b64encode(der).decode()}"
    (line,) = bad_findings(signed(), {**records, "TXT mail._domainkey.example.com": record})
    assert line.startswith("problem: signature of example.com: is not valid: ")


def test_missing_dkimpy_is_advice(
    signed: Sign, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dkimpy everything else is checked, and the signature is not verified."""
    monkeypatch.setitem(sys.modules, "dkim", None)
    (line,) = bad_findings(signed(), records)
    assert line.startswith("advice: signature of example.com: was not verified; dkimpy is not")


def test_missing_signature_is_not_valid(unsigned: bytes) -> None:
    """A signature that does not exist is not valid."""
    assert verify_signatures(unsigned, 0, lambda _: None).valid == "no"


def test_failed_lookup_is_unknown(signed: Sign) -> None:
    """A failed lookup makes the verdict unknown, with its reason."""

    def fails(_: str) -> str | None:
        raise VerificationError("the name servers are away")

    assert verify_signatures(signed(), 0, fails) == SignatureVerdict(
        "unknown", "the name servers are away"
    )


@pytest.mark.parametrize("data", [b"", b"\0\xff" * 50, b"hello", b"DKIM-Signature: ;;;\r\n\r\n"])
def test_arbitrary_bytes_are_checked(data: bytes) -> None:
    """Bytes that are not an email have problems, but raise nothing."""
    assert any(line.startswith("problem: From: is missing") for line in bad_findings(data, {}))


@pytest.fixture
def offline(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the resolver of the command, so that no DNS query leaves this machine."""
    monkeypatch.setattr("postroom.cli.doctor.SystemResolver", lambda: Offline(records))


@pytest.mark.usefixtures("offline")
def test_the_command_reads_a_file(
    tmp_path: Path, postroom: Callable[..., CommandResult], signed: Sign, unsigned: bytes
) -> None:
    """`--received` needs no site; the exit code tells whether there are problems."""
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
def test_the_command_refuses_a_wrong_file(
    tmp_path: Path, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or far too large file is wrong use."""
    assert postroom(tmp_path, "doctor", "--received", "none.eml").code == 2
    monkeypatch.setattr("postroom.cli.doctor.MAX_BYTES", 10)
    (tmp_path / "long.eml").write_bytes(b"x" * 11)
    outcome = postroom(tmp_path, "doctor", "--received", "long.eml")
    assert (outcome.code, outcome.errors) == (
        2,
        ["long.eml: is larger than 10 bytes; name a file that holds one email"],
    )
