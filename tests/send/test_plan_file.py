"""`send --plan` sends exactly the approved plan, or nothing."""

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
from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, SiteWithServer
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import scripted

ANOTHER = POST.replace("moved", "grew").replace("2026-11-20", "2026-11-21")
READERS = [f"reader{number}@example.com" for number in range(3)]
LATER = AT + timedelta(minutes=20)
ON_MONDAY = datetime(2026, 11, 23, 8, 5, tzinfo=UTC)


@pytest.fixture
def sending_site(
    make_site: MakeSite, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SiteWithServer]:
    """Make a site with a post and three subscribers who get every post."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        made = SiteWithServer(make_site({"posts/a.md": POST}, MAIL), server, postroom)
        made.add(*READERS)
        yield made


@pytest.fixture
def each_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test once on each kind of database; request it before `sending_site`."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)


def plan(sending_site: SiteWithServer, at: datetime = AT) -> CommandResult:
    """Run `plan --out`."""
    outcome = sending_site.call(sending_site.folder, "plan", "--out", "plan.json", at=at)
    assert outcome.code == 0, outcome.err
    return outcome


def send(sending_site: SiteWithServer, at: datetime = AT) -> CommandResult:
    """Run `send --plan`."""
    return sending_site.send("--plan", "plan.json", at=at)


# Approved plans are sent


@pytest.mark.usefixtures("each_database")
def test_plan_is_sent_once(sending_site: SiteWithServer) -> None:
    """A plan is sent once; a second run with it sends nothing and succeeds."""
    before = sending_site.rows()
    plan(sending_site)
    assert sending_site.rows() == before
    assert send(sending_site).code == 0
    assert sending_site.email_counts() == Counter(READERS)
    again = send(sending_site, LATER)
    assert (again.code, again.err) == (0, "")
    assert "nothing of the plan is left" in again.out
    assert sending_site.email_counts() == Counter(READERS)


@pytest.mark.usefixtures("each_database")
def test_unsubscribing_keeps_the_plan_valid(sending_site: SiteWithServer) -> None:
    """An unsubscribe after the approval needs no new plan, and that subscriber gets nothing."""
    plan(sending_site)
    sending_site.unsubscribe_address("reader1@example.com")
    assert send(sending_site).code == 0
    assert sending_site.email_counts() == Counter(["reader0@example.com", "reader2@example.com"])


@pytest.mark.usefixtures("each_database")
def test_deferred_emails_are_sent_with_the_same_plan(sending_site: SiteWithServer) -> None:
    """Deferred emails are sent with the same plan, and nobody gets a second email."""
    plan(sending_site)
    sending_site.server.script["RCPT"] = [b"450 4.2.0 later\r\n"]
    assert send(sending_site).code == 1
    assert len(sending_site.email_counts()) == 2
    assert send(sending_site, LATER).code == 0
    assert sending_site.email_counts() == Counter(READERS)


@pytest.mark.slow
def test_killed_run_is_completed_with_the_same_plan(sending_site: SiteWithServer) -> None:
    """The plan of a killed run sends the remaining emails, and nobody gets a second one."""
    sending_site.add(*(f"other{number}@example.com" for number in range(40)))
    settings = sending_site.folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("rate: 100000", "rate: 10"))
    postroom = [sys.executable, "-m", "postroom"]
    subprocess.run([*postroom, "plan", "--out", "plan.json"], cwd=sending_site.folder, check=True)
    sending = [*postroom, "send", "--keep-ledger-here", "--plan", "plan.json"]
    with Process(sending, cwd=sending_site.folder) as process:
        deadline = time.monotonic() + 30
        while len(sending_site.server.messages) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert 5 <= len(sending_site.server.messages) < 43
    settings.write_text(settings.read_text().replace("rate: 10", "rate: 100000"))
    done = subprocess.run(
        sending, cwd=sending_site.folder, capture_output=True, text=True, check=False
    )
    store = sending_site.store()
    with closing(store.database):
        named = {claim.address for claim in store.deliveries.uncertain()}
    # Uncertain deliveries of the killed run are still open, so the exit code is 1.
    assert done.returncode == (1 if named else 0), done.stderr
    assert max(sending_site.email_counts().values()) == 1
    assert len(set(sending_site.email_counts()) | named) == 43
    assert len(named) <= 1


def test_plan_holds_a_started_issue_unchanged(sending_site: SiteWithServer) -> None:
    """A plan made after an interrupted run has the content of the issue that the run began."""
    sending_site.server.script["RCPT"] = [b"450 4.2.0 later\r\n"]
    plan(sending_site)
    assert send(sending_site).code == 1
    sending_site.write("a.md", POST.replace("*new* office", "*large* office"))
    plan(sending_site, LATER)
    assert send(sending_site, LATER).code == 0
    assert sending_site.email_counts() == Counter(READERS)
    assert not any(b"large" in message for message in sending_site.server.messages)


def test_plan_made_ahead_is_for_its_cutoff(sending_site: SiteWithServer) -> None:
    """A plan approved before its cutoff sends nothing until then, and everything afterwards."""
    sending_site.add("weekly@example.com", frequency="week")
    plan(sending_site, ON_MONDAY)
    for reader in READERS:
        sending_site.unsubscribe_address(reader)
    early = send(sending_site)
    assert (early.code, sending_site.email_counts()) == (0, Counter())
    assert "or is not due yet" in early.out
    assert send(sending_site, ON_MONDAY).code == 0
    assert sending_site.email_counts() == Counter(["weekly@example.com"])


def test_empty_plan_sends_nothing(sending_site: SiteWithServer) -> None:
    """An empty plan is valid until something is due."""
    sending_site.send()
    sending_site.server.messages.clear()
    plan(sending_site, LATER)
    assert json.loads((sending_site.folder / "plan.json").read_text())["issues"] == []
    assert send(sending_site, LATER).out == NOTHING_DUE
    sending_site.write("b.md", ANOTHER)
    assert (send(sending_site, LATER).code, sending_site.email_counts()) == (1, Counter())


def test_plan_without_a_database_is_empty(
    make_site: MakeSite, sending_site: SiteWithServer
) -> None:
    """A plan on a site without a database is empty, and creates no database."""
    folder = make_site({"posts/a.md": POST}, MAIL, name="fresh")
    fresh = evolve(sending_site, folder=folder)
    plan(fresh)
    assert not (folder / ".postroom").exists()
    assert send(fresh).code == 0


def test_a_welcome_needs_no_approval(sending_site: SiteWithServer) -> None:
    """A welcome issue needs no approval, because it would invalidate every plan."""
    settings = sending_site.folder / "postroom.yaml"
    settings.write_text(settings.read_text() + "digest: {welcome: true}\n")
    sending_site.write(
        "old.md", ANOTHER.replace("grew", "began").replace("2026-11-21", "2026-10-02")
    )
    sending_site.send()
    sending_site.server.messages.clear()
    plan(sending_site, LATER)
    added = sending_site.call(
        sending_site.folder, "subscribers", "add", "--confirmed", "new@example.com"
    )
    assert added.out == "1 added\nthe next postroom send will send 1 welcome email\n"
    assert (send(sending_site, LATER).code, sending_site.email_counts()) == (
        0,
        Counter(["new@example.com"]),
    )


# Other plans are refused


def _add_post(sending_site: SiteWithServer) -> None:
    sending_site.write("b.md", ANOTHER)


def _edit_post(sending_site: SiteWithServer) -> None:
    sending_site.write("a.md", POST.replace("a new address", "another address"))


def _change_title(sending_site: SiteWithServer) -> None:
    sending_site.write("a.md", POST.replace("title: We moved", "title: We have moved"))


def _withdraw_post(sending_site: SiteWithServer) -> None:
    sending_site.write("a.md", POST.replace("date:", "withdrawn: 2026-11-21\ndate:"))


def _delete_post(sending_site: SiteWithServer) -> None:
    (sending_site.folder / "posts/a.md").unlink()


def _add_subscriber(sending_site: SiteWithServer) -> None:
    sending_site.add("new@example.com")


def _add_weekly_subscriber(sending_site: SiteWithServer) -> None:
    sending_site.add("new@example.com", frequency="week")


def _change_sender(sending_site: SiteWithServer) -> None:
    settings = sending_site.folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("News <news@", "News <editor@"))


CHANGES: dict[str, tuple[Callable[[SiteWithServer], None], str]] = {
    "a post comes": (_add_post, "we-grew, which is not in the plan"),
    "a post is edited": (_edit_post, "would have other content than in the plan"),
    "a post is retitled": (_change_title, "would have other content than in the plan"),
    "a post is withdrawn": (_withdraw_post, "we-moved, which is not published now"),
    "a post is gone": (_delete_post, "we-moved, which is not published now"),
    "a reader comes": (
        _add_subscriber,
        "1 subscriber would receive an issue that is not in the plan",
    ),
    "a reader of another letter comes": (
        _add_weekly_subscriber,
        "the weekly issue of 2026-11-16 would",
    ),
    "the sender changes": (_change_sender, "would have other content than in the plan"),
}


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize("change", CHANGES)
def test_change_since_the_plan_is_refused(sending_site: SiteWithServer, change: str) -> None:
    """A run refuses a plan after a change, names the change, and accepts a new plan."""
    sending_site.add("weekly@example.com", frequency="week", start="2026-11-22")
    sending_site.write("w.md", ANOTHER.replace("grew", "wait").replace("2026-11-21", "2026-11-14"))
    plan(sending_site)
    happen, expected = CHANGES[change]
    happen(sending_site)
    before = sending_site.rows("runs")
    outcome = send(sending_site)
    assert (outcome.code, len(outcome.errors), outcome.out) == (1, 1, "")
    assert expected in outcome.errors[0]
    assert "postroom plan --out FILE" in outcome.errors[0]
    assert (sending_site.rows("runs"), sending_site.email_counts()) == (before, Counter())
    plan(sending_site)
    assert send(sending_site).code == 0
    assert set(sending_site.email_counts().values()) <= {1}


@pytest.mark.usefixtures("each_database")
def test_plan_ends_at_the_next_cutoff(sending_site: SiteWithServer) -> None:
    """A weekly issue that was approved for one Monday is not sent on the next."""
    sending_site.add("weekly@example.com", frequency="week")
    plan(sending_site, ON_MONDAY)
    outcome = send(sending_site, ON_MONDAY + timedelta(days=7))
    assert (outcome.code, sending_site.email_counts()) == (1, Counter())
    assert (
        "the plan is for the weekly issue of 2026-11-23, and now it would be the weekly"
        in (outcome.errors[0])
    )


def test_subscribers_who_move_to_another_issue_are_refused(sending_site: SiteWithServer) -> None:
    """A plan is refused if a subscriber has moved from one of its issues to another."""
    sending_site.write("b.md", ANOTHER.replace("Company news", "Products"))
    sending_site.add("products@example.com", "moves@example.com")
    store = sending_site.store()
    with closing(store.database), store.database.writing() as connection:
        rows = metadata.tables["subscribers"]
        whose = sa.update(rows).where(rows.c.address == "products@example.com")
        connection.execute(whose.values(topics=frozenset({"products"})))
        moving = sa.update(rows).where(rows.c.address == "moves@example.com")
    plan(sending_site)
    with closing(store.database), store.database.writing() as connection:
        connection.execute(moving.values(topics=frozenset({"products"})))
    outcome = send(sending_site)
    assert (outcome.code, sending_site.email_counts()) == (1, Counter())
    refused = "1 subscriber would receive an issue that is not in the plan"
    assert refused in outcome.errors[0]


@pytest.mark.usefixtures("each_database")
def test_subscriber_added_during_planning_is_refused(
    sending_site: SiteWithServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber added between the comparison and the first email stops the run."""
    plan(sending_site)

    def settle_after_a_change(store: Store, run: int, plan_input: PlanInput) -> None:
        other = sending_site.store()
        with closing(other.database):
            old = other.subscribers.find("reader0@example.com")
            assert old
            new = evolve(old, id=0, address="new@example.com", token="n" * 22)
            other.subscribers.add([new], AT)
        settle_log(store, run, plan_input)

    with monkeypatch.context() as patch:
        patch.setattr("postroom.send.run.settle_log", settle_after_a_change)
        outcome = send(sending_site)
    assert (outcome.code, sending_site.email_counts()) == (1, Counter())
    assert "1 subscriber would receive an issue" in outcome.errors[0]
    plan(sending_site, LATER)
    assert send(sending_site, LATER).code == 0
    assert sending_site.email_counts() == Counter([*READERS, "new@example.com"])


