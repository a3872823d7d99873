"""SPF, DKIM, DMARC and MX records, with their errors."""

from __future__ import annotations

import base64

import pytest
from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.doctor import environment
from postroom.doctor.dkim import check_dkim_key, rsa_bits
from postroom.doctor.dns import (
    check_dmarc,
    check_mx,
    check_spf,
    domain_of,
    find_dmarc_policy,
    is_aligned,
    parse_tags,
)
from postroom.models import MailSettings
from tests.support.dns_records import WHOLE, Offline, Records, lines, only


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            {"TXT e.example": "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"},
            "ok: SPF of e.example",
        ),
        (
            {
                "TXT e.example": ("other", "v=spf1 include:a.example ~all"),
                "TXT a.example": "v=spf1",
            },
            "ok: SPF of e.example: v=spf1 include:a.example ~all (1 of 10 lookups)",
        ),
        (
            {"TXT e.example": "v=spf1 redirect=a.example", "TXT a.example": "v=spf1 -all"},
            "ok: SPF of e.example: v=spf1 redirect=a.example (1 of 10",
        ),
        (
            {"TXT e.example": "v=spf1 -all include:never.example nonsense:x"},
            "ok: SPF of e.example: v=spf1 -all include:never.example nonsense:x (0 of",
        ),
        (
            {
                "TXT e.example": "v=spf1 a mx a:b.example/24 exists:%{i}.c.example x=y ~all",
                "A e.example": "192.0.2.1",
                "MX e.example": "mx.e.example",
                "AAAA b.example": "2001:db8::1",
            },
            "(4 of 10 lookups)",
        ),
        ({}, "problem: SPF of e.example: there is no record"),
        ({"TXT e.example": "v=spf10 -all"}, "problem: SPF of e.example: there is no record"),
        (
            {"TXT e.example": ("v=spf1 -all", "V=SPF1 ~all")},
            "problem: SPF of e.example: there are 2",
        ),
        ({"TXT e.example": "(fails)"}, "e.example could not be looked up (no answer in 5 s); try"),
    ],
)
def test_spf_lookups_are_counted(records: Records, expected: str) -> None:
    """One SPF record must exist; lookups are counted through all includes."""
    assert expected in only(check_spf("e.example", Offline(records)))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({"TXT e.example": "v=spf1 +all"}, "problem: SPF of e.example: ends with +all"),
        ({"TXT e.example": "v=spf1 all"}, "problem: SPF of e.example: ends with +all"),
        ({"TXT e.example": "v=spf1 ?all"}, "advice: SPF of e.example: ends with ?all"),
        ({"TXT e.example": "v=spf1 ip4:192.0.2.1"}, "advice: SPF of e.example: ends without all"),
        (
            {"TXT e.example": "v=spf1 include:a.example -all"},
            "problem: SPF of e.example: include of",
        ),
        (
            {"TXT e.example": "v=spf1 redirect=a.example", "TXT a.example": ("v=spf1", "v=spf1")},
            "problem: SPF of e.example: redirect of a.example, which has several records",
        ),
        (
            {"TXT e.example": "v=spf1 include:a.example -all", "TXT a.example": "(fails)"},
            "problem: SPF: a.example could not be looked up",
        ),
        (
            {"TXT e.example": "v=spf1 a -all", "A e.example": "(fails)"},
            "problem: SPF: e.example could not be looked up",
        ),
        (
            {"TXT e.example": "v=spf1 a:x a:y a:z -all"},
            "problem: SPF of e.example: 3 of its names do",
        ),
        (
            {"TXT e.example": f"v=spf1 {'exists:%{i}.x ' * 11}-all"},
            "problem: SPF of e.example: needs 11 lookups",
        ),
        (
            {"TXT e.example": "v=spf1 include:e.example -all"},
            "problem: SPF of e.example: needs more than 30 lookups",
        ),
        (
            {"TXT e.example": "v=spf1 mx -all", "MX e.example": tuple(f"m{n}" for n in range(11))},
            "problem: SPF of e.example: e.example has more than 10 MX records",
        ),
        ({"TXT e.example": "v=spf1 ptr -all"}, "advice: SPF of e.example: e.example uses ptr"),
        ({"TXT e.example": "v=spf1 ip4:192.0.2.300 -all"}, "'ip4:192.0.2.300' is not a network"),
        ({"TXT e.example": "v=spf1 ip4:2001:db8::1 -all"}, "'ip4:2001:db8::1' is not a network"),
        ({"TXT e.example": "v=spf1 ip4 -all"}, "'ip4' is not a network"),
        (
            {"TXT e.example": "v=spf1 includes:a.example -all"},
            "'includes:a.example' is not a mechanism",
        ),
        ({"TXT e.example": "v=spf1 include=a.example a= -all"}, "ok: SPF of e.example"),
        ({"TXT e.example": "v=spf1 -include=a.example -all"}, "is not a mechanism"),
        ({"TXT e.example": "v=spf1 include -all"}, "'include' has no domain"),
        ({"TXT e.example": "v=spf1 all:x"}, "'all:x' must not have a value"),
        ({"TXT e.example": "v=spf1 !! -all"}, "'!!' is not a mechanism"),
    ],
)
def test_spf_errors_are_found(records: Records, expected: str) -> None:
    """Errors for which receivers ignore an SPF record are findings."""
    assert any(expected in line for line in lines(check_spf("e.example", Offline(records))))


