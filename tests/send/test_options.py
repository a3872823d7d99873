"""`send` refuses options that exclude or need each other; the server's log is the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest

from tests.support.sending_site import KEY, MAIL, SiteWithServer
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import scripted

READERS = Counter(["reader0@example.com", "reader1@example.com"])
TEST = "--test --to me@example.com"
PLAN, RESEND = "--plan plan.json", "--resend-uncertain"
# These choose the emails of a run; the others let a run go on that would stop.
CHOICES = (TEST, RESEND, PLAN, "--window 6h", "--anew")
PERMITS = ("--accept-missing", "--despite-complaints", "--yes")
COMPATIBLE = {(PLAN, "--window 6h"), ("--window 6h", "--anew")}
PAIRS = [*combinations((*CHOICES, *PERMITS), 2)]
EXCLUDING = [pair for pair in combinations(CHOICES, 2) if pair not in COMPATIBLE]


@pytest.fixture
def sending_site(
    make_site: MakeSite, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SiteWithServer]:
    """Make a site with two subscribers who are due a post, and an approved plan."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        made = SiteWithServer(make_site({"posts/a.md": POST}, MAIL), server, postroom)
        made.add(*READERS)
        assert made.call(made.folder, "plan", "--out", "plan.json", at=AT).code == 0
        yield made


def is_refused(sending_site: SiteWithServer, *options: str) -> bool:
    """Run `send`; tell whether it was refused, and sent and recorded nothing."""
    before = sending_site.rows()
    outcome = sending_site.send(*options)
    assert all(line.startswith("error: ") for line in outcome.err.splitlines())
    return outcome.code == 2 and not sending_site.server.messages and sending_site.rows() == before


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_each_pair_of_options_is_refused_or_obeyed(
    sending_site: SiteWithServer, first: str, second: str
) -> None:
    """Two options that choose different emails are refused; every other pair has its effect."""
    options = [*first.split(), *second.split()]
    if (first, second) in EXCLUDING:
        assert is_refused(sending_site, *options)
        return
    outcome = sending_site.send(*options)
    assert outcome.code == 0, outcome.err
    expected = {TEST: Counter(["me@example.com"]), RESEND: Counter[str]()}.get(first, READERS)
    assert sending_site.email_counts() == expected


@pytest.mark.parametrize("more", ["", *CHOICES[1:], *PERMITS])
@pytest.mark.parametrize(
    "alone", [["--test"], ["--to", "me@example.com"], ["--to", ""], ["--test", "--to", ""]]
)
def test_a_test_email_needs_its_recipient(
    sending_site: SiteWithServer, alone: list[str], more: str
) -> None:
    """A variable that is empty by mistake never turns a test into a run."""
    assert is_refused(sending_site, *alone, *more.split())


@pytest.mark.parametrize(("first", "second"), EXCLUDING)
def test_the_error_names_both_options(
    sending_site: SiteWithServer, first: str, second: str
) -> None:
    """The error names the two options that exclude each other."""
    outcome = sending_site.send(*second.split(), *first.split())
    names = (first.split(maxsplit=1)[0], second.split(maxsplit=1)[0])
    assert outcome.err == (
        f"error: send: {names[0]} and {names[1]}: exclude each other; write only one of them\n"
    )
