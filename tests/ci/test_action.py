"""The action: each `run:` block of action.yml in bash, on real sites, with a runner's files."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from tests.support import postgresql
from tests.support.action_runner import ACTION, INSTALL, ActionResult, Runner, run_blocks
from tests.support.sending_site import KEY
from tests.support.site import POST, ROOT
from tests.support.sites import write
from tests.support.smtp_server import scripted

pytestmark = pytest.mark.slow  # runs each step in a process, as on a runner

BAD = "---\ntitle: Bad\ndate: 2026-13-45\n---\nWords.\n"
_ADDRESS = re.compile(r"reader\d+@")
MakeRunner = Callable[..., Runner]


@pytest.fixture
def runner(tmp_path: Path) -> MakeRunner:
    """Return a function that checks out a site, in the folder `news` of its repository."""

    def make(files: Mapping[str, str] | None = None) -> Runner:
        made = Runner(tmp_path / "runner")
        write(made.site_dir, files or {})
        return made

    return make


def test_check_reports_the_email_and_the_output(runner: MakeRunner) -> None:
    """A site without errors passes; its summary and artifact hold the newest email."""
    ran = runner().use(command="check", site="news")
    assert (ran.code, ran.annotations) == (0, [])
    assert "0 errors, 0 warnings" in ran.log
    assert ran.summary.startswith("## postroom check: passed\n")
    assert "1 post → site/" in ran.summary
    assert re.search(r"^\| `atom\.xml` \| \d+\.\d \|$", ran.summary, re.MULTILINE)
    assert re.search(r"^\| `email\.html` \| \d+\.\d \|$", ran.summary, re.MULTILINE)
    assert "We have moved to a new office." in ran.summary
    assert {path.name for path in ran.folder.iterdir()} == {"email.html", "email.txt", "email.eml"}
    message = message_from_bytes((ran.folder / "email.eml").read_bytes(), policy=policy.default)
    assert message["Subject"] == "Example News: November 2026"
    assert (ran.folder / "email.html").read_text("utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("command", ["check", "build", "digest"])
def test_an_error_is_shown_at_its_line(runner: MakeRunner, command: str) -> None:
    """A post with an error fails the job; the annotation and the summary name its line."""
    ran = runner({"posts/bad.md": BAD}).use(command=command, site="news")
    assert ran.code == 1
    (annotation,) = ran.annotations
    assert annotation.startswith("::error file=news/posts/bad.md,line=3,")
    assert "2026-13-45" in annotation
    assert f"## postroom {command}: failed with exit code 1\n" in ran.summary
    assert re.search(r"^error: \S*posts/bad\.md:3:\S* .*2026-13-45", ran.summary, re.MULTILINE)
    assert "Nothing can be published until the errors above are fixed." in ran.summary
    assert "folder" not in ran.outputs
    assert not (ROOT / "public/posts/bad").exists()


def test_strict_makes_warnings_fail(runner: MakeRunner) -> None:
    """`arguments` are passed to the command: with --strict a warning fails the job."""
    files = {"posts/b.md": "---\ntitle: No id\ndate: 2026-11-21\ntopics: [Company news]\n---\nB.\n"}
    strict = runner(files).use(command="check", site="news", arguments="--strict")
    assert strict.code == 1
    assert any(line.startswith("::warning file=news/posts/b.md") for line in strict.annotations), (
        strict.log
    )
    assert "warning: news/posts/b.md" in strict.summary
    # The email is in the artifact all the same.
    assert (strict.folder / "email.txt").exists()


def test_words_with_spaces_stay_one_word(runner: MakeRunner) -> None:
    """`arguments` are split as in a shell, and nothing in them is run."""
    made = runner()
    words = "--output '../my site' --at \"2026-11-22T00:00:00Z\""
    ran = made.use(command="build", site="news", arguments=words)
    assert (ran.code, ran.annotations) == (0, [])
    assert (made.workspace / "my site/atom.xml").exists()
    evil = made.use(command="build", site="news", arguments="; touch $(echo evil) `touch evil`")
    assert evil.code == 2
    assert not list(made.workspace.rglob("evil"))


def test_build_writes_the_output(runner: MakeRunner) -> None:
    """`build` writes the site's output folder."""
    made = runner()
    ran = made.use(command="build", site="news")
    assert (ran.code, ran.annotations) == (0, [])
    assert (made.workspace / "news/public/atom.xml").exists()
    assert "1 post → public/" in ran.summary


