"""Write and read plan files: a plan that a person has approved, so that a run sends nothing else.

The file holds no email address and no token, only digests (cryptographic hashes). For each issue it
has a digest of the content without the Date, as the Date depends on the run. For each recipient it
has the first eight characters of a digest of the subscriber's token. Tokens are 128 random bits, so
nobody can find a token by its digest. With a plan for a million subscribers, the chance that
another subscriber is taken for one of them is 1 in 280 million.

One digest for all recipients together would be shorter. But only a list can tell whether the
subscribers to whom an issue is due now are among the approved ones: some may have unsubscribed in
the meantime. The list takes eight megabytes for a million subscribers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import date, datetime
from email import policy
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Final, get_args

from attrs import field, frozen

from postroom.errors import Problem, StoppedError, UseError
from postroom.mail import tokens
from postroom.models import IssueKind, IssueSnapshot

VERSION: Final = 1
MAX_BYTES: Final = 64 * 1024 * 1024
"""The size in bytes of the largest file that is read: enough for seven million recipients."""
_DIGEST: Final = 8
_PREFIX: Final = 2
_DIGESTS = re.compile(r"[A-Za-z0-9_-]*")
_SHA_256 = re.compile(r"[0-9a-f]{64}")
_HINT = "look at a new plan: postroom plan --out FILE"


@frozen
class ApprovedIssue:
    """An issue of an approved plan.

    `recipients` is one string: the sorted digests of all recipients, without separators.
    """

    frequency: IssueKind
    cutoff: date
    language: str
    posts: tuple[str, ...]
    subject: str
    content: str
    """The SHA-256 that `content_digest` returns for the content."""
    recipients: str = field(repr=False)
    _ranges: dict[str, tuple[int, int]] = field(factory=dict, init=False, repr=False, eq=False)

    @property
    def subscribers(self) -> int:
        """The number of subscribers who may receive this issue."""
        return len(self.recipients) // _DIGEST

    def includes(self, token: str) -> bool:
        """Tell whether the subscriber with this token may receive this issue."""
        digest = _recipient_digest(token).decode("ascii")
        start, end = self._range(digest[:_PREFIX])
        found = self.recipients.find(digest, start, end)
        while found % _DIGEST and found != -1:
            # The match spans the end of one digest and the beginning of the next.
            found = self.recipients.find(digest, found + 1, end)
        return found != -1

    def _range(self, prefix: str) -> tuple[int, int]:
        """Return the start and the end of the digests that begin with `prefix`, in `recipients`.

        Some 250 of a million digests have the same prefix, so `includes` searches only these.
        """
        if prefix not in self._ranges:
            indexes = range(self.subscribers)
            first = bisect_left(indexes, prefix, key=self._prefix)
            last = bisect_right(indexes, prefix, key=self._prefix)
            self._ranges[prefix] = first * _DIGEST, last * _DIGEST
        return self._ranges[prefix]

    def _prefix(self, index: int) -> str:
        return self.recipients[index * _DIGEST : index * _DIGEST + _PREFIX]


@frozen
class ApprovedPlan:
    """The issues that a run may send; all others need a new approval.

    `site` is the id of the site, and `clock` the instant for which the plan was made.
    """

    site: str
    clock: datetime
    issues: tuple[ApprovedIssue, ...]

    def require_visible(self, posts: Collection[str]) -> None:
        """Check that all posts of the plan are among the ids of the visible `posts`.

        Raises `StoppedError` if a post has disappeared. Without this check, the run might find that
        no issue is due, and would send nothing without telling the operator.
        """
        for issue in self.issues:
            for post in issue.posts:
                if post not in posts:
                    raise plan_difference(f"the plan holds {post}, which is not published now")

    def find(self, issue: IssueSnapshot) -> ApprovedIssue:
        """Return the issue of this plan that is the same as `issue` and has the same content.

        Raises `StoppedError` if the plan has no such issue.
        """
        for approved in self.issues:
            if _identity(approved) == _identity(issue):
                if approved.content == content_digest(issue.content):
                    return approved
                raise plan_difference(f"{_name(issue)} would have other content than in the plan")
        raise plan_difference(self._why_not(issue))

    def _why_not(self, issue: IssueSnapshot) -> str:
        for approved in self.issues:
            if (approved.frequency, approved.posts) == (issue.frequency, issue.posts):
                return f"the plan is for {_name(approved)}, and now it would be {_name(issue)}"
        planned = {post for approved in self.issues for post in approved.posts}
        new = [post for post in issue.posts if post not in planned]
        if new:
            return f"{_name(issue)} would hold {new[0]}, which is not in the plan"
        return f"{_name(issue)} would hold other posts than in the plan"


class RecipientDigests:
    """A collection of recipients' digests, which `take` returns sorted.

    The digests are grouped by their first character and sorted group by group, as sorting all of
    them at once would take six times the memory.
    """

    def __init__(self, subscriber_tokens: Iterable[str] = ()) -> None:
        self._by_first: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.add(subscriber_tokens)

    def add(self, subscriber_tokens: Iterable[str]) -> None:
        """Add the digests of the subscribers with these tokens."""
        for token in subscriber_tokens:
            digest = _recipient_digest(token)
            self._by_first[digest[0]] += digest

    def take(self) -> str:
        """Return all digests, sorted, as one string, and remove them from the collection."""
        return "".join(
            b"".join(sorted(_split(self._by_first.pop(first)))).decode("ascii")
            for first in sorted(self._by_first)
        )


def _split(digests: bytearray) -> Iterator[bytes]:
    return (bytes(digests[start : start + _DIGEST]) for start in range(0, len(digests), _DIGEST))


def _recipient_digest(token: str) -> bytes:
    hashed = bytes.fromhex(tokens.hash_token(token, "plan"))
    return base64.urlsafe_b64encode(hashed[: _DIGEST * 6 // 8])


def approve(issue: IssueSnapshot, recipients: RecipientDigests) -> ApprovedIssue:
    """Return `issue` as an entry of a plan; `recipients` is empty afterwards."""
    subject, digest = issue_subject(issue.content), content_digest(issue.content)
    return ApprovedIssue(*_identity(issue), subject, digest, recipients.take())


def issue_subject(content: bytes) -> str:
    """Return the Subject header of an issue's `content`, which is an email."""
    headers = BytesParser(policy=policy.default).parsebytes(content, headersonly=True)
    return str(headers["Subject"])