@pytest.mark.parametrize("option", ["--resend-uncertain", "--test --to me@example.com"])
def test_plan_excludes_other_kinds_of_runs(sending_site: SiteWithServer, option: str) -> None:
    """`--plan` cannot be combined with options that send other emails."""
    plan(sending_site)
    outcome = sending_site.send("--plan", "plan.json", *option.split())
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)


# The file


def test_file_identifies_no_subscriber(sending_site: SiteWithServer) -> None:
    """The file has no email address or token, and the same plan gives the same file."""
    plan(sending_site)
    text = (sending_site.folder / "plan.json").read_text()
    store = sending_site.store()
    with closing(store.database):
        for reader in store.subscribers.every():
            assert reader.address not in text
            assert reader.token not in text
    found = json.loads(text)
    assert [entry["subscribers"] for entry in found["issues"]] == [3]
    assert found["issues"][0]["subject"] == "Example News: We moved"
    plan(sending_site)
    assert (sending_site.folder / "plan.json").read_text() == text


def test_out_does_not_change_the_output(sending_site: SiteWithServer) -> None:
    """`--out` does not change the text or JSON that `plan` prints."""
    without = sending_site.call(sending_site.folder, "plan", at=AT).out
    assert plan(sending_site).out == without
    shown = sending_site.call(sending_site.folder, "plan", "--json", "--out", "other.json", at=AT)
    assert json.loads(shown.out)["issues"][0]["subscribers"] == 3
    assert (sending_site.folder / "other.json").read_bytes() == (
        sending_site.folder / "plan.json"
    ).read_bytes()


