"""A plan in a file: what a person has looked at, and a run may send nothing else than.

The file holds no address and no token. Of the content there is a digest that leaves out Date, which
is that of the run; of each reader a mark, eight characters of the SHA-256 of the reader's token.
Tokens are 128 random bits, so nobody can find one by its mark, and that somebody who is not in a
plan for a million bears the mark of one who is happens once in 280 million times. A set of marks
tells whether those who get a letter now are among those who were to get it, which a digest of all
of them cannot; it takes eight megabytes for a million, and no key.
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
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file that are read at most: enough for seven million readers."""
_MARK: Final = 8
_ALIKE: Final = 2
_MARKS = re.compile(r"[A-Za-z0-9_-]*")
_SHA_256 = re.compile(r"[0-9a-f]{64}")
_REPAIR = "look at a new plan: postroom plan --out FILE"


@frozen
class ApprovedIssue:
    """A letter of a plan: which it is, what it says, and the marks of who may get it, sorted."""

    frequency: IssueKind
    cutoff: date
    language: str
    posts: tuple[str, ...]
    subject: str
    content: str
    marks: str = field(repr=False)
    _places: dict[str, tuple[int, int]] = field(factory=dict, init=False, repr=False, eq=False)

    @property
    def subscribers(self) -> int:
        """How many may get it."""
        return len(self.marks) // _MARK

    def includes(self, token: str) -> bool:
        """Tell whether the reader with this token may get it."""
        mark = _mark(token).decode("ascii")
        start, end = self._alike(mark[:_ALIKE])
        found = self.marks.find(mark, start, end)
        while found % _MARK and found != -1:
            # The end of one mark and the beginning of the next.
            found = self.marks.find(mark, found + 1, end)
        return found != -1

    def _alike(self, beginning: str) -> tuple[int, int]:
        """Return where the marks stand that begin alike; among a million, some 250 of them."""
        if beginning not in self._places:
            every = range(self.subscribers)
            first = bisect_left(every, beginning, key=self._beginning)
            last = bisect_right(every, beginning, key=self._beginning)
            self._places[beginning] = first * _MARK, last * _MARK
        return self._places[beginning]

    def _beginning(self, place: int) -> str:
        return self.marks[place * _MARK : place * _MARK + _ALIKE]


@frozen
class ApprovedPlan:
    """What a run may send: the letters of a plan made for `site_dir`, its id, as of `clock`."""

    site: str
    clock: datetime
    issues: tuple[ApprovedIssue, ...]

    def require_visible(self, posts: Collection[str]) -> None:
        """Make sure that all posts of the plan are among those that are visible; `posts` are ids.

        Raises `StoppedError`: without one, nobody might be owed its letter, and be told nothing.
        """
        for letter in self.issues:
            for post in letter.posts:
                if post not in posts:
                    raise find_difference(f"the plan holds {post}, which is not published now")

    def find(self, letter: IssueSnapshot) -> ApprovedIssue:
        """Return the letter of the plan that `letter` is, in what it is and what it says.

        Raises `StoppedError` if there is none.
        """
        for one in self.issues:
            if _same(one) == _same(letter):
                if one.content == content_digest(letter.content):
                    return one
                raise find_difference(f"{_name(letter)} does not say what it says in the plan")
        raise find_difference(self._why_not(letter))

    def _why_not(self, letter: IssueSnapshot) -> str:
        for one in self.issues:
            if (one.frequency, one.posts) == (letter.frequency, letter.posts):
                return f"the plan is for {_name(one)}, and now it would be {_name(letter)}"
        planned = {post for one in self.issues for post in one.posts}
        new = [post for post in letter.posts if post not in planned]
        if new:
            return f"{_name(letter)} would hold {new[0]}, which is not in the plan"
        return f"{_name(letter)} would hold other posts than those of the plan"


class RecipientDigests:
    """The marks of readers, as they come; `take` gives all of them, sorted, and forgets them.

    They are kept apart by their first character: sorting them at once would take six times as much
    memory.
    """

    def __init__(self, of: Iterable[str] = ()) -> None:
        self._by_first: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.add(of)

    def add(self, of: Iterable[str]) -> None:
        """Add the marks of the readers with these tokens."""
        for token in of:
            mark = _mark(token)
            self._by_first[mark[0]] += mark

    def take(self) -> str:
        """Return the marks, sorted, one behind the other; none are left."""
        return "".join(
            b"".join(sorted(_cut(self._by_first.pop(first)))).decode("ascii")
            for first in sorted(self._by_first)
        )


def _cut(marks: bytearray) -> Iterator[bytes]:
    return (bytes(marks[start : start + _MARK]) for start in range(0, len(marks), _MARK))


