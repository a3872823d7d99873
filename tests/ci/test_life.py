"""The life of a newsroom, from its first day to a post taken back.

People write in a clone and push; each job of CI is a fresh clone of what they pushed, thrown away
afterwards; a host shows what the jobs publish and answers who leaves. Every command is a process of
its own, as are PostgreSQL and git; a feed reader and a mail server look on from outside.
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

from tests.support import postgresql, repository, web_server
from tests.support.feed_readers import Polled, poll, seen, subscribed
from tests.support.processes import ended, run, start
from tests.support.repository import Desk, Origin
from tests.support.site import CommandResult
from tests.support.sites import contents
from tests.support.smtp_server import Scripted, scripted
from tests.support.web_server import Served

pytestmark = pytest.mark.slow  # each command is a process, each job a clone

SITE = "https://news.example.com/"
_NOW = datetime.now(UTC)
TODAY = _NOW.date().isoformat()
# For all but `send`, which believes no such thing: a midnight between two steps changes nothing.
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
    """A newsroom in the folder `news` of a repository, and all who have to do with it."""

    origin: Origin
    desk: Desk
    host: Path
    mail: Scripted
    secrets: Mapping[str, str]
    site: Served
    reader: Reader
    _seen: list[bytes] = Factory(list)

    @property
    def news(self) -> Path:
        """The newsroom as those who write have it."""
        return self.desk.folder / "news"

    def by_hand(self, *arguments: str) -> CommandResult:
        """Run a command at the desk."""
        return run(self.news, {**CLOCK, **self.secrets}, *arguments)

    def job(self, *arguments: str, branch: str = "main") -> CommandResult:
        """Run a command in CI, on what was pushed."""
        return run(self.origin.checkout(branch) / "news", in_ci(self.secrets), *arguments)

    def write(self, title: str, text: str) -> Path:
        """Write a post as people do: `postroom new`, then an editor."""
        made = self.by_hand("new", title)
        assert made.code == 0, made.err
        path = self.news / made.out.strip()
        edit(path, "draft: true\n", "")
        edit(path, "summary: ", f"summary: {text}")
        path.write_text(f"{path.read_text('utf-8')}{text}\n", "utf-8")
        return path

    def publish(self) -> Polled:
        """Publish from CI, and let the feed reader look."""
        release(self.origin, self.host)
        return poll(self.reader)

    def address(self, title: str) -> str:
        """Return the address that the feed reader shows for a post."""
        (found,) = (link for name, link in seen(self.reader).values() if name == title)
        return found

    def send(self) -> list[EmailMessage]:
        """Send from CI, and return the letters that arrived."""
        sent = self.job("send")
        assert (sent.code, sent.err) == (0, "")
        return self.arrived()

    def arrived(self) -> list[EmailMessage]:
        """Return the letters that came since the last look, in the order of their readers."""
        fresh = self.mail.messages[len(self._seen) :]
        self._seen.extend(fresh)
        # RFC 5321 §4.5.2: a point at the beginning of a line travels as two.
        whole = (one.replace(b"\r\n..", b"\r\n.") for one in fresh)
        letters = [message_from_bytes(one, policy=policy.default) for one in whole]
        return sorted(letters, key=reader_of)


def in_ci(secrets: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a job that has these secrets."""
    return {**CLOCK, **secrets, "CI": "true"}


def edit(path: Path, before: str, after: str) -> None:
    """Replace what stands once in a file."""
    text = path.read_text("utf-8")
    assert text.count(before) == 1, text
    path.write_text(text.replace(before, after), "utf-8")


def reader_of(letter: EmailMessage) -> str:
    """Return whose letter it is."""
    return str(letter["To"])


def part(letter: EmailMessage, kind: str) -> str:
    """Return the HTML or the text of a letter."""
    body = letter.get_body((kind,))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


def links(letter: EmailMessage) -> set[str]:
    """Return all addresses of the web that the HTML of a letter leads to."""
    found = html.fromstring(part(letter, "html")).xpath("//a/@href")
    return {str(link) for link in found if str(link).startswith("https:")}


def posts_of(letter: EmailMessage) -> set[str]:
    """Return the addresses of the posts that a letter holds."""
    return {link for link in links(letter) if link.startswith(f"{SITE}posts/")}


def way_out(letter: EmailMessage) -> str:
    """Return the path where one click leaves (RFC 8058 §3.1)."""
    assert letter["List-Unsubscribe-Post"] == ONE_CLICK
    web, mail = re.findall("<([^>]*)>", str(letter["List-Unsubscribe"]))
    token = web.removeprefix(f"{SITE}list/unsubscribe/")
    assert mail == f"mailto:bounces+leave-{token}@example.com"
    return f"/list/unsubscribe/{token}"


