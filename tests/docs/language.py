"""Find words and sentences that CONTRIBUTING.md rules out: `python -m tests.docs.language`."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import yaml
from attrs import frozen

ROOT = Path(__file__).parents[2]
PHRASES = Path(__file__).with_name("banned_phrases.yaml")
PYTHON_FOLDERS = ("src", "tests", "benchmarks")
# These files hold the banned words themselves, or words of other people.
EXEMPT = {"tests/docs/banned_phrases.yaml", "tests/docs/test_language.py"}
COMMENTED = ("*.yml", "*.yaml", "*.toml", "Makefile", ".ci/run", ".github/**/*.yml")
_CODE = re.compile(r"``.*?``|`[^`]*`|</?[a-zA-Z][^<>\n]*>|\"[^\"\n]*\"")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
# "Who has no address is left out." has no noun; "Who reads it?" is a question.
_CLAUSE = re.compile(
    r"(?:^|(?<=[.!:;] ))(?:(?:Of|To|For|From|By|In) )?"
    r"(?:Who|Whom|Whose|Whoever|What|Whatever|which|whom) [^.?!]*(?:[.!]|$)"
)
_RELATIVE = ("who", "whom", "whose", "whoever", "what", "whatever", "which", "where", "how")
_ARROW = re.compile(r"→|↔|←|->|=>")
_CONTEXT = 40
_ONE = re.compile(r"(?<![a-z])one(?![a-z])", re.IGNORECASE)


@frozen
class Text:
    """A piece of prose of a file, with the line on which it begins."""

    path: str
    line: int
    kind: str
    text: str


@frozen
class LanguageFinding:
    """A word or sentence to change, with what to write instead."""

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}; write {self.instead}"


@frozen
class Phrase:
    """A banned phrase, what to write instead, and the contexts in which it is right."""

    pattern: re.Pattern[str]
    instead: str
    allowed: tuple[re.Pattern[str], ...]


@cache
def load_phrases() -> tuple[Phrase, ...]:
    """Return the phrases of banned_phrases.yaml."""
    rows = yaml.safe_load(PHRASES.read_text("utf-8"))["prose"]
    return tuple(
        Phrase(
            re.compile(rf"(?<![\w/.=-])(?:{row['phrase']})(?![\w/@-])", re.IGNORECASE),
            row["instead"],
            tuple(re.compile(allowed, re.IGNORECASE) for allowed in row.get("allowed", ())),
        )
        for row in rows
    )


@cache
def load_names() -> dict[str, str]:
    """Return the banned parts of identifiers, with what to write instead."""
    return dict(yaml.safe_load(PHRASES.read_text("utf-8"))["names"])


@cache
def _allowed_names() -> frozenset[str]:
    return frozenset(yaml.safe_load(PHRASES.read_text("utf-8"))["names_allowed"])


def repository_texts(root: Path = ROOT) -> Iterator[Text]:
    """Yield all prose of the repository: of Python files, templates, settings and docs."""
    for path in python_files(root):
        yield from python_texts(str(path.relative_to(root)), path.read_text("utf-8"))
    for path in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        yield from markdown_texts(str(path.relative_to(root)), path.read_text("utf-8"))
    for path in sorted((root / "templates").rglob("*")):
        if path.suffix in {".html", ".xml", ".txt", ".css"}:
            yield from template_texts(str(path.relative_to(root)), path.read_text("utf-8"))
    files = {path for glob in COMMENTED for path in root.glob(glob)}
    files |= {*root.glob("docs/**/*.yml"), *root.glob("src/**/*.yaml")}
    for path in sorted(files):
        yield from comment_texts(str(path.relative_to(root)), path.read_text("utf-8"))


def python_files(root: Path = ROOT) -> list[Path]:
    """Return the Python files of the repository, save those that hold the banned words."""
    found = [
        root / "action.py",
        *(p for name in PYTHON_FOLDERS for p in (root / name).rglob("*.py")),
    ]
    return sorted(path for path in found if str(path.relative_to(root)) not in EXEMPT)


def python_texts(path: str, source: str) -> Iterator[Text]:
    """Yield docstrings and comments, and for the program itself the sentences in strings."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.add(id(first.value))
                yield Text(path, first.lineno, "docstring", str(first.value.value))
    for node in ast.walk(tree) if path.startswith(("src/", "action.py")) else ():
        match node:
            case ast.Constant(value=str(value)) if " " in value.strip():
                if id(node) not in docstrings:
                    yield Text(path, node.lineno, "string", value)
    yield from _python_comments(path, source)