def test_plan_needs_the_mail_settings(sending_site: SiteWithServer) -> None:
    """Without a sender `plan --out` fails and writes no file."""
    settings = sending_site.folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("from: Example News <news@example.com>", ""))
    outcome = sending_site.call(sending_site.folder, "plan", "--out", "plan.json", at=AT)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert not (sending_site.folder / "plan.json").exists()


def test_a_file_that_cannot_be_written_is_wrong_use(sending_site: SiteWithServer) -> None:
    """A path that cannot be written is a one-line error with its name."""
    outcome = sending_site.call(sending_site.folder, "plan", "--out", "no/where.json", at=AT)
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
def test_invalid_plan_is_wrong_use(sending_site: SiteWithServer, kind: str) -> None:
    """An invalid plan is a one-line error, and nothing is sent."""
    data, expected = BAD[kind]
    assert data != PLAN
    (sending_site.folder / "plan.json").write_bytes(data)
    before = sending_site.rows()
    outcome = send(sending_site)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert outcome.errors[0].startswith("plan.json: ")
    assert expected in outcome.errors[0]
    assert sending_site.rows() == before


@pytest.mark.parametrize("name", ["nothing.json", "posts", "/dev/zero"])
def test_path_without_a_plan_is_wrong_use(sending_site: SiteWithServer, name: str) -> None:
    """A missing file, a folder or an endless file is a one-line error."""
    outcome = sending_site.send("--plan", name)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)


