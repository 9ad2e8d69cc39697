"""What the package's files may not grow into."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import django_signal_audit

from . import corners

MODULES = {path: path.read_text(encoding="utf-8") for path in Path(django_signal_audit.__file__).parent.rglob("*.py")}
# Hidden state: the context of a request, and whether a prune or an erasure is under way.
MOST_CONTEXT_VARIABLES = 3
# A file reads best below 300 lines. The longest is in the way of a reader already, and none may become longer.
MOST_LINES = 560


def test_there_are_few_context_variables() -> None:
    found = [str(path) for path, text in MODULES.items() for _ in range(text.count(" = ContextVar("))]
    assert 0 < len(found) <= MOST_CONTEXT_VARIABLES, found


def test_no_module_is_longer_than_the_longest() -> None:
    assert MODULES
    assert {str(path): lines for path, text in MODULES.items() if (lines := text.count("\n")) > MOST_LINES} == {}


def test_each_pattern_of_corners_has_a_file() -> None:
    files = [file.stem for file in Path(__file__).parent.glob("test_*.py")]
    patterns = [*corners.CORNERS, *corners.DATABASES]
    assert [pattern for pattern in patterns if not any(fnmatchcase(file, pattern) for file in files)] == []
    assert not corners.is_same_on_every_database(Path("test_saves.py"))