def _python_comments(path: str, source: str) -> Iterator[Text]:
    """Yield comments; those on successive lines are one text."""
    lines = [
        (token.start[0], token.string.lstrip("#:! "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from _joined(path, lines)


def _joined(path: str, lines: Iterable[tuple[int, str]]) -> Iterator[Text]:
    block: list[str] = []
    start = last = 0
    for number, text in lines:
        if block and number != last + 1:
            yield Text(path, start, "comment", "\n".join(block))
            block = []
        if not block:
            start = number
        block.append(text)
        last = number
    if block:
        yield Text(path, start, "comment", "\n".join(block))


def markdown_texts(path: str, source: str) -> Iterator[Text]:
    """Yield the paragraphs, headings and table cells of a page, without its fenced blocks."""
    plain = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), source)
    number = 1
    for paragraph in re.split(r"(\n\s*\n)", plain):
        kind = "heading" if paragraph.lstrip().startswith(("#", "|")) else "paragraph"
        if paragraph.strip():
            yield Text(path, number, kind, paragraph)
        number += paragraph.count("\n")


def template_texts(path: str, source: str) -> Iterator[Text]:
    """Yield the comments of a template or stylesheet."""
    for match in re.finditer(r"\{#(.*?)#\}|<!--(.*?)-->|/\*(.*?)\*/", source, re.DOTALL):
        text = next(group for group in match.groups() if group is not None)
        yield Text(path, source.count("\n", 0, match.start()) + 1, "comment", text.strip("- \n"))


def comment_texts(path: str, source: str) -> Iterator[Text]:
    """Yield the comments of a YAML, TOML, make or shell file."""
    lines = [
        (number, match[1])
        for number, line in enumerate(source.splitlines(), 1)
        if (match := re.search(r"(?:^|\s)# ?(.*)", line))
    ]
    yield from _joined(path, lines)


def check_text(text: Text) -> Iterator[LanguageFinding]:
    """Yield the banned phrases of a text, relative clauses without a noun, and arrows."""
    prose = _CODE.sub(lambda match: " " * 1 + "\n" * match[0].count("\n"), text.text)
    for phrase in load_phrases():
        for match in phrase.pattern.finditer(prose):
            around = prose[max(0, match.start() - _CONTEXT) : match.end() + _CONTEXT]
            around = " ".join(around.split())
            if not any(allowed.search(around) for allowed in phrase.allowed):
                line = text.line + prose.count("\n", 0, match.start())
                yield LanguageFinding(text.path, line, match[0], phrase.instead)
    if text.kind == "docstring":
        yield from _check_summary(text)
    if text.kind in {"docstring", "comment", "paragraph"}:
        for match in _CLAUSE.finditer(" ".join(prose.split())):
            yield LanguageFinding(text.path, text.line, match[0][:_CONTEXT], "a noun first")


def _check_summary(text: Text) -> Iterator[LanguageFinding]:
    summary = text.text.strip().partition("\n")[0]
    if _ARROW.search(_CODE.sub("", summary)):
        yield LanguageFinding(text.path, text.line, summary[:_CONTEXT], "a sentence, not an arrow")
    elif summary.lower().startswith(tuple(f"{word} " for word in _RELATIVE)):
        yield LanguageFinding(text.path, text.line, summary[:_CONTEXT], "a verb or a noun first")


def check_names(path: str, source: str) -> Iterator[LanguageFinding]:
    """Yield the functions, parameters and variables whose names hold a banned word."""
    for line, name in _defined_names(ast.parse(source)):
        parts = [] if name in _allowed_names() else re.findall(r"[A-Z]?[a-z]+", name)
        if parts[:1] in (["is"], ["has"]) or ("one" in parts and name.strip("_") != "one"):
            continue
        for part in parts:
            if instead := load_names().get(part.lower()):
                yield LanguageFinding(path, line, name, instead)


def _defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name


def find_all(root: Path = ROOT) -> list[LanguageFinding]:
    """Return every finding of the repository."""
    found = [finding for text in repository_texts(root) for finding in check_text(text)]
    for path in python_files(root):
        name, source = str(path.relative_to(root)), path.read_text("utf-8")
        # Tests and benchmarks may use any word but `one`.
        if name.startswith("src/"):
            found += check_names(name, source)
        elif _ONE.search(source):
            found += [each for each in check_names(name, source) if each.found == "one"]
    return found


def main(paths: list[str]) -> int:
    """Print the findings of files that begin with one of `paths`, or numbers for each file."""
    findings = find_all()
    counts = Counter(finding.path for finding in findings)
    chosen = [str(each) for each in findings if each.path.startswith(tuple(paths))] if paths else []
    rows = chosen or [f"{count:5} {path}" for path, count in counts.most_common()]
    sys.stdout.writelines(f"{row}\n" for row in [*rows, f"{len(findings)} findings"])
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
