"""A plan that was approved is sent, or nothing is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from postroom.db.schema import metadata
from postroom.db.store import Store
from postroom.errors import StoppedError, UseError
from postroom.models import IssueSnapshot
from postroom.scheduling.plan import PlanInput
from postroom.send.plan_file import (
    ApprovedPlan,
    RecipientDigests,
    approve,
    content_digest,
    read_plan,
    write_plan,
)
from postroom.send.run import settle_log
from tests.support.processes import Process
from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, Room
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import scripted

ANOTHER = POST.replace("moved", "grew").replace("2026-11-20", "2026-11-21")
READERS = [f"reader{number}@example.com" for number in range(3)]
LATER = AT + timedelta(minutes=20)
ON_MONDAY = datetime(2026, 11, 23, 8, 5, tzinfo=UTC)


@pytest.fixture
def room(
    make_site: MakeSite, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Room]:
    """Make a newsroom with a post, and three readers who get every post."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        made = Room(make_site({"posts/a.md": POST}, MAIL), server, postroom)
        made.add(*READERS)
        yield made


@pytest.fixture
def either(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test run once on each kind of database; name it before `room`."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)


def plan(room: Room, at: datetime = AT) -> CommandResult:
    """Run `plan --out`."""
    outcome = room.call(room.folder, "plan", "--out", "plan.json", at=at)
    assert outcome.code == 0, outcome.err
    return outcome


def send(room: Room, at: datetime = AT) -> CommandResult:
    """Run `send --plan`."""
    return room.send("--plan", "plan.json", at=at)


# What is approved is sent


@pytest.mark.usefixtures("either")
def test_what_was_planned_is_sent_once(room: Room) -> None:
    """The plan is sent; the same job once more finds nothing left of it, and is content."""
    before = room.rows()
    plan(room)
    assert room.rows() == before
    assert send(room).code == 0
    assert room.got() == Counter(READERS)
    again = send(room, LATER)
    assert (again.code, again.err) == (0, "")
    assert "nothing of the plan is left" in again.out
    assert room.got() == Counter(READERS)


@pytest.mark.usefixtures("either")
def test_who_leaves_after_the_plan_gets_nothing_and_stops_nobody(room: Room) -> None:
    """One unsubscribe must not need a new approval, or there would be no end of them."""
    plan(room)
    room.leave("reader1@example.com")
    assert send(room).code == 0
    assert room.got() == Counter(["reader0@example.com", "reader2@example.com"])


@pytest.mark.usefixtures("either")
def test_what_was_put_off_is_sent_with_the_same_plan(room: Room) -> None:
    """The rest of a plan is in it; those who have had theirs get nothing more."""
    plan(room)
    room.server.script["RCPT"] = [b"450 4.2.0 later\r\n"]
    assert send(room).code == 1
    assert len(room.got()) == 2
    assert send(room, LATER).code == 0
    assert room.got() == Counter(READERS)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_the_same_plan(room: Room) -> None:
    """After a kill in the middle the same file serves for the rest, and nobody gets two."""
    room.add(*(f"other{number}@example.com" for number in range(40)))
    settings = room.folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("rate: 100000", "rate: 10"))
    postroom = [sys.executable, "-m", "postroom"]
    subprocess.run([*postroom, "plan", "--out", "plan.json"], cwd=room.folder, check=True)
    sending = [*postroom, "send", "--keep-ledger-here", "--plan", "plan.json"]
    with Process(sending, cwd=room.folder) as process:
        deadline = time.monotonic() + 30
        while len(room.server.messages) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert 5 <= len(room.server.messages) < 43
    settings.write_text(settings.read_text().replace("rate: 10", "rate: 100000"))
    done = subprocess.run(sending, cwd=room.folder, capture_output=True, text=True, check=False)
    store = room.store()
    with closing(store.database):
        named = {claim.address for claim in store.deliveries.uncertain()}
    # What the kill left uncertain is open, so the exit code is 1.
    assert done.returncode == (1 if named else 0), done.stderr
    assert max(room.got().values()) == 1
    assert len(set(room.got()) | named) == 43
    assert len(named) <= 1


def test_a_plan_shows_the_letter_as_an_earlier_run_froze_it(room: Room) -> None:
    """Who is left of a letter gets it as the others did; a plan made meanwhile says just that."""
    room.server.script["RCPT"] = [b"450 4.2.0 later\r\n"]
    plan(room)
    assert send(room).code == 1
    room.write("a.md", POST.replace("*new* office", "*large* office"))
    plan(room, LATER)
    assert send(room, LATER).code == 0
    assert room.got() == Counter(READERS)
    assert not any(b"large" in one for one in room.server.messages)


