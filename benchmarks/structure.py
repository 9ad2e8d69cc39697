"""Print the figures of the package's structure that its maintainers keep an eye on.

``python -m benchmarks.structure``; it needs nothing but Python. Migrations are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "django_signal_audit"

Tree = tuple[str, Path, str, ast.Module]


def modules() -> list[Tree]:
    """Return dotted name, path, text and tree of each module of the package."""
    found = []
    for path in sorted((ROOT / NAME).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "migrations" not in parts:
            text = path.read_text(encoding="utf-8")
            found.append((".".join(part for part in parts if part != "__init__"), path, text, ast.parse(text)))
    return found


def imports(module: Tree, names: set[str]) -> set[str]:
    """Return the modules of the package that a module imports when it is loaded or when it runs."""
    name, path, _, tree = module
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    hidden = {id(node) for block in ast.walk(tree) if _is_for_types(block) for node in ast.walk(block)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in hidden:
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, [base, node.module or ""]))
            found |= {f"{source}.{item.name}" if f"{source}.{item.name}" in names else source for item in node.names}
    return (found & names) - {name}


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def main() -> None:
    """Print the figures."""
    found = modules()
    names = {name for name, *_ in found}
    edges = {module[0]: imports(module, names) for module in found}
    importers = {name: sum(name in targets for targets in edges.values()) for name in names}
    lines = sum(text.count("\n") for _, _, text, _ in found)
    every = [function for *_, tree in found for function in functions(tree)]
    private = [one for one in every if one.name.startswith("_") and not one.name.startswith("__")]
    longest = max(every, key=_length)
    uses_any = sum(bool(re.search(r"\bAny\b", line)) for _, _, text, _ in found for line in text.split("\n"))
    states = sum(len(re.findall(r"\bContextVar\(|\bthreading\.local\b|= local\(\)", text)) for _, _, text, _ in found)
    print(f"modules                       {len(found)}")
    print(f"lines                         {lines}")
    print(f"imports per module            {sum(map(len, edges.values())) / len(found):.2f}")
    print(f"modules imported by one other {sum(count == 1 for count in importers.values())}")
    print(f"functions                     {len(every)}, {len(private) / len(every):.0%} of them private")
    print(f"longest function              {_length(longest)} lines: {longest.name}")
    print(f"lines with Any, per 100       {100 * uses_any / lines:.1f}")
    print(f"ContextVars and thread-locals {states}")


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


if __name__ == "__main__":
    main()