def test_plan_is_read_and_written_unchanged(tmp_path: Path) -> None:
    """The valid plan behind the invalid ones is read and written with the same bytes."""
    (tmp_path / "plan.json").write_bytes(PLAN)
    approved = read_plan(tmp_path / "plan.json", "tag:news.example.com,2026:")
    assert b"".join(write_plan(approved)) == PLAN
    with pytest.raises(UseError):
        read_plan(tmp_path / "plan.json", "tag:news.example.com,2027:")


# Subscribers and content of an issue

_TOKENS = st.frozensets(st.text(min_size=1, max_size=9), max_size=40)


@given(planned=_TOKENS, others=_TOKENS)
def test_plan_includes_its_subscribers(planned: Collection[str], others: set[str]) -> None:
    """An approved issue includes exactly its subscribers, in whatever order they were added."""
    issue = IssueSnapshot("post", date.min, "", ("a",), AT, b"Subject: x\r\n\r\n")
    approved = approve(issue, RecipientDigests(planned))
    assert approved.subscribers == len(planned)
    assert all(approved.includes(each) for each in planned)
    assert not any(approved.includes(each) for each in others - set(planned))
    assert approved == approve(issue, RecipientDigests(sorted(planned, reverse=True)))


def test_digest_ignores_only_the_date() -> None:
    """The digest ignores the Date field, but no line of the text that looks like it."""
    issue = b"Subject: x\r\nDate: Sun\r\nFrom: y\r\n\r\nDate: Sun\r\n"
    assert content_digest(issue) == content_digest(
        issue.replace(b"Date: Sun\r\nFrom", b"Date: Mon\r\nFrom")
    )
    assert content_digest(issue) != content_digest(issue[:-3] + b"day\r\n")
    assert content_digest(issue) != content_digest(issue.replace(b"Subject: x", b"Subject: z"))


def test_issue_with_other_posts_is_not_found() -> None:
    """An issue that combines the posts of two approved issues is not in the plan."""
    issue = IssueSnapshot("post", date.min, "", ("a",), AT, b"Subject: x\r\n\r\n")
    parts = (
        approve(issue, RecipientDigests()),
        approve(evolve(issue, posts=("b",)), RecipientDigests()),
    )
    with pytest.raises(StoppedError, match="would hold other posts than in the plan"):
        ApprovedPlan("id", AT, parts).find(evolve(issue, posts=("a", "b")))