def release(origin: Origin, host: Path) -> None:
    """Build main in CI, and turn the host to what came out."""
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
    """Return a newsroom on its first day: begun, pushed, published and served; nobody reads it."""
    program("git")
    origin, desk = repository.begin(tmp_path)
    assert run(desk.folder, CLOCK, "init", "news").code == 0
    settings = desk.folder / "news/postroom.yaml"
    settings.write_text(settings.read_text("utf-8") + MAIL, "utf-8")
    desk.push("Begin a newsroom")
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
            site = web_server.ready(service)
            with subscribed(f"{site.url}atom.xml") as reader:
                yield Life(origin, desk, host, mail, secrets, site, reader)
        finally:
            service.send_signal(signal.SIGTERM)
            _, journal = service.communicate(timeout=20)
    assert service.returncode == 143
    assert not re.search("@|list/unsubscribe/[^…]", journal)


def test_each_reader_hears_of_each_post_once(life: Life) -> None:
    """By feed and by letter, whatever becomes of a post, and however often its jobs run."""
    a_feed_reader_begins_to_follow(life)
    a_bad_post_is_stopped_and_mended(life)
    merged_it_is_published(life)
    people_join(life)
    a_ledger_that_would_be_lost_is_refused(life)
    letters = the_first_letter_comes(life)
    one_reader_leaves_by_one_click(life, letters[1])
    the_next_post_comes_once_to_those_who_stayed(life)
    what_becomes_of_posts_later_is_no_news(life, letters[0])


def a_feed_reader_begins_to_follow(life: Life) -> None:
    """Let it see the posts that every newsroom begins with."""
    assert poll(life.reader) == Polled(new=2, modified=0, unmodified=0)
    assert {title for title, _ in seen(life.reader).values()} == SAMPLES


def a_bad_post_is_stopped_and_mended(life: Life) -> None:
    """Fail the job of its branch, with a note at the very line, until all is mended."""
    with life.desk.branch("moved"):
        post = life.write("We moved", "Our office has a new address.")
        where = f"file=news/posts/{post.name}"
        edit(post, f"date: {TODAY}", "date: 2026-11-31")
        with post.open("a", encoding="utf-8") as file:
            file.write("\nSee [the map](map.md).\n")
        life.desk.push("Say that we moved")
        assert errors_of(life, "moved") == [f"{where},line=3,col=7,title=postroom"]

        edit(post, "date: 2026-11-31", f"date: {TODAY}")
        life.desk.push("Correct the date")
        assert errors_of(life, "moved") == [f"{where},line=11,col=5,title=post-link"]

        edit(post, "[the map](map.md)", "the map at the door")
        fixed = life.by_hand("check", "--fix")
        assert fixed.code == 0
        name = f"{TODAY}-a-post-is-one-file.md"
        identity = f"tag:news.example.com,{TODAY[:4]}:{name}"
        assert fixed.out.startswith(f"posts/{name}: wrote id {identity}\n")
        assert f'+id: "{identity}"' in life.desk.changes()
        life.desk.push("Take out a dead link, and keep an id")
        assert errors_of(life, "moved") == []


def errors_of(life: Life, branch: str) -> list[str]:
    """Let CI check a branch, and return where its annotations of errors stand."""
    done = life.job("check", "--format", "github", branch=branch)
    found = re.findall("^::error (.*?)::", done.out, re.MULTILINE)
    assert done.code == bool(found)
    return found


def merged_it_is_published(life: Life) -> None:
    """Give readers one entry more; the id that was written is the one they knew."""
    assert life.publish() == Polled(new=1, modified=0, unmodified=2)
    first = contents(life.host / "public")
    # The job again, in a fresh clone.
    assert life.publish() == Polled(new=0, modified=0, unmodified=3)
    assert contents(life.host / "public") == first


def people_join(life: Life) -> None:
    """Add two and import one; the plan shows what they will get."""
    terms = ["--confirmed", "--frequency", "post", "--from", TODAY]
    assert life.by_hand("subscribers", "add", *terms, ADA, BEN).out == "2 added\n"
    people = life.origin.folder / "people.csv"
    people.write_text(f"email\n{CYD}\n", "utf-8")
    assert life.by_hand("subscribers", "import", *terms, str(people)).out == "1 added\n"
    plan = life.by_hand("plan")
    assert (plan.code, plan.err) == (0, "")
    assert "\n1 letter to 3 subscribers\n" in plan.out
    assert {line[16:] for line in plan.out.splitlines() if TODAY in line[:14]} == POSTS


