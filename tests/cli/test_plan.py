"""`postroom plan`, on real databases."""

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

# Mid-February and the first of March 2024, in seconds: the demonstration's own time.
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
    taken = postroom(
        tmp_path, "subscribers", "import", "people.csv", "--confirmed", "--from", "2024-01-15"
    )
    assert taken.code == 0, taken.err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", _IN_MARCH)
    return tmp_path


def _dump(site_dir: Path) -> list[str]:
    with closing(sqlite3.connect(site_dir / ".postroom/postroom.db")) as database:
        return list(database.iterdump())


def test_says_who_gets_what_and_who_gets_nothing(demo: Path, postroom: Postroom) -> None:
    """Ten people of several kinds are all accounted for, and nothing is written."""
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


def test_tells_a_program_counts_and_no_address(demo: Path, postroom: Postroom) -> None:
    """The JSON form holds what the text says, and nobody's address."""
    outcome = postroom(demo, "plan", "--json")
    read = json.loads(outcome.out)
    assert sum(letter["subscribers"] for letter in read["issues"]) == 6
    assert read["subscribers"] == {"active": 8, "unsubscribed": 1, "paused": 1}
    assert {one["why"] for one in read["nothing"]} == {"other topics", "another language"}
    assert "@example.com" not in outcome.out


def test_writes_the_first_letter_for_nobody_real(demo: Path, postroom: Postroom) -> None:
    """The sample is a whole message with the ways to leave, to an address that nobody has."""
    assert postroom(demo, "plan", "--email", "first.eml").code == 0
    letter = message_from_bytes((demo / "first.eml").read_bytes(), policy=policy.default)
    assert letter["To"] == "reader@example.com"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert [part.get_content_type() for part in letter.iter_parts()] == ["text/plain", "text/html"]


def test_a_site_without_subscribers_gets_no_database(demo: Path, postroom: Postroom) -> None:
    """To look must not make anything."""
    shutil.rmtree(demo / ".postroom")
    outcome = postroom(demo, "plan")
    assert (outcome.code, outcome.err) == (0, "")
    assert "There are no subscribers yet" in outcome.out
    assert not (demo / ".postroom").exists()


def test_newcomers_are_told_of_as_waiting(
    demo: Path, postroom: Postroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has just come gets nothing before the next boundary, and the plan says when that is."""
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
    """What a letter lacks is an error, a warning or nothing, as in `check`; the plan is shown."""
    settings = demo / "postroom.yaml"
    text = settings.read_text("utf-8") + "  reply_to: no-reply@example.com\n"
    settings.write_text(f"{text}checks: {{email-reply-address: {severity}}}\n", "utf-8")
    shown = postroom(demo, "plan", "--at", "2024-03-01T09:00:00Z")
    told = [kind for kind in ("error", "warning") if f"{kind}: " in shown.err]
    assert (shown.code, told) == (0, [] if severity == "off" else [severity])
    assert "subscribers" in shown.out
