"""What the package's files may not grow into."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import django_signal_audit

from . import corners

MODULES = {path: path.read_text(encoding="utf-8") for path in Path(django_signal_audit.__file__).parent.rglob("*.py")}
# Hidden state: the context of a request, and whether a prune or an erasure is under way.
MOST_CONTEXT_VARIABLES = 3
# A file reads best below 300 lines. The longest is in the way of a reader already, and none may become longer.
MOST_LINES = 560
# A function that is seen at once.
MOST_LINES_OF_FUNCTIONS = 40
# What texts count.
COUNTED = re.compile(
    r" (?:[a-z]+ )?(?:rows|events|values|messages|notifications|statements|leaves|checkpoints|differences|errors|files"
    r"|characters|digits|places|bytes|changes|objects|records|baselines|deletions)\b"
)
# Numbers that are never 1: the name of a constant, and these.
NEVER_ONE = re.compile(r"[A-Z_]+|length|len\(text\)|events\[0\]|.*_meta\.label|pluralize\(.*")


def test_there_are_few_context_variables() -> None:
    found = [str(path) for path, text in MODULES.items() for _ in range(text.count(" = ContextVar("))]
    assert 0 < len(found) <= MOST_CONTEXT_VARIABLES, found


def test_no_module_is_longer_than_the_longest() -> None:
    assert MODULES
    assert {str(path): lines for path, text in MODULES.items() if (lines := text.count("\n")) > MOST_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    found = {
        f"{path.name}: {node.name}": lines
        for path, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_FUNCTIONS
    }
    assert found == {}


def counts(text: str) -> Iterator[str]:
    """Yield each number that is followed by a plural in the f-strings of a module: of one it would read "1 rows"."""
    for node in ast.walk(ast.parse(text)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for number, after in pairwise(parts):
            if isinstance(number, ast.FormattedValue) and isinstance(after, ast.Constant):
                found, said = ast.unparse(number.value), COUNTED.match(str(after.value))
                if said and not NEVER_ONE.fullmatch(found):
                    yield f"{{{found}}}{said[0]}"


def test_a_plural_follows_no_number_that_may_be_one() -> None:
    assert list(counts('f"{len(rows)} rows, {left} dead notifications, {MOST} rows, {a} row{b}"')) == [
        "{len(rows)} rows",
        "{left} dead notifications",
    ]
    assert {path.name: found for path, text in MODULES.items() if (found := list(counts(text)))} == {}


def test_each_pattern_of_corners_has_a_file() -> None:
    files = [file.stem for file in Path(__file__).parent.glob("test_*.py")]
    patterns = [*corners.CORNERS, *corners.DATABASES]
    assert [pattern for pattern in patterns if not any(fnmatchcase(file, pattern) for file in files)] == []
    assert not corners.is_same_on_every_database(Path("test_saves.py"))
    files = ["test_saves.py", "test_checks.py", "samples.py"]
    read = {wanted: [name for name in files if corners.is_read(Path(name), wanted)] for wanted in ("corners", "others")}
    assert read == {"corners": ["test_checks.py", "samples.py"], "others": ["test_saves.py", "samples.py"]}


class Item:
    """What of a test of pytest decides whether it is left out."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid, self.path = nodeid, Path(nodeid.partition("::")[0])


def test_two_servers_share_what_is_not_about_databases() -> None:
    names = [f"tests/test_saves.py::test_{name}" for name in ("a", "b", "c[1]", "c[2]", "c[3]")]
    names += [f"tests/test_inbox.py::test_{name}" for name in ("a", "b", "c", *(f"d[{n}]" for n in range(7)), "e[x]")]
    items: list[Any] = list(map(Item, names))
    runs = []
    for share in (("1/2", "1/3"), ("2/2", "2/3")):
        without = corners.left_out(items, tests=share[0], cases=share[1])
        runs.append([item.nodeid.removeprefix("tests/test_") for item in items if item not in without])
    both = ["saves.py::test_a", "saves.py::test_b"]
    shared = ["inbox.py::test_a", "inbox.py::test_c", "inbox.py::test_e[x]"]
    assert runs[0] == [*both, "saves.py::test_c[1]", "saves.py::test_c[3]", *shared]
    assert runs[1] == [*both, "saves.py::test_c[2]", "inbox.py::test_b", "inbox.py::test_d[1]", "inbox.py::test_d[4]"]
    assert corners.left_out(items, tests="1/1", cases="1/1") == set()
