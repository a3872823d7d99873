"""The workflows of this repository and those in docs/: their permissions and their steps."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from psycopg.errors import DuplicateObject

from tests.support import postgresql
from tests.support.action_runner import ACTION, ActionResult, Runner, read
from tests.support.processes import run
from tests.support.sending_site import KEY
from tests.support.site import AT, ROOT
from tests.support.sites import write
from tests.support.smtp_server import scripted

pytestmark = pytest.mark.slow  # runs each step in a process, as on a runner

OURS = "example/postroom"
TO_COPY = sorted((ROOT / "docs/workflows").glob("*.yml"))
ALL = [*TO_COPY, *sorted((ROOT / ".github/workflows").glob("*.yml"))]
EXPRESSIONS = {"${{ github.event_name == 'schedule' && '6h' || '' }}": "6h"}
Document = Mapping[str, Any]


def jobs(document: Document) -> dict[str, Any]:
    """Return the jobs of a workflow."""
    found = document["jobs"]
    assert isinstance(found, dict)
    return found


def steps(document: Document) -> Iterator[dict[str, Any]]:
    """Yield the steps of a workflow, or of an action."""
    for job in jobs(document).values() if "jobs" in document else [document["runs"]]:
        yield from job["steps"]


@pytest.mark.parametrize("path", [ROOT / "action.yml", *ALL], ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit(path: Path) -> None:
    """GitHub's actions are pinned to a commit, with the version as a comment; ours is a blank."""
    lines = re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))
    assert len(lines) == sum("uses" in step for step in steps(read(path)))
    pinned = re.compile(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    ours = re.compile(rf"{OURS}@0{{40}} # your copy, and a commit of it|\./ #.*")
    assert [line for line in lines if not (pinned.fullmatch(line) or ours.fullmatch(line))] == []


def test_an_action_has_one_commit_everywhere() -> None:
    """All uses of a version of an action name the same commit."""
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "action.yml", *ALL])
    named = set(re.findall(r"uses: (actions/\S+)@(\S+ # \S+)", text))
    assert len({name for name, _ in named}) == len(named) >= 6
    used = set(re.findall(r"uses: (actions/\S+ # \S+)", (ROOT / "README.md").read_text("utf-8")))
    assert used <= {f"{name}@{commit}" for name, commit in named}