def a_ledger_that_would_be_lost_is_refused(life: Life) -> None:
    """Send nothing from a runner without PostgreSQL: it would forget that it did."""
    forgetful = in_ci({**life.secrets, "POSTROOM_DATABASE_URL": ""})
    refused = run(life.origin.checkout() / "news", forgetful, "send")
    assert refused.code == 2
    assert [error.partition(":")[0] for error in refused.errors] == ["POSTROOM_DATABASE_URL"]
    assert life.arrived() == []


def the_first_letter_comes(life: Life) -> list[EmailMessage]:
    """Bring it to everybody, in both parts, with links that lead somewhere and a way out."""
    letters = life.send()
    assert [reader_of(letter) for letter in letters] == [ADA, BEN, CYD]
    addresses = {link for _, link in seen(life.reader).values()}
    for letter in letters:
        assert letter["From"] == "Example News <news@example.com>"
        assert posts_of(letter) == addresses
        for words in (*POSTS, *addresses, "1 Example Street"):
            assert words in part(letter, "plain")
        assert f"{SITE[:-1]}{way_out(letter)}" in links(letter)
        # Among them the page to leave: that a scanner looks at it changes nothing.
        asked = {link: life.site.ask(urlsplit(link).path).status for link in links(letter)}
        assert set(asked.values()) == {200}, asked
    assert len({way_out(letter) for letter in letters}) == 3
    return letters


def one_reader_leaves_by_one_click(life: Life, letter: EmailMessage) -> None:
    """Leave by the request of a mail program alone, and take nobody else along."""
    assert life.site.post(way_out(letter), ONE_CLICK).status == 200
    listed = life.by_hand("subscribers", "list").out.splitlines()
    assert [line.split("  ")[:2] for line in listed] == [
        [ADA, "active"],
        [BEN, "unsubscribed"],
        [CYD, "active"],
    ]


def the_next_post_comes_once_to_those_who_stayed(life: Life) -> None:
    """Bring that post alone, as one entry and one letter, also when the job runs twice."""
    with life.desk.branch("open-day"):
        life.write("Open day", "Come and see our new office on Friday.")
        life.desk.push("Invite to the open day")
    assert life.publish() == Polled(new=1, modified=0, unmodified=3)
    sent_twice_at_once(life)
    letters = life.arrived()
    assert [reader_of(letter) for letter in letters] == [ADA, CYD]
    for letter in letters:
        assert letter["Subject"] == "News: Open day"
        assert posts_of(letter) == {life.address("Open day")}
    assert life.send() == []


def sent_twice_at_once(life: Life) -> None:
    """Let a second job begin while the first has a letter on its way."""
    with life.mail.holding() as letter_came:
        first = start(life.origin.checkout() / "news", in_ci(life.secrets), "send")
        assert letter_came.wait(60)
        second = life.job("send")
    assert ended(first).code == 0
    assert second.code == 1
    assert "another run is sending" in second.err


def what_becomes_of_posts_later_is_no_news(life: Life, letter: EmailMessage) -> None:
    """Show in feed and pages what was edited, renamed or taken back, and tell nobody again."""
    with life.desk.branch("tidy"):
        edit_rename_and_withdraw(life)
        life.desk.push("Correct one post, rename another, and take one back")
    times = {entry.id: entry.updated for entry in life.reader.get_entries()}
    assert life.publish() == Polled(new=0, modified=3, unmodified=1)
    changed = {one.title for one in life.reader.get_entries() if one.updated != times[one.id]}
    # The renamed one's time is as it was: its author did not say that it changed.
    assert changed == {"We have moved", "Welcome to our newsroom"}
    assert life.address("Doors open") == f"{SITE}posts/open-day/"
    assert life.send() == []

    answers = {link: life.site.ask(urlsplit(link).path) for link in links(letter)}
    gone = [link for link, answer in answers.items() if answer.status != 200]
    assert gone == [life.address("Welcome to our newsroom")]
    assert answers[gone[0]].status == 410
    words = b"now has a home of its own"
    assert [name for name, data in contents(life.host / "public").items() if words in data] == []


def edit_rename_and_withdraw(life: Life) -> None:
    """Change three posts as their authors do; the check tells how a new name keeps its address."""
    moved, invited, welcome = (
        life.news / f"posts/{TODAY}-{name}.md" for name in ("we-moved", "open-day", "welcome")
    )
    edit(moved, 'title: "We moved"', f'title: "We have moved"\nupdated: {TODAY}')
    edit(welcome, "summary: ", f"withdrawn: {TODAY}\nsummary: ")
    edit(invited, 'title: "Open day"', 'title: "Doors open"')
    invited = invited.rename(invited.with_name(f"{TODAY}-doors-open.md"))
    advice = life.by_hand("check", "--against", str(life.host / "public"))
    assert "give it slug: open-day, or" in advice.err
    edit(invited, "topics: []", "slug: open-day\ntopics: []")
