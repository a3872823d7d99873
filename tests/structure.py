"""Measure the structure of src/postroom: `python -m tests.structure` prints the numbers."""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from attrs import frozen

SOURCE = Path(__file__).parents[1] / "src"
LONGEST_FUNCTION = 40


@frozen
class Module:
    """A Python module: its dotted name, syntax tree and number of lines."""

    name: str
    tree: ast.Module
    lines: int

    @property
    def package(self) -> str:
        """The package below `postroom`, or the module itself if it is in none."""
        return self.name.split(".")[1] if "." in self.name else self.name


def load_modules(source: Path = SOURCE) -> dict[str, Module]:
    """Return every module below `source` by its dotted name; `__init__` has the package's name."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, ast.parse(text), len(text.splitlines()))
    return modules


def imports(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Return the modules of the project that each module imports, inside functions, too."""
    return {name: set(_imported(module, modules)) for name, module in modules.items()}


def _imported(module: Module, modules: dict[str, Module]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules:
                    yield inner
                elif node.module in modules:
                    yield node.module


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    reached = {name: _reachable(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return found


def package_edges(modules: dict[str, Module]) -> Counter[tuple[str, str]]:
    """Return the pairs of packages of which the first imports the second, with their numbers."""
    return Counter(
        (modules[name].package, modules[other].package)
        for name, others in imports(modules).items()
        for other in others
        if modules[name].package != modules[other].package
    )


def long_functions(modules: dict[str, Module], limit: int = LONGEST_FUNCTION) -> list[str]:
    """Return the functions with more lines of code than `limit`: no decorators, no docstring."""
    return [
        f"{module.name}.{node.name}: {length} lines"
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := _code_lines(node)) > limit
    ]


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    match node.body[0]:
        case ast.Expr(value=ast.Constant(value=str())) as docstring:
            return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)
    return lines


def repeated_names(modules: dict[str, Module], kind: type[ast.stmt]) -> dict[str, list[str]]:
    """Return the public names that top-level statements of this kind define in several modules."""
    places = defaultdict(list)
    for module in modules.values():
        for node in module.tree.body:
            if isinstance(node, kind) and isinstance(node, ast.ClassDef | ast.FunctionDef):
                places[node.name].append(module.name)
    return {
        name: found
        for name, found in sorted(places.items())
        if len(found) > 1 and not name.startswith("_")
    }


def report(modules: dict[str, Module]) -> Iterator[str]:
    """Yield the numbers as lines."""
    by_size = sorted(modules.values(), key=lambda module: module.lines)
    written = [module for module in by_size if module.lines > 1]
    edges = package_edges(modules)
    yield f"modules: {len(modules)}, {sum(module.lines for module in by_size)} lines"
    yield f"median module: {median(module.lines for module in by_size):.0f} lines"
    yield f"largest module: {by_size[-1].name}, {by_size[-1].lines} lines"
    yield "smallest modules: " + ", ".join(f"{each.name} {each.lines}" for each in written[:8])
    yield f"import cycles: {len(cycles(imports(modules)))}"
    yield f"functions over {LONGEST_FUNCTION} lines: {len(long_functions(modules))}"
    yield f"edges between packages: {len(edges)}, from {edges.total()} imports"
    for title, kind in (("classes", ast.ClassDef), ("functions", ast.FunctionDef)):
        repeated = repeated_names(modules, kind)
        yield f"public {title} that share a name: {len(repeated)}"
        for name, places in repeated.items():
            yield f"  {name}: {', '.join(places)}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in report(load_modules()))