def test_a_post_cannot_command_the_runner(runner: MakeRunner) -> None:
    """A post cannot contain commands for the runner, or HTML for the summary."""
    words = (
        "::error file=posts/a.md::A forgery\n\n    ::add-mask::news\n\n```\n<script>x</script>\n"
    )
    forged = POST.replace("We have moved", f"{words}\n\nWe have moved")
    ran = runner({"posts/a.md": forged}).use(command="digest", site="news")
    assert ran.code == 0, ran.log
    assert "A forgery" in ran.log
    assert ran.annotations == []
    assert "<script" not in ran.summary
    assert ran.summary.count("<pre>") == ran.summary.count("</pre>") == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"command": "publish"}, "command: 'publish' is unknown; write one of check, build"),
        ({"command": "check", "site": "nowhere"}, "is not a folder; name the folder with"),
        ({"command": "check", "arguments": "'--strict"}, "arguments: No closing quotation"),
        ({"command": "check", "site": "."}, "postroom.yaml"),
        ({"command": "build", "site": "."}, "postroom.yaml"),
    ],
)
def test_wrong_use_is_one_line(runner: MakeRunner, inputs: dict[str, str], message: str) -> None:
    """Wrong inputs fail the job with one annotation that says why."""
    ran = runner().use(**{"site": "news", **inputs})
    assert ran.code == 2
    (annotation,) = ran.annotations
    assert message in annotation
    assert "Traceback" not in ran.log


def public_texts(ran: ActionResult) -> str:
    """Return everything of a run that others can read."""
    return ran.log + ran.summary


def test_plan_prints_numbers(runner: MakeRunner, postgresql_server: postgresql.Server) -> None:
    """`plan` prints and saves the number of emails and their content, but no address."""
    made = runner()
    secrets = made.add_subscribers(postgresql_server.emptied(), 3)
    ran = made.use(command="plan", site="news", **secrets)
    assert (ran.code, ran.annotations) == (0, [])
    assert ran.outputs["emails"] == "3"
    assert "1 issue to 3 subscribers" in ran.summary
    assert {"first.eml", "plan.json", "email.html"} <= {path.name for path in ran.folder.iterdir()}
    saved = "".join(path.read_text("utf-8") for path in ran.folder.iterdir())
    assert not _ADDRESS.search(public_texts(ran) + saved)


