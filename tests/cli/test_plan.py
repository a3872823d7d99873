"""`postroom plan` with real databases."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from tests.support.site import ROOT, CommandResult

Postroom = Callable[..., CommandResult]

# Mid-February and 1 March 2024 in seconds since the epoch: the time of the demonstration.
_IN_FEBRUARY, _IN_MARCH = "1707000000", "1709280000"
_PEOPLE = """\
address,state,frequency,topics,language
monthly1@example.com,active,month,,
monthly2@example.com,active,month,,
weekly@example.com,active,week,,
daily@example.com,active,day,Policy,
all@example.com,active,post,,
investment@example.com,active,post,Investment,
paused@example.com,paused,month,,
left@example.com,unsubscribed,month,,
sports@example.com,active,month,Sports,
german@example.com,active,month,,de
"""


@pytest.fixture
def demo(tmp_path: Path, postroom: Postroom, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the demonstration with ten subscribers of several kinds."""
    for name in ("postroom.yaml", "posts"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    settings = tmp_path / "postroom.yaml"
    mail = "  unsubscribe: https://news.example.com\n  bounces: bounces@example.com\n"
    # The settings end with `mail:`.
    settings.write_text(settings.read_text("utf-8") + mail, "utf-8")
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "a-key-that-is-long-enough")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", _IN_FEBRUARY)
    (tmp_path / "people.csv").write_text(_PEOPLE, "utf-8")
    imported = postroom(
        tmp_path, "subscribers", "import", "people.csv", "--confirmed", "--from", "2024-01-15"
    )
    assert imported.code == 0, imported.err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", _IN_MARCH)
    return tmp_path


def _dump(site_dir: Path) -> list[str]:
    with closing(sqlite3.connect(site_dir / ".postroom/postroom.db")) as database:
        return list(database.iterdump())


def test_every_subscriber_is_counted(demo: Path, postroom: Postroom) -> None:
    """The plan counts all ten subscribers, and nothing is written."""
    before = _dump(demo)
    outcome = postroom(demo, "plan")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:2] == ["Plan as of 2024-03-01 16:00 CST", "5 issues to 6 subscribers"]
    assert "2 subscribers, monthly" in lines
    assert "  Example Magnets News: February 2024" in lines
    assert lines[lines.index("Nothing for") + 1 :] == [
        "  1 subscriber, monthly: other topics",
        "  1 subscriber, monthly: another language",
        "  1 subscriber, paused",
        "  1 subscriber, unsubscribed",
    ]
    assert _dump(demo) == before


def test_json_has_counts_and_no_email_address(demo: Path, postroom: Postroom) -> None:
    """The JSON form has the numbers of the text and no email address."""
    outcome = postroom(demo, "plan", "--json")
    read = json.loads(outcome.out)
    assert sum(issue["subscribers"] for issue in read["issues"]) == 6
    assert read["subscribers"] == {"active": 8, "unsubscribed": 1, "paused": 1}
    assert {segment["why"] for segment in read["nothing"]} == {"other topics", "another language"}
    assert "@example.com" not in outcome.out


def test_writes_a_sample_of_the_first_issue(demo: Path, postroom: Postroom) -> None:
    """The sample is a complete message to an example address, with the unsubscribe fields."""
    assert postroom(demo, "plan", "--email", "first.eml").code == 0
    message = message_from_bytes((demo / "first.eml").read_bytes(), policy=policy.default)
    assert message["To"] == "reader@example.com"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_a_plan_creates_no_database(demo: Path, postroom: Postroom) -> None:
    """A plan of a site without subscribers creates no database."""
    shutil.rmtree(demo / ".postroom")
    outcome = postroom(demo, "plan")
    assert (outcome.code, outcome.err) == (0, "")
    assert "There are no subscribers yet" in outcome.out
    assert not (demo / ".postroom").exists()


def test_new_subscribers_are_not_due(
    demo: Path, postroom: Postroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New subscribers receive nothing before the next cutoff, which the plan prints."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", _IN_FEBRUARY)
    added = postroom(demo, "subscribers", "add", "new@example.com", "--confirmed")
    assert added.code == 0, added.err
    assert "  1 subscriber, monthly: not due; the next cutoff is 2024-03-01" in (
        postroom(demo, "plan").out.splitlines()
    )


@pytest.mark.parametrize("severity", ["error", "warning", "off"])
def test_a_problem_is_as_severe_as_the_settings_say(
    demo: Path, postroom: Postroom, severity: str
) -> None:
    """A finding of an issue is an error, a warning or nothing, as in `check`."""
    settings = demo / "postroom.yaml"
    text = settings.read_text("utf-8") + "  reply_to: no-reply@example.com\n"
    settings.write_text(f"{text}checks: {{email-reply-address: {severity}}}\n", "utf-8")
    shown = postroom(demo, "plan", "--at", "2024-03-01T09:00:00Z")
    severities = [kind for kind in ("error", "warning") if f"{kind}: " in shown.err]
    assert (shown.code, severities) == (0, [] if severity == "off" else [severity])
    assert "subscribers" in shown.out