def content_digest(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of an issue's content without its Date header."""
    headers, blank, body = content.partition(b"\r\n\r\n")
    lines = [line for line in headers.split(b"\r\n") if not line.startswith(b"Date:")]
    return hashlib.sha256(b"\r\n".join(lines) + blank + body).hexdigest()


def plan_difference(message: str) -> StoppedError:
    """Return the error for a run that would send something else than the approved plan."""
    return StoppedError([Problem("send", key="--plan", message=message, hint=_HINT)])


def _identity(
    issue: ApprovedIssue | IssueSnapshot,
) -> tuple[IssueKind, date, str, tuple[str, ...]]:
    """Return the fields by which two issues are compared (delivery rules, rule 9)."""
    return issue.frequency, issue.cutoff, issue.language, issue.posts


def _name(issue: ApprovedIssue | IssueSnapshot) -> str:
    kind = {"day": "daily", "week": "weekly", "month": "monthly"}.get(issue.frequency)
    return f"the {kind} issue of {issue.cutoff}" if kind else "an issue for every post"


def write_plan(plan: ApprovedPlan) -> Iterator[bytes]:
    """Yield the bytes of a plan file (JSON) in pieces; equal plans give equal bytes."""
    issues = [
        {
            "frequency": issue.frequency,
            "cutoff": issue.cutoff.isoformat(),
            "language": issue.language,
            "posts": list(issue.posts),
            "subject": issue.subject,
            "content": issue.content,
            "subscribers": issue.subscribers,
            "recipients": issue.recipients,
        }
        for issue in sorted(plan.issues, key=_identity)
    ]
    document = {
        "postroom plan": VERSION,
        "site": plan.site,
        "clock": plan.clock.isoformat(),
        "issues": issues,
    }
    for piece in json.JSONEncoder(indent=1).iterencode(document):
        yield piece.encode("ascii")
    yield b"\n"


def _is_file_of(plan: ApprovedPlan, data: bytes) -> bool:
    position = 0
    for piece in write_plan(plan):
        if not data.startswith(piece, position):
            return False
        position += len(piece)
    return position == len(data)


def read_plan(path: Path, site: str) -> ApprovedPlan:
    """Return the plan in the file `path`, made for the site with the id `site`.

    The file must have exactly the bytes that `write_plan` makes, so that it cannot mean something
    else to the program than to the person who reads it. Raises `UseError` for any other file, and
    for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _no_plan(path, (error.strerror or "cannot be read").lower()) from None
    try:
        document = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        document = None
    version = document.get("postroom plan") if isinstance(document, dict) else None
    if type(version) is int and version != VERSION:
        raise _no_plan(path, f"is a plan of version {version}; this Postroom reads {VERSION}")
    plan = _parse_plan(document)
    if plan is None or not _is_file_of(plan, data):
        raise _no_plan(path, "is not a plan as postroom plan --out writes it")
    if plan.site != site:
        raise _no_plan(path, f"is a plan for {plan.site}, and the id of this site is {site}")
    return plan


def _no_plan(path: Path, message: str) -> UseError:
    hint = "make one with: postroom plan --out FILE"
    return UseError([Problem(str(path), message=message, hint=hint)])


def _parse_plan(document: Any) -> ApprovedPlan | None:  # noqa: ANN401 - a file may hold anything
    try:
        issues = tuple(_parse_issue(entry) for entry in document["issues"])
        clock = datetime.fromisoformat(document["clock"])
        return ApprovedPlan(str(document["site"]), clock, issues)
    except (LookupError, TypeError, ValueError):
        return None


def _parse_issue(entry: Any) -> ApprovedIssue:  # noqa: ANN401 - a file may hold anything
    """Return an issue from the JSON of a plan.

    Raises `LookupError`, `TypeError` or `ValueError` if `entry` is not such an issue.
    """
    recipients, content = entry["recipients"], entry["content"]
    if entry["frequency"] not in get_args(IssueKind):
        raise ValueError
    if not _DIGESTS.fullmatch(recipients) or len(recipients) % _DIGEST:
        raise ValueError
    if not _SHA_256.fullmatch(content):
        raise ValueError
    return ApprovedIssue(
        entry["frequency"],
        date.fromisoformat(entry["cutoff"]),
        str(entry["language"]),
        tuple(map(str, entry["posts"])),
        str(entry["subject"]),
        content,
        recipients,
    )
