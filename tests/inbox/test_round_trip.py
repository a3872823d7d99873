"""The round trip of an email: sent, bounced and processed by the commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import smtp_server
from tests.support.bounce_messages import KEY, SENDER, returned
from tests.support.site import POST, CommandResult, MakeSite

SETTINGS = """\
contact: {organization: Example Ltd, address: "1 Example Street, Example Town"}
digest: {every: day}
mail:
  from: Example News <news@example.com>
  bounces: bounces@example.com
  unsubscribe: https://news.example.com
"""


@pytest.fixture
def site_dir(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a site with one post that can send emails."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
    for name in ("POSTROOM_DATABASE_URL", "POSTROOM_MAILBOX_URL", "CI"):
        monkeypatch.delenv(name, raising=False)
    return make_site({"posts/we-moved.md": POST}, SETTINGS)


def test_bounced_email_removes_its_subscriber(
    site_dir: Path, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounce is trusted because of the envelope sender of the sent email."""
    words = "subscribers add --confirmed --from 2026-11-01 reader@example.net other@example.net"
    assert postroom(site_dir, *words.split()).code == 0
    with smtp_server.scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        sent = postroom(site_dir, "send")
        assert sent.code == 0, sent.err
        emails = [message.decode() for message in server.messages]
    senders = {reader: sender for sender, reader in server.envelopes}
    report = returned("postfix-no-such-user").replace(
        SENDER.encode(), senders["reader@example.net"].encode()
    )
    (site_dir / "back.eml").write_bytes(report)
    assert postroom(site_dir, "bounces", "back.eml").out.endswith("1 removed from the list\n")
    # The other subscriber unsubscribes by the address in List-Unsubscribe, which their mail server
    # writes in capitals.
    email = next(email for email in emails if "To: other@example.net" in email)
    found = re.search(r"mailto:(bounces\+leave-\S+@example\.com)", email)
    assert found
    (site_dir / "unsubscribe.eml").write_text(f"From: x@example.org\nTo: {found[1].upper()}\n\n")
    assert postroom(site_dir, "bounces", "unsubscribe.eml").out.endswith(
        "1 removed from the list\n"
    )
    listed = postroom(site_dir, "subscribers", "list").out
    states = {line.split()[0]: line.split()[1] for line in listed.splitlines()}
    assert states == {"reader@example.net": "bounced", "other@example.net": "unsubscribed"}
