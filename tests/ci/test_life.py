"""The life of a site, from its first build to a withdrawn post.

Authors write in a working copy and push. Each CI job is a fresh clone that is deleted afterwards. A
host serves the published output and the unsubscribe page. Every command is a process of its own, as
are PostgreSQL and git. A feed reader and an SMTP server receive the results.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attrs import Factory, frozen
from lxml import html
from reader import Reader

from postroom.mail.tokens import unsubscribe_address
from tests.support import postgresql, repository, web_server
from tests.support.feed_readers import PollResult, poll, shown_entries, subscribed
from tests.support.processes import run, start, wait_for
from tests.support.repository import Origin, WorkingCopy
from tests.support.site import CommandResult
from tests.support.sites import contents
from tests.support.smtp_server import Scripted, scripted
from tests.support.web_server import Served

pytestmark = pytest.mark.slow  # runs each command in a process, each job in a clone

SITE = "https://news.example.com/"
_NOW = datetime.now(UTC)
TODAY = _NOW.date().isoformat()
# The date for all commands except `send`, so that midnight between two steps changes nothing.
CLOCK = {"SOURCE_DATE_EPOCH": str(int(_NOW.timestamp()))}
MAIL = """\
mail:
  from: Example News <news@example.com>
  bounces: bounces@example.com
  unsubscribe: https://news.example.com
"""
ADA, BEN, CYD = "ada@example.com", "ben@example.org", "cyd@example.net"
SAMPLES = {"Welcome to our newsroom", "A post is one file"}
POSTS = {*SAMPLES, "We moved"}
ONE_CLICK = "List-Unsubscribe=One-Click"


@frozen
class Life:
    """A site in the folder `news` of a repository, its host, SMTP server and feed reader."""

    origin: Origin
    copy: WorkingCopy
    host: Path
    mail: Scripted
    secrets: Mapping[str, str]
    site: Served
    reader: Reader
    _seen: list[bytes] = Factory(list)

    @property
    def news(self) -> Path:
        """The site in the authors' working copy."""
        return self.copy.folder / "news"

    def command(self, *arguments: str) -> CommandResult:
        """Run a command in the working copy."""
        return run(self.news, {**CLOCK, **self.secrets}, *arguments)

    def job(self, *arguments: str, branch: str = "main") -> CommandResult:
        """Run a command in a CI job, on the pushed branch."""
        return run(self.origin.checkout(branch) / "news", in_ci(self.secrets), *arguments)

    def write(self, title: str, text: str) -> Path:
        """Write a post with `postroom new` and an editor."""
        made = self.command("new", title)
        assert made.code == 0, made.err
        path = self.news / made.out.strip()
        edit(path, "draft: true\n", "")
        edit(path, "summary: ", f"summary: {text}")
        path.write_text(f"{path.read_text('utf-8')}{text}\n", "utf-8")
        return path

    def publish(self) -> PollResult:
        """Publish from CI, and poll the feed."""
        release(self.origin, self.host)
        return poll(self.reader)

    def url(self, title: str) -> str:
        """Return the URL that the feed reader shows for a post."""
        (found,) = (link for name, link in shown_entries(self.reader).values() if name == title)
        return found

    def send(self) -> list[EmailMessage]:
        """Send from CI, and return the emails that arrived."""
        sent = self.job("send")
        assert (sent.code, sent.err) == (0, "")
        return self.new_emails()

    def new_emails(self) -> list[EmailMessage]:
        """Return the emails that arrived since the last call, sorted by recipient."""
        messages = self.mail.messages[len(self._seen) :]
        self._seen.extend(messages)
        # RFC 5321 §4.5.2: a dot at the beginning of a line is sent as two.
        unstuffed = (message.replace(b"\r\n..", b"\r\n.") for message in messages)
        emails = [message_from_bytes(message, policy=policy.default) for message in unstuffed]
        return sorted(emails, key=recipient)