def _mark(token: str) -> bytes:
    hashed = bytes.fromhex(tokens.hash_token(token, "plan"))
    return base64.urlsafe_b64encode(hashed[: _MARK * 6 // 8])


def approve(letter: IssueSnapshot, marks: RecipientDigests) -> ApprovedIssue:
    """Return `letter` for the readers with these `marks`, as a plan holds it."""
    subject, digest = issue_subject(letter.content), content_digest(letter.content)
    return ApprovedIssue(*_same(letter), subject, digest, marks.take())


def issue_subject(content: bytes) -> str:
    """Return the subject of a letter's content."""
    head = BytesParser(policy=policy.default).parsebytes(content, headersonly=True)
    return str(head["Subject"])


def content_digest(content: bytes) -> str:
    """Return the SHA-256 of a letter's content without its Date, hexadecimal."""
    head, blank, body = content.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.startswith(b"Date:")]
    return hashlib.sha256(b"\r\n".join(kept) + blank + body).hexdigest()


def find_difference(what: str) -> StoppedError:
    """Return the error of a run that would not send what was planned."""
    return StoppedError([Problem("send", key="--plan", message=what, hint=_REPAIR)])


def _same(letter: ApprovedIssue | IssueSnapshot) -> tuple[IssueKind, date, str, tuple[str, ...]]:
    """Return what makes two letters the same one (delivery rules, rule 9)."""
    return letter.frequency, letter.cutoff, letter.language, letter.posts


def _name(letter: ApprovedIssue | IssueSnapshot) -> str:
    kind = {"day": "daily", "week": "weekly", "month": "monthly"}.get(letter.frequency)
    return f"the {kind} letter of {letter.cutoff}" if kind else "a letter with every post"


def write_plan(approval: ApprovedPlan) -> Iterator[bytes]:
    """Yield the file of a plan, JSON, in pieces; for the same plan they give the same bytes."""
    letters = [
        {
            "frequency": one.frequency,
            "boundary": one.cutoff.isoformat(),
            "language": one.language,
            "posts": list(one.posts),
            "subject": one.subject,
            "content": one.content,
            "subscribers": one.subscribers,
            "readers": one.marks,
        }
        for one in sorted(approval.issues, key=_same)
    ]
    whole = {
        "postroom plan": VERSION,
        "newsroom": approval.site,
        "clock": approval.clock.isoformat(),
        "letters": letters,
    }
    for piece in json.JSONEncoder(indent=1).iterencode(whole):
        yield piece.encode("ascii")
    yield b"\n"


def _is_file_of(approval: ApprovedPlan, data: bytes) -> bool:
    at = 0
    for piece in write_plan(approval):
        if not data.startswith(piece, at):
            return False
        at += len(piece)
    return at == len(data)


def read_plan(path: Path, site_dir: str) -> ApprovedPlan:
    """Return the plan in the file `path`, made for the newsroom with the id `site_dir`.

    A file is a plan if it has, byte for byte, the form in which one is written: then it says the
    same to who reads it and to us. Raises `UseError` for any other, or one that cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise _no_plan(path, (error.strerror or "cannot be read").lower()) from None
    try:
        found = json.loads(data) if len(data) <= LARGEST else None
    except (ValueError, RecursionError):
        found = None
    version = found.get("postroom plan") if isinstance(found, dict) else None
    if type(version) is int and version != VERSION:
        raise _no_plan(path, f"is a plan of version {version}, and this reads {VERSION}")
    plan = _plan(found)
    if plan is None or not _is_file_of(plan, data):
        raise _no_plan(path, "is not a plan as postroom plan --out writes it")
    if plan.site != site_dir:
        raise _no_plan(path, f"is a plan for {plan.site}, and this newsroom is {site_dir}")
    return plan


def _no_plan(path: Path, what: str) -> UseError:
    return UseError(
        [Problem(str(path), message=what, hint="make one with: postroom plan --out FILE")]
    )


def _plan(found: Any) -> ApprovedPlan | None:  # noqa: ANN401 - whatever stands in a file
    try:
        letters = tuple(_letter(one) for one in found["letters"])
        return ApprovedPlan(str(found["newsroom"]), datetime.fromisoformat(found["clock"]), letters)
    except (LookupError, TypeError, ValueError):
        return None


def _letter(found: Any) -> ApprovedIssue:  # noqa: ANN401 - whatever stands in a file
    """Return a letter; raises `LookupError`, `TypeError` and `ValueError`."""
    marks, content = found["readers"], found["content"]
    if found["frequency"] not in get_args(IssueKind):
        raise ValueError
    if not _MARKS.fullmatch(marks) or len(marks) % _MARK or not _SHA_256.fullmatch(content):
        raise ValueError
    return ApprovedIssue(
        found["frequency"],
        date.fromisoformat(found["boundary"]),
        str(found["language"]),
        tuple(map(str, found["posts"])),
        str(found["subject"]),
        content,
        marks,
    )