def test_a_plan_made_ahead_is_for_its_boundary(room: Room) -> None:
    """Approved on Sunday for Monday: on Sunday nothing leaves, on Monday all does."""
    room.add("weekly@example.com", frequency="week")
    plan(room, ON_MONDAY)
    for reader in READERS:
        room.leave(reader)
    early = send(room)
    assert (early.code, room.got()) == (0, Counter())
    assert "or is not due yet" in early.out
    assert send(room, ON_MONDAY).code == 0
    assert room.got() == Counter(["weekly@example.com"])


def test_nothing_planned_nothing_sent(room: Room) -> None:
    """A plan of nothing is a plan; once something is due it is not that any more."""
    room.send()
    room.server.messages.clear()
    plan(room, LATER)
    assert json.loads((room.folder / "plan.json").read_text())["issues"] == []
    assert send(room, LATER).out == NOTHING_DUE
    room.write("b.md", ANOTHER)
    assert (send(room, LATER).code, room.got()) == (1, Counter())


def test_nobody_yet_is_a_plan_too(make_site: MakeSite, room: Room) -> None:
    """Before there is a database, a plan makes none."""
    folder = make_site({"posts/a.md": POST}, MAIL, name="fresh")
    fresh = evolve(room, folder=folder)
    plan(fresh)
    assert not (folder / ".postroom").exists()
    assert send(fresh).code == 0


def test_a_welcome_needs_no_approval(room: Room) -> None:
    """It answers somebody who came, and would stop every plan else."""
    settings = room.folder / "postroom.yaml"
    settings.write_text(settings.read_text() + "digest: {welcome: true}\n")
    room.write("old.md", ANOTHER.replace("grew", "began").replace("2026-11-21", "2026-10-02"))
    room.send()
    room.server.messages.clear()
    plan(room, LATER)
    added = room.call(room.folder, "subscribers", "add", "--confirmed", "new@example.com")
    assert "1 will be welcomed" in added.out
    assert (send(room, LATER).code, room.got()) == (0, Counter(["new@example.com"]))


# What is not is refused


def _comes(room: Room) -> None:
    room.write("b.md", ANOTHER)


def _is_edited(room: Room) -> None:
    room.write("a.md", POST.replace("a new address", "another address"))


def _is_retitled(room: Room) -> None:
    room.write("a.md", POST.replace("title: We moved", "title: We have moved"))


def _is_withdrawn(room: Room) -> None:
    room.write("a.md", POST.replace("date:", "withdrawn: 2026-11-21\ndate:"))


def _is_gone(room: Room) -> None:
    (room.folder / "posts/a.md").unlink()


def _joins(room: Room) -> None:
    room.add("new@example.com")


def _joins_others(room: Room) -> None:
    room.add("new@example.com", frequency="week")


def _other_sender(room: Room) -> None:
    settings = room.folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("News <news@", "News <editor@"))


CHANGES: dict[str, tuple[Callable[[Room], None], str]] = {
    "a post comes": (_comes, "we-grew, which is not in the plan"),
    "a post is edited": (_is_edited, "does not say what it says in the plan"),
    "a post is retitled": (_is_retitled, "does not say what it says in the plan"),
    "a post is withdrawn": (_is_withdrawn, "we-moved, which is not published now"),
    "a post is gone": (_is_gone, "we-moved, which is not published now"),
    "a reader comes": (
        _joins,
        "1 subscriber would receive an issue that is not planned for them",
    ),
    "a reader of another letter comes": (_joins_others, "the weekly issue of 2026-11-16 would"),
    "the sender changes": (_other_sender, "does not say what it says in the plan"),
}


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("change", CHANGES)
def test_what_would_be_sent_now_must_be_what_was_planned(room: Room, change: str) -> None:
    """Else nothing moves, and one line says what differs; a new plan makes it good."""
    room.add("weekly@example.com", frequency="week", start="2026-11-22")
    room.write("w.md", ANOTHER.replace("grew", "wait").replace("2026-11-21", "2026-11-14"))
    plan(room)
    happen, told = CHANGES[change]
    happen(room)
    before = room.rows("runs")
    outcome = send(room)
    assert (outcome.code, len(outcome.errors), outcome.out) == (1, 1, "")
    assert told in outcome.errors[0]
    assert "postroom plan --out FILE" in outcome.errors[0]
    assert (room.rows("runs"), room.got()) == (before, Counter())
    plan(room)
    assert send(room).code == 0
    assert set(room.got().values()) <= {1}


@pytest.mark.usefixtures("either")
def test_at_the_next_boundary_the_plan_is_another(room: Room) -> None:
    """A weekly letter that was approved for one Monday does not leave on the next."""
    room.add("weekly@example.com", frequency="week")
    plan(room, ON_MONDAY)
    outcome = send(room, ON_MONDAY + timedelta(days=7))
    assert (outcome.code, room.got()) == (1, Counter())
    assert (
        "the plan is for the weekly issue of 2026-11-23, and now it would be the weekly"
        in (outcome.errors[0])
    )


