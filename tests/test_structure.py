"""The structure of src/postroom: no import cycles, short functions, unique names, true docs."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.structure import (
    Module,
    cycles,
    imports,
    load_modules,
    long_functions,
    repeated_names,
    report,
)
from tests.support.site import ROOT

MODULES = load_modules()
MOST_MODULES = 145
# Public names that several modules define, and why.
REPEATED_CLASSES: Mapping[str, str] = {}
REPEATED_FUNCTIONS = {
    "command": "click's entry point of each module in cli/; main.py names the command",
    "main": "the entry points of __main__ and of the command line",
    "upgrade": "Alembic prescribes it for migrations; `db upgrade` is the command for them",
}


def test_no_import_cycle() -> None:
    """No module imports itself through others."""
    assert cycles(imports(MODULES)) == []


def test_no_long_function() -> None:
    """No function has more than 40 lines."""
    assert long_functions(MODULES) == []


def test_number_of_modules() -> None:
    """A new module needs a reason: their number is limited."""
    assert len(MODULES) <= MOST_MODULES


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [(ast.ClassDef, REPEATED_CLASSES), (ast.FunctionDef, REPEATED_FUNCTIONS)],
    ids=["classes", "functions"],
)
def test_no_two_share_a_name(kind: type[ast.stmt], reasons: Mapping[str, str]) -> None:
    """No two public classes or functions share a name, except those listed with a reason."""
    assert set(repeated_names(MODULES, kind)) == set(reasons)


def test_the_report_has_the_numbers() -> None:
    """The command prints each number that these tests limit."""
    lines = list(report(MODULES))
    assert "import cycles: 0" in lines
    assert lines[0].startswith(f"modules: {len(MODULES)}, ")


@pytest.fixture
def example(tmp_path: Path) -> dict[str, Module]:
    """Return the modules of a package that has each fault once."""
    long = "def f():\n" + "    pass\n" * 40
    files = {
        "__init__": "",
        "a": "def g():\n    from ex.b import f\nclass Same: pass\n",
        "b": "from ex import a\nclass Same: pass\n",
        "c": long,
    }
    (tmp_path / "ex").mkdir()
    for name, text in files.items():
        (tmp_path / "ex" / f"{name}.py").write_text(text)
    return load_modules(tmp_path)


def test_each_fault_is_found(example: dict[str, Module]) -> None:
    """A cycle through a function's import, a long function and a repeated class are found."""
    assert cycles(imports(example)) == [["ex.a", "ex.b"]]
    assert long_functions(example) == ["ex.c.f: 41 lines"]
    assert repeated_names(example, ast.ClassDef) == {"Same": ["ex.a", "ex.b"]}


def test_the_docs_show_the_layers_of_the_contract() -> None:
    """docs/architecture.md draws the layers that import-linter holds, and explains each part."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    layers = [layer.replace("|", " ").split() for layer in contract]
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    drawing = page.partition("```text\n")[2].partition("```")[0]
    assert [line.split() for line in drawing.splitlines()] == layers
    table = page.partition("| module or package |")[2].partition("\n\n")[0]
    explained = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    named = {name for layer in layers for name in layer}
    assert sorted(explained) == sorted(named - {"__main__"})


def test_the_docs_name_modules_that_exist() -> None:
    """Each `package.module` that docs/architecture.md names exists."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    layers = {module.package for module in MODULES.values()} - {"postroom"}
    named = {name for name in re.findall(r"[\w-]+\.\w+", page) if name.split(".")[0] in layers}
    assert len(named) > 15
    assert {name for name in named if f"postroom.{name}" not in MODULES} == set()
