"""An issue that a run began to send keeps its content for the other subscribers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, SiteWithServer
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import scripted

READERS = [f"reader{number}@example.com" for number in range(3)]
LATER = AT + timedelta(minutes=20)
OLD, NEW = "To the old harbour", "To the new harbour"
TEXT = POST + f"\n{OLD}.\n"
EDITED = TEXT.replace(OLD, NEW)
KEEPS = "an issue that some subscribers have received keeps its content of 2026-11-22 13:00 CET"


@pytest.fixture
def sending_site(
    database_url: str,
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SiteWithServer]:
    """Make a site with a post and three subscribers who get every post."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        made = SiteWithServer(make_site({"posts/a.md": TEXT}, MAIL), server, postroom)
        made.add(*READERS)
        yield made


def send_with_answers(sending_site: SiteWithServer, answers: list[bytes]) -> None:
    """Send with a server that gives these answers to recipients first."""
    sending_site.server.script["RCPT"] = answers
    assert sending_site.send().code == 1


def content_counts(sending_site: SiteWithServer) -> Counter[str]:
    """Return how many emails have the old and the new content."""
    texts = [message.decode("utf-8") for message in sending_site.server.messages]
    return Counter(content for text in texts for content in (OLD, NEW) if content in text)


def test_started_issue_keeps_its_content(sending_site: SiteWithServer) -> None:
    """An edit does not change a started issue, and `plan` and `send` warn about it."""
    send_with_answers(sending_site, [b"250 ok\r\n", b"451 later\r\n", b"451 later\r\n"])
    sending_site.write("a.md", EDITED)
    planned = sending_site.call(sending_site.folder, "plan", at=LATER)
    outcome = sending_site.send(at=LATER)
    assert all(KEEPS in result.err and "send --anew" in result.err for result in (planned, outcome))
    assert content_counts(sending_site) == {OLD: 3}
    assert sending_site.email_counts() == dict.fromkeys(READERS, 1)


def test_anew_uses_the_edited_post(sending_site: SiteWithServer) -> None:
    """With --anew the remaining subscribers get the edited post, and nobody gets two emails."""
    send_with_answers(sending_site, [b"250 ok\r\n", b"451 later\r\n", b"451 later\r\n"])
    sending_site.write("a.md", EDITED)
    outcome = sending_site.send("--anew", at=LATER)
    assert (outcome.code, KEEPS in outcome.err) == (0, False)
    assert content_counts(sending_site) == {OLD: 1, NEW: 2}
    assert sending_site.email_counts() == dict.fromkeys(READERS, 1)
    assert sending_site.send("--anew", at=LATER).out == NOTHING_DUE


def test_issue_that_nobody_has_is_rendered_again(sending_site: SiteWithServer) -> None:
    """An issue that nobody has received contains the edit, without a warning."""
    send_with_answers(sending_site, [b"451 later\r\n"] * 3)
    sending_site.write("a.md", EDITED)
    outcome = sending_site.send(at=LATER)
    assert (outcome.code, outcome.err) == (0, "")
    assert content_counts(sending_site) == {NEW: 3}


def test_unchanged_issue_gives_no_warning(sending_site: SiteWithServer) -> None:
    """Without an edit there is no warning, and all emails have the first run's date."""
    send_with_answers(sending_site, [b"250 ok\r\n", b"451 later\r\n", b"451 later\r\n"])
    outcome = sending_site.send(at=LATER)
    assert (outcome.code, outcome.err) == (0, "")
    assert len({_date(message) for message in sending_site.server.messages}) == 1


def _date(message: bytes) -> bytes:
    return next(line for line in message.split(b"\r\n") if line.startswith(b"Date:"))


def test_uncertain_email_is_resent_unchanged(sending_site: SiteWithServer) -> None:
    """A resent uncertain email is the same message, whatever the others get."""
    sending_site.server.script["."] = [b"999 what?\r\n"]
    assert sending_site.send().code == 1
    sending_site.write("a.md", EDITED)
    sending_site.add("late@example.com")
    assert sending_site.send("--anew", at=LATER).code == 1
    assert sending_site.send("--resend-uncertain", at=LATER).code == 0
    assert content_counts(sending_site) == {OLD: 4, NEW: 1}
    assert (
        len({message for message in sending_site.server.messages if OLD in message.decode()}) == 3
    )


def test_approved_plan_refuses_anew(sending_site: SiteWithServer) -> None:
    """--anew cannot be combined with an approved plan, whose content is fixed."""
    assert sending_site.call(sending_site.folder, "plan", "--out", "plan.json").code == 0
    outcome = sending_site.send("--plan", "plan.json", "--anew")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