def in_ci(secrets: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a job that has these secrets."""
    return {**CLOCK, **secrets, "CI": "true"}


def edit(path: Path, before: str, after: str) -> None:
    """Replace a text that occurs once in a file."""
    text = path.read_text("utf-8")
    assert text.count(before) == 1, text
    path.write_text(text.replace(before, after), "utf-8")


def recipient(email: EmailMessage) -> str:
    """Return the address that an email is sent to."""
    return str(email["To"])


def part(email: EmailMessage, kind: str) -> str:
    """Return the HTML or the text of an email."""
    body = email.get_body((kind,))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


def links(email: EmailMessage) -> set[str]:
    """Return all https URLs in the HTML of an email."""
    found = html.fromstring(part(email, "html")).xpath("//a/@href")
    return {str(link) for link in found if str(link).startswith("https:")}


def post_urls(email: EmailMessage) -> set[str]:
    """Return the URLs of the posts in an email."""
    return {link for link in links(email) if link.startswith(f"{SITE}posts/")}


def unsubscribe_path(email: EmailMessage) -> str:
    """Return the path of one-click unsubscribing (RFC 8058 §3.1)."""
    assert email["List-Unsubscribe-Post"] == ONE_CLICK
    web, mail = re.findall("<([^>]*)>", str(email["List-Unsubscribe"]))
    token = web.removeprefix(f"{SITE}list/unsubscribe/")
    assert mail == f"mailto:{unsubscribe_address('bounces@example.com', token)}"
    return f"/list/unsubscribe/{token}"


def release(origin: Origin, host: Path) -> None:
    """Build main in CI, and publish the output on the host."""
    clone = origin.checkout()
    built = run(clone / "news", in_ci({}), "build")
    assert built.code == 0, built.err
    shutil.copytree(clone / "news/public", host / clone.name)
    (host / "next").symlink_to(clone.name)
    (host / "next").replace(host / "public")


@pytest.fixture
def life(
    tmp_path: Path, program: Callable[[str], str], postgresql_server: postgresql.Server
) -> Iterator[Life]:
    """Return a new site: created, pushed, published and served, without subscribers."""
    program("git")
    origin, copy = repository.create_repository(tmp_path)
    assert run(copy.folder, CLOCK, "init", "news").code == 0
    settings = copy.folder / "news/postroom.yaml"
    settings.write_text(settings.read_text("utf-8") + MAIL, "utf-8")
    copy.push("Create a site")
    host = tmp_path / "host"
    host.mkdir()
    shutil.copy(settings, host)
    release(origin, host)
    database = {"POSTROOM_DATABASE_URL": postgresql_server.emptied()}
    with scripted({}) as mail, start(host, database, "serve", "--port", "0") as service:
        secrets = {
            **database,
            "POSTROOM_SECRET_KEY": "a secret key of the tests",
            "POSTROOM_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
        }
        try:
            site = web_server.wait_until_ready(service)
            with subscribed(f"{site.url}atom.xml") as reader:
                yield Life(origin, copy, host, mail, secrets, site, reader)
        finally:
            service.send_signal(signal.SIGTERM)
            _, log = service.communicate(timeout=20)
    assert service.returncode == 143
    assert not re.search("@|list/unsubscribe/[^…]", log)


def test_each_post_is_delivered_once(life: Life) -> None:
    """Each post comes once by feed and once by email, however it changes and jobs repeat."""
    follow_the_feed(life)
    reject_and_fix_a_post(life)
    publish_the_merged_post(life)
    add_subscribers(life)
    refuse_a_ledger_on_the_runner(life)
    emails = send_the_first_issue(life)
    unsubscribe_by_one_click(life, emails[1])
    send_the_next_post_to_the_others(life)
    change_posts_without_new_emails(life, emails[0])


def follow_the_feed(life: Life) -> None:
    """Poll the posts that every new site has."""
    assert poll(life.reader) == PollResult(new=2, modified=0, unmodified=0)
    assert {title for title, _ in shown_entries(life.reader).values()} == SAMPLES


def reject_and_fix_a_post(life: Life) -> None:
    """Fail the job of a branch, with an annotation at the line, until the post is fixed."""
    with life.copy.branch("moved"):
        post = life.write("We moved", "Our office has a new address.")
        where = f"file=news/posts/{post.name}"
        edit(post, f"date: {TODAY}", "date: 2026-11-31")
        with post.open("a", encoding="utf-8") as file:
            file.write("\nSee [the map](map.md).\n")
        life.copy.push("Say that we moved")
        assert errors_of(life, "moved") == [f"{where},line=3,col=7,title=postroom"]

        edit(post, "date: 2026-11-31", f"date: {TODAY}")
        life.copy.push("Correct the date")
        assert errors_of(life, "moved") == [f"{where},line=11,col=5,title=post-link"]

        edit(post, "[the map](map.md)", "the map at the door")
        fixed = life.command("check", "--fix")
        assert fixed.code == 0
        name = f"{TODAY}-a-post-is-one-file.md"
        identity = f"tag:news.example.com,{TODAY[:4]}:{name}"
        assert fixed.out.startswith(f"posts/{name}: wrote id {identity}\n")
        assert f'+id: "{identity}"' in life.copy.changes()
        life.copy.push("Take out a dead link, and keep an id")
        assert errors_of(life, "moved") == []


def errors_of(life: Life, branch: str) -> list[str]:
    """Check a branch in CI, and return the places of the annotations of errors."""
    done = life.job("check", "--format", "github", branch=branch)
    found = re.findall("^::error (.*?)::", done.out, re.MULTILINE)
    assert done.code == bool(found)
    return found


def publish_the_merged_post(life: Life) -> None:
    """Publish one more entry; the id that `--fix` wrote changes no known entry."""
    assert life.publish() == PollResult(new=1, modified=0, unmodified=2)
    first = contents(life.host / "public")
    # Run the job again, in a fresh clone.
    assert life.publish() == PollResult(new=0, modified=0, unmodified=3)
    assert contents(life.host / "public") == first


def add_subscribers(life: Life) -> None:
    """Add two subscribers and import one; `plan` shows their emails."""
    terms = ["--confirmed", "--frequency", "post", "--from", TODAY]
    assert life.command("subscribers", "add", *terms, ADA, BEN).out == "2 added\n"
    people = life.origin.folder / "people.csv"
    people.write_text(f"email\n{CYD}\n", "utf-8")
    assert life.command("subscribers", "import", *terms, str(people)).out == "1 added\n"
    plan = life.command("plan")
    assert (plan.code, plan.err) == (0, "")
    assert "\n1 issue to 3 subscribers\n" in plan.out
    assert {line[16:] for line in plan.out.splitlines() if TODAY in line[:14]} == POSTS


def refuse_a_ledger_on_the_runner(life: Life) -> None:
    """Send nothing from a runner without PostgreSQL: its ledger would be lost."""
    without_database = in_ci({**life.secrets, "POSTROOM_DATABASE_URL": ""})
    refused = run(life.origin.checkout() / "news", without_database, "send")
    assert refused.code == 2
    assert [error.partition(":")[0] for error in refused.errors] == ["POSTROOM_DATABASE_URL"]
    assert life.new_emails() == []


def send_the_first_issue(life: Life) -> list[EmailMessage]:
    """Send an issue to everybody; its links lead to pages, and one unsubscribes."""
    emails = life.send()
    assert [recipient(email) for email in emails] == [ADA, BEN, CYD]
    urls = {link for _, link in shown_entries(life.reader).values()}
    for email in emails:
        assert email["From"] == "Example News <news@example.com>"
        assert post_urls(email) == urls
        for phrase in (*POSTS, *urls, "1 Example Street"):
            assert phrase in part(email, "plain")
        assert f"{SITE[:-1]}{unsubscribe_path(email)}" in links(email)
        # One link is the unsubscribe page; a scanner that opens it unsubscribes nobody.
        statuses = {link: life.site.ask(urlsplit(link).path).status for link in links(email)}
        assert set(statuses.values()) == {200}, statuses
    assert len({unsubscribe_path(email) for email in emails}) == 3
    return emails


def unsubscribe_by_one_click(life: Life, email: EmailMessage) -> None:
    """Unsubscribe a subscriber by the one-click request of a mail program."""
    assert life.site.post(unsubscribe_path(email), ONE_CLICK).status == 200
    listed = life.command("subscribers", "list").out.splitlines()
    assert [line.split("  ")[:2] for line in listed] == [
        [ADA, "active"],
        [BEN, "unsubscribed"],
        [CYD, "active"],
    ]


def send_the_next_post_to_the_others(life: Life) -> None:
    """Deliver the next post as one entry and one email, even if the job runs twice."""
    with life.copy.branch("open-day"):
        life.write("Open day", "Come and see our new office on Friday.")
        life.copy.push("Invite to the open day")
    assert life.publish() == PollResult(new=1, modified=0, unmodified=3)
    sent_twice_at_once(life)
    emails = life.new_emails()
    assert [recipient(email) for email in emails] == [ADA, CYD]
    for email in emails:
        assert email["Subject"] == "News: Open day"
        assert post_urls(email) == {life.url("Open day")}
    assert life.send() == []


def sent_twice_at_once(life: Life) -> None:
    """Start a second job while the first has an email in flight."""
    with life.mail.holding() as received:
        first = start(life.origin.checkout() / "news", in_ci(life.secrets), "send")
        assert received.wait(60)
        second = life.job("send")
    assert wait_for(first).code == 0
    assert second.code == 1
    assert "another run is sending" in second.err


def change_posts_without_new_emails(life: Life, email: EmailMessage) -> None:
    """Edit, rename and withdraw posts: feed and pages change, and nobody gets an email."""
    with life.copy.branch("tidy"):
        edit_rename_and_withdraw(life)
        life.copy.push("Correct one post, rename another, and take one back")
    times = {entry.id: entry.updated for entry in life.reader.get_entries()}
    assert life.publish() == PollResult(new=0, modified=3, unmodified=1)
    changed = {
        entry.title for entry in life.reader.get_entries() if entry.updated != times[entry.id]
    }
    # The renamed post keeps its time: its author did not set `updated`.
    assert changed == {"We have moved", "Welcome to our newsroom"}
    assert life.url("Doors open") == f"{SITE}posts/open-day/"
    assert life.send() == []

    answers = {link: life.site.ask(urlsplit(link).path) for link in links(email)}
    gone = [link for link, answer in answers.items() if answer.status != 200]
    assert gone == [life.url("Welcome to our newsroom")]
    assert answers[gone[0]].status == 410
    withdrawn = b"now has a home of its own"
    assert [
        name for name, data in contents(life.host / "public").items() if withdrawn in data
    ] == []


def edit_rename_and_withdraw(life: Life) -> None:
    """Change three posts; `check` says how a renamed file keeps its URL."""
    moved, invited, welcome = (
        life.news / f"posts/{TODAY}-{name}.md" for name in ("we-moved", "open-day", "welcome")
    )
    edit(moved, 'title: "We moved"', f'title: "We have moved"\nupdated: {TODAY}')
    edit(welcome, "summary: ", f"withdrawn: {TODAY}\nsummary: ")
    edit(invited, 'title: "Open day"', 'title: "Doors open"')
    invited = invited.rename(invited.with_name(f"{TODAY}-doors-open.md"))
    advice = life.command("check", "--against", str(life.host / "public"))
    assert "write slug: open-day, or" in advice.err
    edit(invited, "topics: []", "slug: open-day\ntopics: []")
