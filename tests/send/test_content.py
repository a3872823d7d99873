"""A letter that was cut off says the same to who is left, unless nobody has it or a person asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, Room
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import scripted

READERS = [f"reader{number}@example.com" for number in range(3)]
LATER = AT + timedelta(minutes=20)
OLD, NEW = "To the old harbour", "To the new harbour"
TEXT = POST + f"\n{OLD}.\n"
EDITED = TEXT.replace(OLD, NEW)
KEEPS = "an issue that some subscribers have already keeps its content of 2026-11-22 13:00 CET"


@pytest.fixture
def room(
    database_url: str,
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Room]:
    """Make a newsroom with a post, and three readers who get every post."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        made = Room(make_site({"posts/a.md": TEXT}, MAIL), server, postroom)
        made.add(*READERS)
        yield made


def put_off(room: Room, answers: list[bytes]) -> None:
    """Send with a server that gives these answers to recipients first."""
    room.server.script["RCPT"] = answers
    assert room.send().code == 1


def said(room: Room) -> Counter[str]:
    """Return how many letters with the old and the new words came."""
    texts = [message.decode("utf-8") for message in room.server.messages]
    return Counter(words for text in texts for words in (OLD, NEW) if words in text)


def test_who_is_left_gets_what_the_others_have_and_is_told_of(room: Room) -> None:
    """After a run that was cut off an edit is not in the letter; plan and send say so."""
    put_off(room, [b"250 ok\r\n", b"451 later\r\n", b"451 later\r\n"])
    room.write("a.md", EDITED)
    planned = room.call(room.folder, "plan", at=LATER)
    outcome = room.send(at=LATER)
    assert all(KEEPS in one.err and "send --anew" in one.err for one in (planned, outcome))
    assert said(room) == {OLD: 3}
    assert room.got() == dict.fromkeys(READERS, 1)


def test_a_person_may_have_it_written_anew(room: Room) -> None:
    """With --anew the others get the new words; who has the letter gets no other."""
    put_off(room, [b"250 ok\r\n", b"451 later\r\n", b"451 later\r\n"])
    room.write("a.md", EDITED)
    outcome = room.send("--anew", at=LATER)
    assert (outcome.code, KEEPS in outcome.err) == (0, False)
    assert said(room) == {OLD: 1, NEW: 2}
    assert room.got() == dict.fromkeys(READERS, 1)
    assert room.send("--anew", at=LATER).out == NOTHING_DUE


def test_a_letter_that_nobody_has_is_written_anew(room: Room) -> None:
    """If a run was cut off before anybody had the letter, the edit is in it, without a word."""
    put_off(room, [b"451 later\r\n"] * 3)
    room.write("a.md", EDITED)
    outcome = room.send(at=LATER)
    assert (outcome.code, outcome.err) == (0, "")
    assert said(room) == {NEW: 3}


def test_what_did_not_change_is_not_told_of(room: Room) -> None:
    """The instant of a run alone makes no other letter: the rest goes out, dated as the first."""
    put_off(room, [b"250 ok\r\n", b"451 later\r\n", b"451 later\r\n"])
    outcome = room.send(at=LATER)
    assert (outcome.code, outcome.err) == (0, "")
    assert len({_date(message) for message in room.server.messages}) == 1


def _date(message: bytes) -> bytes:
    return next(line for line in message.split(b"\r\n") if line.startswith(b"Date:"))


def test_what_is_in_doubt_is_sent_again_as_it_was(room: Room) -> None:
    """Who may have the old words gets the same letter again, whatever the others get."""
    room.server.script["."] = [b"999 what?\r\n"]
    assert room.send().code == 1
    room.write("a.md", EDITED)
    room.add("late@example.com")
    assert room.send("--anew", at=LATER).code == 1
    assert room.send("--resend-uncertain", at=LATER).code == 0
    assert said(room) == {OLD: 4, NEW: 1}
    assert len({message for message in room.server.messages if OLD in message.decode()}) == 3


def test_an_approved_plan_is_not_written_anew(room: Room) -> None:
    """--anew would send other words than those that were approved."""
    assert room.call(room.folder, "plan", "--out", "plan.json").code == 0
    outcome = room.send("--plan", "plan.json", "--anew")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