def test_plan_of_nothing(runner: MakeRunner, postgresql_server: postgresql.Server) -> None:
    """If nothing is due, the output `emails` is 0, so that nobody has to approve an empty plan."""
    made = runner()
    secrets = made.add_subscribers(postgresql_server.emptied(), 1)
    with scripted({}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        assert made.use(command="send", site="news", smtp_url=url, **secrets).code == 0
        ran = made.use(command="plan", site="news", **secrets)
    assert (ran.code, ran.outputs["emails"]) == (0, "0")
    assert "first.eml" not in {path.name for path in ran.folder.iterdir()}


def test_send_sends_once(runner: MakeRunner, postgresql_server: postgresql.Server) -> None:
    """A job that runs again sends nothing again; neither prints an address."""
    made = runner()
    secrets = made.add_subscribers(postgresql_server.emptied(), 3)
    with scripted({}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        first = made.use(command="send", site="news", smtp_url=url, **secrets)
        again = made.use(command="send", site="news", smtp_url=url, **secrets)
    assert (first.code, first.annotations) == (0, [])
    assert "3 sent" in first.summary
    assert (again.code, "nothing is due" in again.summary) == (0, True)
    assert len(server.messages) == 3
    assert "folder" not in first.outputs
    assert not _ADDRESS.search(public_texts(first) + public_texts(again))


def test_late_send_sends_nothing(runner: MakeRunner, postgresql_server: postgresql.Server) -> None:
    """After the `window` nothing is sent; the job passes, and its summary gives the reason."""
    made = runner()
    secrets = made.add_subscribers(postgresql_server.emptied(), 1, frequency="week")
    with scripted({}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        late = made.use(command="send", site="news", smtp_url=url, window="1m", **secrets)
        assert (late.code, late.annotations, server.messages) == (0, [], [])
        assert "too late for --window" in late.summary
        ran = made.use(command="send", site="news", smtp_url=url, window="8d", **secrets)
    assert (ran.code, len(server.messages)) == (0, 1)


def test_send_refuses_a_ledger_on_the_runner(runner: MakeRunner) -> None:
    """Without PostgreSQL nothing is sent from a runner, and the job says why."""
    with scripted({}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        ran = runner().use(command="send", site="news", smtp_url=url, secret_key=KEY)
    assert (ran.code, server.commands) == (2, [])
    (annotation,) = ran.annotations
    assert "in CI the ledger is lost with the machine" in annotation
    assert "## postroom send: failed with exit code 2" in ran.summary


def test_send_without_secrets_names_each(runner: MakeRunner) -> None:
    """Each missing secret is an annotation; GitHub passes it as an empty text."""
    ran = runner().use(command="send", site="news")
    assert ran.code == 2
    named = set(re.findall(r"POSTROOM_[A-Z_]+", "".join(ran.annotations)))
    assert named == {"POSTROOM_SMTP_URL", "POSTROOM_SECRET_KEY", "POSTROOM_DATABASE_URL"}


def test_addresses_in_a_refusal_are_masked(
    runner: MakeRunner, postgresql_server: postgresql.Server
) -> None:
    """The SMTP server's reply is printed without the address in it."""
    made = runner()
    refused = [
        f"550 5.7.1 <reader{each}@example.com>: Relay access denied\r\n".encode()
        for each in range(30)
    ]
    secrets = made.add_subscribers(postgresql_server.emptied(), 30)
    with scripted({"RCPT": refused}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        ran = made.use(command="send", site="news", smtp_url=url, **secrets)
    assert ran.code == 1
    (annotation,) = ran.annotations
    assert "<…@…>: Relay access denied" in annotation
    assert not _ADDRESS.search(public_texts(ran))


def test_a_test_email_prints_no_address(runner: MakeRunner) -> None:
    """Addresses that `send` prints are masked in the log and the summary."""
    with scripted({}) as server:
        url, words = f"smtp://127.0.0.1:{server.port}", "--test --to reader1@example.com"
        inputs = {"smtp_url": url, "secret_key": KEY, "arguments": words}
        ran = runner().use(command="send", site="news", **inputs)
    assert (ran.code, len(server.messages)) == (0, 1), ran.log
    assert "…@…" in ran.log
    assert not _ADDRESS.search(public_texts(ran))


def test_a_cancelled_job_finishes_emails_in_flight(
    runner: MakeRunner, postgresql_server: postgresql.Server
) -> None:
    """When GitHub cancels a job, the signal reaches `send`, and no delivery becomes uncertain."""
    made = runner()
    secrets = made.add_subscribers(postgresql_server.emptied(), 3)
    with scripted({}) as server:
        known = {name: each.get("default", "") for name, each in ACTION["inputs"].items()}
        given = {name.replace("_", "-"): value for name, value in secrets.items()}
        url = {"smtp-url": f"smtp://127.0.0.1:{server.port}", "site": "news"}
        (step,) = (each for each in ACTION["runs"]["steps"] if each.get("id") == "run")
        with server.holding() as received:
            process = made.start(step, {**known, **given, **url, "command": "send"})
            assert received.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            # The SMTP server replies only after `send` has received the signal.
            while "finishing the emails" not in (line := process.stdout.readline()):
                assert line
        log = process.communicate(timeout=60)[0]
        sent = len(server.messages)
        later = made.use(command="send", site="news", smtp_url=url["smtp-url"], **secrets)
    assert process.returncode == 130, log
    assert "may or may not" not in log + later.log
    assert (sent, later.code, len(server.messages)) == (1, 0, 3)


def test_every_block_is_run(runner: MakeRunner) -> None:
    """Each test here runs every `run:` block of the action, except the installation."""
    ran = runner().use(command="digest", site="news")
    assert [*ran.steps] == [name for name in run_blocks() if name != INSTALL]


def test_the_cache_key(runner: MakeRunner) -> None:
    """The cache's key depends on Python and the pins; its folder holds pip's downloads only."""
    made = runner()
    ran = made.use(command="check", site="news")
    assert re.fullmatch(r"postroom-pip-\w+-\w+-3\.\d+\.\w+-[0-9a-f]{16}", ran.outputs["key"])
    assert Path(ran.outputs["path"]) == made.temp / "postroom-pip"