def test_the_same_readers_with_another_letter_are_refused(room: Room) -> None:
    """Both letters are in the plan, but not for whom: a reader has chosen otherwise since."""
    room.write("b.md", ANOTHER.replace("Company news", "Products"))
    room.add("products@example.com", "moves@example.com")
    store = room.store()
    with closing(store.database), store.database.writing() as connection:
        rows = metadata.tables["subscribers"]
        whose = sa.update(rows).where(rows.c.address == "products@example.com")
        connection.execute(whose.values(topics=frozenset({"products"})))
        room_of = sa.update(rows).where(rows.c.address == "moves@example.com")
    plan(room)
    with closing(store.database), store.database.writing() as connection:
        connection.execute(room_of.values(topics=frozenset({"products"})))
    outcome = send(room)
    assert (outcome.code, room.got()) == (1, Counter())
    assert "1 subscriber would receive an issue that is not planned for them" in outcome.errors[0]


@pytest.mark.usefixtures("either")
def test_who_comes_while_the_run_plans_is_seen(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the comparison and the first letter somebody is added: nothing leaves."""
    plan(room)

    def slowly(store: Store, run: int, outlook: PlanInput) -> None:
        other = room.store()
        with closing(other.database):
            old = other.subscribers.find("reader0@example.com")
            assert old
            new = evolve(old, id=0, address="new@example.com", token="n" * 22)
            other.subscribers.add([new], AT)
        settle_log(store, run, outlook)

    with monkeypatch.context() as patch:
        patch.setattr("postroom.send.run.settle_log", slowly)
        outcome = send(room)
    assert (outcome.code, room.got()) == (1, Counter())
    assert "1 subscriber would receive an issue" in outcome.errors[0]
    plan(room, LATER)
    assert send(room, LATER).code == 0
    assert room.got() == Counter([*READERS, "new@example.com"])


@pytest.mark.parametrize("option", ["--resend-uncertain", "--test --to me@example.com"])
def test_a_plan_is_for_a_run_of_the_plan(room: Room, option: str) -> None:
    """What sends something else takes no plan."""
    plan(room)
    outcome = room.send("--plan", "plan.json", *option.split())
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)


# The file


def test_the_file_names_nobody(room: Room) -> None:
    """No address, no token, nothing that a key could tell; and the same plan is the same file."""
    plan(room)
    text = (room.folder / "plan.json").read_text()
    store = room.store()
    with closing(store.database):
        for reader in store.subscribers.every():
            assert reader.address not in text
            assert reader.token not in text
    found = json.loads(text)
    assert [one["subscribers"] for one in found["issues"]] == [3]
    assert found["issues"][0]["subject"] == "Example News: We moved"
    plan(room)
    assert (room.folder / "plan.json").read_text() == text


def test_the_file_is_beside_what_is_printed(room: Room) -> None:
    """Text and JSON are printed as without it."""
    without = room.call(room.folder, "plan", at=AT).out
    assert plan(room).out == without
    told = room.call(room.folder, "plan", "--json", "--out", "other.json", at=AT)
    assert json.loads(told.out)["issues"][0]["subscribers"] == 3
    assert (room.folder / "other.json").read_bytes() == (room.folder / "plan.json").read_bytes()


def test_a_plan_needs_the_settings_of_a_letter(room: Room) -> None:
    """Without a sender there is no letter that could be approved, and the file is not written."""
    settings = room.folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("from: Example News <news@example.com>", ""))
    outcome = room.call(room.folder, "plan", "--out", "plan.json", at=AT)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert not (room.folder / "plan.json").exists()


def test_a_file_that_cannot_be_written_is_wrong_use(room: Room) -> None:
    """One line says which."""
    outcome = room.call(room.folder, "plan", "--out", "no/where.json", at=AT)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert outcome.errors[0].startswith("no/where.json: ")


PLAN = b"".join(
    write_plan(
        ApprovedPlan(
            "tag:news.example.com,2026:",
            AT,
            (
                approve(
                    IssueSnapshot(
                        "month", date(2026, 12, 1), "", ("a", "b"), AT, b"Subject: x\r\n\r\n"
                    ),
                    RecipientDigests(["one", "two"]),
                ),
            ),
        )
    )
)
_MARKS = json.loads(PLAN)["issues"][0]["recipients"]
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not a plan"),
    "not JSON": (b"\xff\xfe{", "is not a plan"),
    "deep": (b"[" * 100_000, "is not a plan"),
    "a number of many digits": (b"9" * 10_000, "is not a plan"),
    "a list": (b"[]", "is not a plan"),
    "nothing in it": (b"{}", "is not a plan"),
    "only a version": (b'{"postroom plan": 1}', "is not a plan"),
    "cut off": (PLAN[:-3], "is not a plan"),
    "other line ends": (PLAN.replace(b"\n", b"\r\n"), "is not a plan"),
    "a key twice": (PLAN.replace(b'"clock"', b'"site": "x",\n "clock"'), "is not a plan"),
    "a key too many": (PLAN.replace(b'"clock"', b'"more": 1,\n "clock"'), "is not a plan"),
    "letters of a text": (b'{"postroom plan": 1, "issues": "abc"}', "is not a plan"),
    "no frequency": (PLAN.replace(b'"month"', b'"year"'), "is not a plan"),
    "a frequency in a list": (PLAN.replace(b'"month"', b'["month"]'), "is not a plan"),
    "no date": (PLAN.replace(b"2026-12-01", b"2026-13-01"), "is not a plan"),
    "another number": (PLAN.replace(b'"subscribers": 2', b'"subscribers": 3'), "is not a plan"),
    "half a mark": (PLAN.replace(_MARKS.encode(), _MARKS[:-1].encode()), "is not a plan"),
    "no mark": (PLAN.replace(_MARKS.encode(), b"?" * 16), "is not a plan"),
    "posts of a text": (PLAN.replace(b'"a",', b'["a"],'), "is not a plan"),
    "no version": (PLAN.replace(b'plan": 1', b'plan": true'), "is not a plan"),
    "another version": (PLAN.replace(b'plan": 1', b'plan": 2'), "is a plan of version 2"),
    "another newsroom": (PLAN.replace(b"news.example.com", b"x.example"), "for tag:x.example,"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_plan_of_ours_is_wrong_use(room: Room, kind: str) -> None:
    """Whatever it is, one line says so, and nothing is sent."""
    data, told = BAD[kind]
    assert data != PLAN
    (room.folder / "plan.json").write_bytes(data)
    before = room.rows()
    outcome = send(room)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert outcome.errors[0].startswith("plan.json: ")
    assert told in outcome.errors[0]
    assert room.rows() == before


@pytest.mark.parametrize("name", ["nothing.json", "posts", "/dev/zero"])
def test_what_cannot_be_a_file_of_a_plan_is_wrong_use(room: Room, name: str) -> None:
    """Neither a missing file, nor a folder, nor one without end is read."""
    outcome = room.send("--plan", name)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)


def test_the_plan_of_the_bad_files_is_a_good_one(tmp_path: Path) -> None:
    """What the others differ from is read, and gives the same bytes."""
    (tmp_path / "plan.json").write_bytes(PLAN)
    one = read_plan(tmp_path / "plan.json", "tag:news.example.com,2026:")
    assert b"".join(write_plan(one)) == PLAN
    with pytest.raises(UseError):
        read_plan(tmp_path / "plan.json", "tag:news.example.com,2027:")


# Readers, and what a letter says

_TOKENS = st.frozensets(st.text(min_size=1, max_size=9), max_size=40)


@given(planned=_TOKENS, others=_TOKENS)
def test_a_mark_tells_who_is_in_the_plan(planned: Collection[str], others: set[str]) -> None:
    """Everybody who is, nobody who is not, in whatever order they came."""
    letter = IssueSnapshot("post", date.min, "", ("a",), AT, b"Subject: x\r\n\r\n")
    one = approve(letter, RecipientDigests(planned))
    assert one.subscribers == len(planned)
    assert all(one.includes(each) for each in planned)
    assert not any(one.includes(each) for each in others - set(planned))
    assert one == approve(letter, RecipientDigests(sorted(planned, reverse=True)))


def test_only_date_is_left_out_of_what_a_letter_says() -> None:
    """A line of the text that looks like the field counts."""
    letter = b"Subject: x\r\nDate: Sun\r\nFrom: y\r\n\r\nDate: Sun\r\n"
    assert content_digest(letter) == content_digest(
        letter.replace(b"Date: Sun\r\nFrom", b"Date: Mon\r\nFrom")
    )
    assert content_digest(letter) != content_digest(letter[:-3] + b"day\r\n")
    assert content_digest(letter) != content_digest(letter.replace(b"Subject: x", b"Subject: z"))


def test_another_letter_is_not_found() -> None:
    """Posts that were planned apart are not planned together."""
    letter = IssueSnapshot("post", date.min, "", ("a",), AT, b"Subject: x\r\n\r\n")
    parts = (
        approve(letter, RecipientDigests()),
        approve(evolve(letter, posts=("b",)), RecipientDigests()),
    )
    with pytest.raises(StoppedError, match="would hold other posts than those of the plan"):
        ApprovedPlan("id", AT, parts).find(evolve(letter, posts=("a", "b")))
