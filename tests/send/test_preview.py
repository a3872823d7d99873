"""`digest`, `plan --email` and `send --test` show exactly the email that `send` sends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from tests.support.sending_site import KEY, MAIL, SiteWithServer
from tests.support.site import CommandResult, MakeSite
from tests.support.smtp_server import scripted

# The first day after a month, after a week and after a day with posts.
NOW = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
READER = "reader@example.org"
PERIODS = {"month": "2026-05", "week": "2026-W22", "day": "2026-05-31"}


def post(title: str, date: str, more: str = "") -> str:
    """Return a post with an id of its own."""
    name = title.lower().replace(" ", "-")
    head = f"title: {title}\ndate: {date}\nid: tag:news.example.com,2026:{name}\n{more}"
    return (
        f"---\n{head}summary: About it.\n---\n\nFrom here on, text.\n\n.dots. Größe {'x ' * 99}\n"
    )


NEWEST = {"posts/d.md": post("The newest", "2026-05-31T20:00:00+02:00")}
SEVERAL = {
    **NEWEST,
    # Two posts of one instant: only their ids decide the order.
    "posts/c.md": post("A twin", "2026-05-31T09:00:00+02:00"),
    "posts/b.md": post("The other twin", "2026-05-31T09:00:00+02:00"),
    "posts/a.md": post("Without a time", "2026-05-31"),
}
NOT_SENT = {
    "posts/w.md": post("Withdrawn", "2026-05-31T23:00:00+02:00", "withdrawn: 2026-06-01\n"),
    "posts/x.md": post("A draft", "2026-05-31", "draft: true\n"),
    "posts/y.md": post("Expired", "2026-05-31", "expiryDate: 2026-06-01T00:00:00Z\n"),
    "posts/z.md": post("The future", "2026-06-20"),
}
SITES = {
    "one post": NEWEST,
    "several posts": SEVERAL,
    "one post beside others that are not sent": {**NEWEST, **NOT_SENT},
    "several posts beside others that are not sent": {**SEVERAL, **NOT_SENT},
}
MakePreviewed = Callable[[str, str], SiteWithServer]


@pytest.fixture
def make_previewed(
    make_site: MakeSite, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakePreviewed]:
    """Return a function that makes one of `SITES` with a subscriber and a mail server."""
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")

        def make(name: str, every: str) -> SiteWithServer:
            settings = f"{MAIL}digest: {{every: {every}, intro: Hello.}}\n"
            made = SiteWithServer(make_site(SITES[name], settings), server, postroom)
            options = f"--confirmed --frequency {every} --from 2026-05-01 {READER}"
            added = made.call(made.folder, "subscribers", "add", *options.split(), at=NOW)
            assert added.code == 0, added.err
            return made

        yield make


def impersonal(message: bytes) -> bytes:
    """Return a message without To, Message-ID and Date, and with every token as x."""
    parsed = message_from_bytes(message, policy=policy.compat32)
    uris = re.findall("<([^<>]*)>", re.sub(r"\s", "", str(parsed["List-Unsubscribe"])))
    secrets = (uris[0].rpartition("/")[2], uris[1].partition("@")[0].rpartition("-")[2])
    assert [len(secret) for secret in secrets] == [22, 27]
    message = re.sub(rb"(?m)^(?:To|Message-ID|Date): .*\r\n", b"", message, count=3)
    for secret in secrets:
        broken = "(?:=\r\n)?".join(map(re.escape, secret)).encode()
        message = re.sub(broken, lambda found: re.sub(rb"[\w-]", b"x", found[0]), message)
    return message


def received(site: SiteWithServer) -> bytes:
    """Return the last message that the server received, without doubled dots."""
    return re.sub(rb"(?m)^\.\.", b".", site.server.messages[-1])


@pytest.mark.parametrize("every", PERIODS)
@pytest.mark.parametrize("name", SITES)
def test_every_preview_is_the_email_that_is_sent(
    make_previewed: MakePreviewed, name: str, every: str
) -> None:
    """All previews equal the email of a real run byte for byte, but for what is personal."""
    site = make_previewed(name, every)

    def run(*arguments: str) -> str:
        outcome = site.call(site.folder, *arguments, at=NOW)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        return outcome.out

    digest = run("digest", "--eml").encode()
    assert run("digest", "--eml", PERIODS[every]).encode() == digest
    html, text = run("digest", "--html"), run("digest", "--text")
    run("plan", "--email", "planned.eml")
    run("send", "--test", "--to", "me@example.com")
    test = received(site)
    run("send", "--keep-ledger-here")
    sent = received(site)
    assert f"To: {READER}\r\n".encode() in sent
    previews = {"digest": digest, "plan": (site.folder / "planned.eml").read_bytes(), "test": test}
    assert {name: impersonal(each) for name, each in previews.items()} == dict.fromkeys(
        previews, impersonal(sent)
    )
    parsed = message_from_bytes(digest, policy=policy.default)
    parts = [part.get_content().replace("\r\n", "\n") for part in parsed.iter_parts()]
    assert parts == [text, html]


@pytest.mark.parametrize("arguments", [["digest"], ["send", "--test", "--to", "me@example.com"]])
def test_a_site_with_withdrawn_posts_alone_has_nothing_to_preview(
    make_previewed: MakePreviewed, arguments: list[str]
) -> None:
    """Posts that are never sent make no digest and no test email."""
    site = make_previewed("one post", "month")
    (site.folder / "posts/d.md").unlink()
    for name, text in NOT_SENT.items():
        (site.folder / name).write_text(text, "utf-8")
    outcome = site.call(site.folder, *arguments, at=NOW)
    assert (outcome.code, outcome.out, site.server.messages) == (2, "", [])


def test_a_draft_has_no_link_to_unsubscribe(make_previewed: MakePreviewed) -> None:
    """A draft has no fields of a list and no unsubscribe link, which would belong to nobody."""
    site = make_previewed("several posts", "month")
    draft = site.call(site.folder, "digest", "--eml", "--draft", at=NOW).out
    parsed = message_from_bytes(draft.encode(), policy=policy.default)
    assert [name for name in parsed if name.startswith("List-")] == []
    contents = [part.get_content() for part in parsed.iter_parts()]
    assert [text for text in contents if "unsubscribe" in text] == []
