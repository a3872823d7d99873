"""The welcome issue for new subscribers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_bytes, policy

import pytest

from postroom.lint.email import lint_email
from postroom.models import Cursor, Issue
from postroom.newsletter import render
from postroom.newsletter.personalize import prepare_issue
from postroom.posts import loader
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from tests.support.sending_site import NOTHING_DUE
from tests.support.site import AT, CommandResult, MakeSite
from tests.support.smtp_server import Scripted, scripted

KEY = "a secret key of the tests"
MAIL = """\
contact: {name: Press office, address: 1 Example Street}
mail:
  from: Example News <news@example.com>
  unsubscribe: https://news.example.com
  connections: 1
  rate: 1000
digest: {welcome: true}
"""


def post(name: str, date: str, topics: str = "") -> str:
    """Return a post with an id of its own."""
    identity = f"tag:news.example.com,2026:{name.replace(' ', '-')}"
    head = f"title: {name}\ndate: {date}\nid: {identity}\nsummary: About it."
    return f"---\n{head}\ntopics: [{topics}]\n---\n\nText.\n"


POSTS = {
    "posts/old.md": post("Old news", "2026-09-01"),
    "posts/late.md": post("Late news from the workshop", "2026-10-30"),
    "posts/now.md": post("This month", "2026-11-10"),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """Run an SMTP server that accepts everything, and set its URL in the environment."""
    with scripted({}) as running:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{running.port}")
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        yield running


def emails_by_recipient(server: Scripted) -> dict[str, tuple[str, str]]:
    """Return subject and text of the emails of each recipient."""
    letters = [message_from_bytes(data, policy=policy.default) for data in server.messages]
    return {
        str(letter["To"]): (str(letter["Subject"]), body.get_content())
        for letter in letters
        if (body := letter.get_body(("plain",)))
    }


def test_new_subscribers_get_recent_posts(
    make_site: MakeSite, postroom: Callable[..., CommandResult], server: Scripted
) -> None:
    """The next run sends new subscribers a welcome issue with the posts before them, once."""
    folder = make_site(POSTS, MAIL)
    assert postroom(folder, "send", "--keep-ledger-here").out == NOTHING_DUE
    added = postroom(folder, "subscribers", "add", "--confirmed", "reader@example.com")
    assert added.out == "1 added\nthe next postroom send will send 1 welcome email\n"
    sent = postroom(folder, "send", "--keep-ledger-here")
    assert (sent.code, sent.err) == (0, "")
    subject, text = emails_by_recipient(server)["reader@example.com"]
    assert subject == "Welcome to Example News"
    assert "From now on our news comes to you by email." in text
    assert ("Late news" in text, "Old news" in text, "This month" in text) == (True, True, False)
    assert postroom(folder, "send", "--keep-ledger-here").out == NOTHING_DUE
    assert len(server.messages) == 1


def test_only_new_subscribers_are_welcomed(
    make_site: MakeSite, postroom: Callable[..., CommandResult], server: Scripted
) -> None:
    """Earlier and imported subscribers and those of other topics get no welcome issue."""
    folder = make_site(POSTS, MAIL)
    postroom(folder, "subscribers", "add", "--confirmed", "early@example.com")
    postroom(folder, "send", "--keep-ledger-here")
    (folder / "list.csv").write_text("email\nimported@example.com\n")
    postroom(folder, "subscribers", "import", "--confirmed", "list.csv")
    again = postroom(folder, "subscribers", "add", "--confirmed", "early@example.com")
    other = postroom(
        folder, "subscribers", "add", "--confirmed", "--topic", "Sport", "fan@example.com"
    )
    assert "welcomed" not in again.out + other.out
    assert postroom(folder, "send", "--keep-ledger-here").out == NOTHING_DUE
    assert server.messages == []


def test_welcome_needs_its_setting(
    make_site: MakeSite, postroom: Callable[..., CommandResult], server: Scripted
) -> None:
    """Without `digest.welcome` the first issue of new subscribers is the next one."""
    folder = make_site(POSTS, MAIL.replace("welcome: true", "welcome: false"))
    postroom(folder, "send", "--keep-ledger-here")
    added = postroom(folder, "subscribers", "add", "--confirmed", "reader@example.com")
    assert added.out == "1 added\n"
    assert postroom(folder, "send", "--keep-ledger-here").out == NOTHING_DUE
    assert server.messages == []


def test_welcome_leaves_out_withdrawn_posts(
    make_site: MakeSite, postroom: Callable[..., CommandResult], server: Scripted
) -> None:
    """A post that was withdrawn after the welcome was planned is in no email."""
    folder = make_site(POSTS, MAIL)
    postroom(folder, "send", "--keep-ledger-here")
    postroom(folder, "subscribers", "add", "--confirmed", "reader@example.com")
    (folder / "posts/late.md").unlink()
    assert postroom(folder, "send", "--keep-ledger-here").out == NOTHING_DUE
    assert server.messages == []


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "ar", "he", "zh"])
def test_every_language_has_a_greeting(make_site: MakeSite, language: str) -> None:
    """Both parts have a greeting in the site's language, without lint findings."""
    folder = make_site(POSTS, MAIL)
    settings = (folder / "postroom.yaml").read_text("utf-8")
    (folder / "postroom.yaml").write_text(settings.replace("language: en", f"language: {language}"))
    site = load_settings(folder)
    posts = {post.id: post for post in loader.load_posts(folder, site, AT).posts}
    theme = Theme(folder, site.language)
    rendered = render.render_issue(
        Issue("welcome", Cursor(AT.date()), tuple(posts), ""), posts, site, theme
    )
    assert rendered.subject == theme.translations.welcome.format("Example News")
    for part in (rendered.html, " ".join(rendered.text.split())):
        assert theme.translations.welcome_intro in part
        assert "Late news from the workshop" in part
    prepared = prepare_issue(rendered, site, AT)
    message = prepared.message("reader@example.com", "x" * 22, prepared.message_id("0" * 32))
    assert list(lint_email(message, site, rendered.subject)) == []