@pytest.mark.parametrize("path", [ROOT / "action.yml", *ALL], ids=lambda path: path.name)
def test_no_expression_in_a_shell(path: Path) -> None:
    """No `run:` block contains an expression, or has more than two lines."""
    for step in steps(read(path)):
        assert "${{" not in step.get("run", "")
        assert len(step.get("run", "").splitlines()) <= 2


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_permissions_of_a_workflow(path: Path) -> None:
    """A workflow may read; only a job without this action may write; no job keeps a token."""
    document = read(path)
    assert document["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in document["on"]
    for job in jobs(document).values():
        assert "timeout-minutes" in job
        writes = "write" in job.get("permissions", {}).values()
        assert not (writes and any(OURS in step["uses"] for step in job["steps"]))
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_secrets_need_an_environment(path: Path) -> None:
    """A workflow for pull requests uses no secret; a job that uses one has an environment."""
    document, text = read(path), path.read_text(encoding="utf-8")
    if "pull_request" in document["on"]:
        assert "secrets." not in text
    for job in jobs(document).values():
        knows = [step for step in job["steps"] if "secrets." in str(step)]
        sends = [s for s in job["steps"] if s.get("with", {}).get("command") in {"plan", "send"}]
        assert knows == sends
        if knows:
            assert job["environment"] in {"newsletter", "newsletter-plan"}
            assert document["concurrency"] == {"group": "send", "cancel-in-progress": "false"}


def use(runner: Runner, step: Document, secrets: Mapping[str, str]) -> ActionResult:
    """Run a step of this action as the workflow has it, with these secrets."""
    assert set(step["with"]) <= set(ACTION["inputs"])
    known = {f"${{{{ secrets.{name} }}}}": value for name, value in secrets.items()} | EXPRESSIONS
    inputs = {name.replace("-", "_"): known.get(text, text) for name, text in step["with"].items()}
    assert not [text for text in inputs.values() if "${{" in text]
    return runner.use(**inputs)


def action_steps(name: str) -> list[dict[str, Any]]:
    """Return the steps of this action in a workflow to copy."""
    document = read(ROOT / "docs/workflows" / name)
    return [step for step in steps(document) if step["uses"].startswith(f"{OURS}@")]


def test_the_workflows_that_need_no_secrets_run(tmp_path: Path) -> None:
    """`check.yml` and `publish.yml` pass on a site without errors, and write its output."""
    runner = Runner(tmp_path, site=".")
    ran = [
        use(runner, step, {})
        for name in ("check.yml", "publish.yml")
        for step in action_steps(name)
    ]
    assert [(each.code, each.annotations) for each in ran] == [(0, [])] * 3
    document = read(ROOT / "docs/workflows/publish.yml")
    (upload,) = (step for step in steps(document) if "upload-pages-artifact" in step["uses"])
    assert (runner.workspace / str(upload["with"]["path"]) / "index.html").exists()


@pytest.fixture
def new_site(tmp_path: Path) -> Runner:
    """Return a runner with the site that `init` writes and one plain post."""
    runner = Runner(tmp_path, site=".")
    shutil.rmtree(runner.site_dir / "posts")
    (runner.site_dir / "postroom.yaml").unlink()
    day = {"SOURCE_DATE_EPOCH": str(int(AT.timestamp()))}
    assert run(runner.site_dir, day, "init", ".").code == 0
    plain = "# We moved\n\nFrom today you find us in Example Street.\n"
    write(runner.site_dir, {"posts/2026-11-22-we-moved.md": plain})
    return runner


def test_a_new_site_passes_the_workflows(new_site: Runner) -> None:
    """The site of `init`, with a post of a heading and a sentence, is checked and published.

    Warnings are shown at their lines, and the email is in the artifact.
    """
    for name in ("check.yml", "publish.yml"):
        for step in action_steps(name):
            ran = use(new_site, step, {})
            assert ran.code == 0, ran.log
            assert [line for line in ran.annotations if not line.startswith("::warning ")] == []
            assert any("2026-11-22-we-moved.md" in line for line in ran.annotations)
            assert "From today you find us" in (ran.folder / "email.txt").read_text("utf-8")
    page = new_site.site_dir / "public/posts/we-moved/index.html"
    assert "From today you find us" in page.read_text("utf-8")


def test_a_new_site_fails_with_strict(new_site: Runner) -> None:
    """With `arguments: --strict`, warnings fail the same step."""
    (step,) = action_steps("check.yml")
    strict = {**step, "with": {**step["with"], "arguments": "--strict"}}
    assert use(new_site, strict, {}).code == 1


def secrets_for(
    runner: Runner, server: postgresql.Server, port: int, number: int
) -> dict[str, str]:
    """Return the secrets of a site with this many subscribers who are due an email."""
    inputs = runner.add_subscribers(server.emptied(), number)
    return {
        "POSTROOM_SMTP_URL": f"smtp://127.0.0.1:{port}",
        "POSTROOM_DATABASE_URL": inputs["database_url"],
        "POSTROOM_SECRET_KEY": KEY,
    }


def test_the_workflow_that_sends_runs(tmp_path: Path, postgresql_server: postgresql.Server) -> None:
    """`send.yml` sends the emails that are due; a second run sends nothing again."""
    runner = Runner(tmp_path, site=".")
    (step,) = action_steps("send.yml")
    with scripted({}) as server:
        secrets = secrets_for(runner, postgresql_server, server.port, 2)
        ran = [use(runner, step, secrets) for _ in range(2)]
    assert [(each.code, each.annotations) for each in ran] == [(0, [])] * 2
    assert len(server.messages) == 2


@pytest.mark.parametrize("now", ["office", "shop"])
def test_the_workflow_with_approval_runs(
    tmp_path: Path, postgresql_server: postgresql.Server, now: str
) -> None:
    """`approve.yml` sends the approved plan; if a post has changed since, it refuses."""
    runner = Runner(tmp_path, site=".")
    plan, send = action_steps("approve.yml")
    with scripted({}) as server:
        secrets = secrets_for(runner, postgresql_server, server.port, 2)
        read_only = {"POSTROOM_DATABASE_URL": read_only_url(postgresql_server)}
        planned = use(runner, plan, read_only)
        assert (planned.code, planned.outputs["emails"]) == (0, "2"), planned.log
        download(planned, runner)
        post = runner.site_dir / "posts/a.md"
        post.write_text(post.read_text("utf-8").replace("office", now), "utf-8")
        sent = use(runner, send, secrets)
    outcome = (sent.code, len(server.messages), len(sent.annotations))
    assert outcome == ((0, 2, 0) if now == "office" else (1, 0, 1)), sent.log


def read_only_url(server: postgresql.Server) -> str:
    """Return the URL of the database for a user who may only read."""
    with suppress(DuplicateObject):
        server.execute("CREATE ROLE viewer LOGIN")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO viewer")
    server.execute("GRANT USAGE ON SCHEMA public TO viewer")
    return server.url.replace("postgres@", "viewer@")


def download(planned: ActionResult, runner: Runner) -> None:
    """Copy the artifact of the first job of `approve.yml` to where its second job downloads it."""
    document = read(ROOT / "docs/workflows/approve.yml")
    (step,) = (each for each in steps(document) if "download-artifact" in each["uses"])
    wanted = step["with"]
    assert wanted["name"] == "postroom-plan"
    assert ACTION["runs"]["steps"][-1]["with"]["name"].endswith(
        "format('postroom-{0}', inputs.command) }}"
    )
    shutil.copytree(planned.folder, runner.workspace / wanted["path"])


def test_nothing_due_needs_no_approval() -> None:
    """The second job of `approve.yml` waits for approval only if the first has planned emails."""
    document = jobs(read(ROOT / "docs/workflows/approve.yml"))
    assert document["plan"]["outputs"] == {"emails": "${{ steps.plan.outputs.emails }}"}
    assert document["send"]["if"] == "needs.plan.outputs.emails != '0'"
    (plan,) = (step for step in document["plan"]["steps"] if OURS in step["uses"])
    assert plan["id"] == "plan"
    assert "emails" in ACTION["outputs"]


GITLAB = read(ROOT / "docs/gitlab-ci.yml")


def test_the_jobs_for_gitlab_run(tmp_path: Path, postgresql_server: postgresql.Server) -> None:
    """Each line of `script:` for GitLab runs in a job's shell, and writes the artifacts."""
    runner = Runner(tmp_path, site=".")
    with scripted({}) as server:
        secrets = secrets_for(runner, postgresql_server, server.port, 2)
        for name in ("check", "pages", "send"):
            assert in_gitlab(name, runner, secrets if name == "send" else {}) == [0, 0]
            artifacts = GITLAB[name].get("artifacts", {}).get("paths", [])
            assert [path for path in artifacts if not (runner.site_dir / path).exists()] == []
    assert len(server.messages) == 2


def in_gitlab(name: str, runner: Runner, variables: Mapping[str, str]) -> list[int]:
    """Run the job `name` as GitLab does; return the exit codes of `script` and `after_script`."""
    codes = []
    for part in ("script", "after_script"):
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", "\n".join(GITLAB[name].get(part, []))],
            cwd=runner.site_dir,
            env={
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "CI": "true",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stderr.write(done.stderr)
        codes.append(done.returncode)
    return codes


@pytest.mark.parametrize("posts", ["as written", "only a draft"])
def test_a_new_site_passes_the_jobs_for_gitlab(new_site: Runner, posts: str) -> None:
    """The site of `init` and a plain post pass; so does a site without a published post."""
    day = {"SOURCE_DATE_EPOCH": str(int(AT.timestamp()))}
    if posts == "only a draft":
        for path in (new_site.site_dir / "posts").iterdir():
            path.unlink()
        assert run(new_site.site_dir, day, "new", "We moved").code == 0
    for name in ("check", "pages"):
        assert in_gitlab(name, new_site, day)[0] == 0
    assert (new_site.site_dir / "public/index.html").exists()
    email = (new_site.site_dir / "email.html").read_text("utf-8")
    assert ("From today you find us" in email) == (posts == "as written")


def test_gitlab_installs_a_commit_with_what_sending_needs() -> None:
    """GitLab's jobs install one commit of your copy, with the driver for PostgreSQL."""
    (line,) = GITLAB["default"]["before_script"]
    *pip, wanted = shlex.split(line)
    assert pip == ["pip", "install", "--quiet"]
    requirement = Requirement(wanted)
    assert (requirement.name, requirement.extras) == ("postroom", {"postgres"})
    assert requirement.url == f"git+https://git.example.com/postroom.git@{'0' * 40}"


def test_gitlab_sends_by_schedule_one_run_at_a_time() -> None:
    """In GitLab a merge request runs `check` only, and a newer job never interrupts `send`."""
    assert {name for name in GITLAB if name != "default"} == {"check", "pages", "send"}
    assert GITLAB["check"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]
    (rule,) = GITLAB["send"]["rules"]
    assert rule["if"].startswith('$CI_PIPELINE_SOURCE == "schedule" && $CI_COMMIT_BRANCH ==')
    assert (GITLAB["send"]["interruptible"], GITLAB["send"]["resource_group"]) == ("false", "send")