def test_spf_lookups_are_bounded() -> None:
    """A record that includes itself costs few lookups."""
    resolver = Offline({"TXT e.example": "v=spf1 " + "include:e.example a:b.example " * 20})
    check_spf("e.example", resolver)
    assert len(resolver.asked) < 100


def public_key(bits: int, form: serialization.PublicFormat) -> str:
    """Return a new RSA key as a DKIM record contains it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    return base64.b64encode(key.public_bytes(serialization.Encoding.DER, form)).decode()


SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
# A modulus of 512 bits, which no tool of today would make.
_WEAK = base64.b64encode(b"\x30\x48\x02\x41\x00\x80" + bytes(63) + b"\x02\x03\x01\x00\x01").decode()
_ED = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize("form", [SPKI, serialization.PublicFormat.PKCS1])
def test_dkim_key_length(form: serialization.PublicFormat) -> None:
    """Both forms of RSA keys are measured; 2048 bits are ok."""
    record = {"TXT mail._domainkey.e.example": f"v=DKIM1; k=rsa; p={public_key(2048, form)}"}
    assert only(check_dkim_key("e.example", "mail", Offline(record))).endswith(": RSA, 2048 bits")


def test_short_dkim_key_is_advice() -> None:
    """A key of 1024 bits still counts; a longer one is advised."""
    record = {"TXT mail._domainkey.e.example": f"p={public_key(1024, SPKI)}"}
    line = only(check_dkim_key("e.example", "mail", Offline(record)))
    assert line.startswith("advice: ")
    assert line.endswith("1024 bits; sign with a key of 2048 bits")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (f"v=DKIM1; k=ed25519; p={_ED}", "ok: DKIM key mail._domainkey.e.example: Ed25519"),
        (f"k=ed25519; p={_ED}; s=email; h=sha256; t=s", "ok: "),
        ((), "problem: DKIM key mail._domainkey.e.example: does not exist"),
        (("p=", "p="), "has 2 records"),
        ("(fails)", "could not be looked up"),
        ("hello", "is not a key record"),
        ("p=x; p=y", "is not a key record"),
        ("v=DKIM2; p=", "is not a key record"),
        ("v=DKIM1; p=", "is revoked"),
        (
            f"k=ed25519; p={_ED}; t=y:s",
            "advice: DKIM key mail._domainkey.e.example: is in test mode",
        ),
        (f"k=ed25519; p={_ED}; s=tlsrpt", "is not for email (s=tlsrpt)"),
        (f"k=ed25519; p={_ED}; h=sha1", "does not allow sha256"),
        ("k=ed25519; p=AAAA", "has 3 bytes, and an Ed25519 key has 32"),
        ("k=dsa; p=AAAA", "has an unknown algorithm (k=dsa)"),
        ("p=AAAA", "cannot be decoded"),
        ("p=A!", "cannot be decoded"),
        (f"p={_WEAK}", "problem: DKIM key mail._domainkey.e.example: is an RSA key of 512 bits"),
    ],
)
def test_dkim_key_is_checked(record: str | tuple[str, ...], expected: str) -> None:
    """A DKIM key must exist once, be readable, for email, not revoked and not weak."""
    found = lines(
        check_dkim_key("e.example", "mail", Offline({"TXT mail._domainkey.e.example": record}))
    )
    assert any(expected in line for line in found)


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x84\xff", b"\x30\x05\x02\x01", b"\x30\x00"])
def test_truncated_key_is_an_error(der: bytes) -> None:
    """A truncated key raises ValueError."""
    with pytest.raises(ValueError, match=r"key|element"):
        rsa_bits(der)


@pytest.mark.parametrize(
    ("records", "domain", "organisation", "place"),
    [
        ({}, "a.b.example", "a.b.example", ""),
        ({"TXT _dmarc.b.example": "v=DMARC1; p=none"}, "a.b.example", "b.example", "b.example"),
        (
            {"TXT _dmarc.a.b.example": "v=DMARC1; p=none", "TXT _dmarc.b.example": "v=DMARC1"},
            "a.b.example",
            "b.example",
            "a.b.example",
        ),
        (
            {
                "TXT _dmarc.a.b.example": "v=DMARC1; p=none; psd=n",
                "TXT _dmarc.b.example": "v=DMARC1",
            },
            "a.b.example",
            "a.b.example",
            "a.b.example",
        ),
        ({"TXT _dmarc.example": "v=DMARC1; psd=y"}, "a.b.example", "b.example", ""),
        ({"TXT _dmarc.b.example": ("v=DMARC1", "v=DMARC1; p=none")}, "b.example", "b.example", ""),
        ({"TXT _dmarc.b.example": "v=DMARC10; p=none"}, "b.example", "b.example", ""),
    ],
)
def test_tree_walk_finds_the_organisation(
    records: Records, domain: str, organisation: str, place: str
) -> None:
    """The tree walk of RFC 9989 finds the organisational domain."""
    found = find_dmarc_policy(domain, Offline(records))
    assert (found.organisation, found.domain) == (organisation, place)


def test_tree_walk_is_bounded() -> None:
    """A name of many labels costs at most eight lookups."""
    resolver = Offline({})
    find_dmarc_policy(".".join("abcdefghijklmnop"), resolver)
    assert len(resolver.asked) == 8
    assert resolver.asked[1] == "TXT _dmarc.j.k.l.m.n.o.p"


_RECORD = {"TXT _dmarc.e.example": "v=DMARC1; p=none"}


@pytest.mark.parametrize(
    ("records", "envelope", "signer", "expected"),
    [
        (_RECORD, "e.example", "e.example", ["ok: DMARC of n.e.example: v=DMARC1", "ok: DMARC al"]),
        (_RECORD, "b.e.example", "e.example", ["ok: DMARC of", "ok: DMARC alignment"]),
        (_RECORD, "x.example", "e.example", ["ok: DMARC of", "advice: DMARC alignment"]),
        (_RECORD, "e.example", "", ["ok: DMARC of", "advice: DMARC alignment"]),
        (_RECORD, "x.example", "", ["ok: DMARC of", "problem: DMARC alignment"]),
        (
            {"TXT _dmarc.e.example": "v=DMARC1; p=reject; aspf=s; adkim=s"},
            "e.example",
            "e.example",
            ["ok: DMARC of", "problem: DMARC alignment"],
        ),
        ({}, "e.example", "", ["problem: DMARC of n.e.example: there is no record"]),
        (
            {"TXT _dmarc.e.example": "v=DMARC1"},
            "e.example",
            "",
            ["problem: DMARC of n.e.example: e.ex"],
        ),
        (
            {"TXT _dmarc.e.example": ("v=DMARC1; p=none", "v=DMARC1; p=reject")},
            "e.example",
            "",
            ["problem: DMARC of n.e.example: e.example has several records"],
        ),
        (
            {"TXT _dmarc.e.example": "(fails)"},
            "e.example",
            "",
            ["problem: DMARC: _dmarc.e.example"],
        ),
    ],
)
def test_dmarc_is_checked(
    records: Records, envelope: str, signer: str, expected: list[str]
) -> None:
    """A DMARC record must exist, and From be aligned with signer or envelope."""
    found = lines(check_dmarc("n.e.example", envelope, signer, Offline(records)))
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_empty_domain_is_not_aligned() -> None:
    """An empty domain is not aligned with any domain."""
    resolver = Offline({})
    assert not is_aligned("", "", resolver)
    assert not is_aligned("e.example", "", resolver)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({"MX e.example": "mx.e.example"}, "ok: MX of e.example: bounces go to mx.e.example"),
        ({"MX e.example": "."}, "problem: MX of e.example: says that the domain accepts no email"),
        (
            {"AAAA e.example": "2001:db8::1"},
            "advice: MX of e.example: is missing, so bounces go to",
        ),
        ({}, "problem: MX of e.example: is missing, so bounces are lost"),
        ({"MX e.example": "(fails)"}, "problem: MX of e.example: e.example could not be looked up"),
    ],
)
def test_mx_is_checked(records: Records, expected: str) -> None:
    """Bounces and replies must be deliverable."""
    assert only(check_mx("e.example", "bounces", Offline(records))).startswith(expected)


def test_every_domain_is_checked_once() -> None:
    """Complete settings lead to one finding for each record."""
    records = {
        "TXT bounce.example.com": "v=spf1 ip4:192.0.2.1 -all",
        "TXT mail._domainkey.example.com": f"k=ed25519; p={_ED}",
        "TXT _dmarc.example.com": "v=DMARC1; p=quarantine",
        "MX example.com": "mx.example.com",
        "MX bounce.example.com": "mx.example.com",
    }
    mail = evolve(WHOLE, bounces="b@bounce.example.com")
    found = lines(environment.check_domains(mail, Offline(records)))
    assert [line.split(":")[:2] for line in found] == [
        ["ok", " SPF of bounce.example.com"],
        ["ok", " DKIM key mail._domainkey.example.com"],
        ["ok", " DMARC of example.com"],
        ["ok", " DMARC alignment"],
        ["ok", " MX of bounce.example.com"],
        ["ok", " MX of example.com"],
    ]


def test_missing_key_is_no_signer() -> None:
    """Without its key a domain is no signer for DMARC."""
    records = {"TXT _dmarc.example.com": "v=DMARC1; p=none", "TXT x.example": "v=spf1 -all"}
    found = lines(environment.check_domains(evolve(WHOLE, bounces="b@x.example"), Offline(records)))
    assert any(line.startswith("problem: DMARC alignment") for line in found)


def test_missing_sender_has_no_domains() -> None:
    """Without mail.from there is no domain to check."""
    assert list(environment.check_domains(MailSettings(), Offline({}))) == []


def test_domains_and_tags_are_parsed() -> None:
    """Domains are in ASCII and lower case; a list with a tag twice is malformed."""
    assert domain_of("Büro <a@MÜNCHEN.example>") == "xn--mnchen-3ya.example"
    assert domain_of("nobody") == ""
    assert domain_of(f"a@{'x' * 70}.example") == ""
    assert parse_tags("a = 1 ; b=2;") == {"a": "1", "b": "2"}
    assert parse_tags("a=1; A=2") is None


def test_control_characters_are_not_printed() -> None:
    """A finding is one line without control characters, whatever a record holds."""
    records = {"MX e.example": "\x1b[31m\nred\u202e"}
    line = only(check_mx("e.example", "bounces", Offline(records)))
    assert line == "ok: MX of e.example: bounces go to �[31m red�"
