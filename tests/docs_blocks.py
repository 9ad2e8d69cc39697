"""The code blocks of README and docs, and what their authors say about running them.

A page is run from top to bottom as one session. What a block is for stands in an HTML comment right above it:

``<!-- run: WHAT -->``
    ``settings``      settings.py, put in force for the rest of the page; the system checks must have nothing to say
    ``rules``         one or more entries of RULES, put in force and checked in the same way
    ``channels``      one or more entries of CHANNELS, added to those there are
    ``module NAME``   a module of that name, to be imported by what follows
    ``importers NAME`` code for another package, which ``tests/importers`` runs
    ``tests``         tests, which are run
    ``event``         JSON that must be the newest recorded event
    ``shows TEXT``    a template that must show the text
    ``output``        what the Python block before printed
    ``figure``        a drawing, in which every path must exist, and every ``function()`` after a path be in that file
    ``file PATH``, ``append PATH``, ``shell``
                      on a page that builds a project (docs_project.py): a file of it, lines added at the end of one,
                      code run by ``manage.py shell``; ``if django>=6.1`` or ``if django<6.1`` may follow
``<!-- run ... -->``
    Python that is run and not shown.

Python without a comment is executed. HTML is a template: the page's function ``render`` must show a price in it.
In what commands and code print, ``…`` stands for anything, and any time for any other.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[\w+-]*)\s*$")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d)?")
_SAID = re.compile(r"^ *<!-- run: (?P<what>.+?) -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its language, what is said about it, its text, and the line of the page it begins on."""

    page: Path
    line: int
    kind: str
    what: str
    source: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def verb(self) -> str:
        return self.what.partition(" ")[0]

    @property
    def argument(self) -> str:
        return self.what.partition(" ")[2].partition(" if ")[0]

    @property
    def condition(self) -> str:
        return self.what.partition(" if ")[2]

    def compiled(self, source: str | None = None) -> object:
        """Return the code, with the line numbers of the page."""
        return compile("\n" * self.line + (self.source if source is None else source), str(self.page), "exec")


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    what = ""
    for number, line in lines:
        if line.strip() == "<!-- run":
            yield Block(page, number, "python", "hidden", _until(lines, "-->"))
        elif said := _SAID.match(line):
            what = said["what"]
        elif fence := _FENCE.match(line):
            source = _until(lines, "```")
            yield Block(page, number, fence["kind"], what, source)
            what = ""
        elif line.strip():
            assert not what, f"{page}:{number}: no block follows <!-- run: {what} -->"


def _until(lines: Iterator[tuple[int, str]], end: str) -> str:
    found = []
    for _, line in lines:
        if line.strip() == end:
            return textwrap.dedent("\n".join(found)) + "\n"
        found.append(line)
    raise AssertionError(f"{end} is missing after {found[:3]}")


def matches(expected: str, actual: str) -> bool:
    """Return whether a text is the expected one, but for times, ``…`` and blanks at the ends of lines."""
    parts = map(re.escape, _plain(expected).split("…"))
    return re.fullmatch("(?s:.*?)".join(parts), _plain(actual)) is not None


def _plain(text: str) -> str:
    return _TIME.sub("TIME", "\n".join(line.rstrip() for line in text.strip("\n").splitlines()))


def split_console(source: str) -> list[tuple[str, str]]:
    """Return each command of a console block with the output shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in source.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"A console block begins with a command, not with {line!r}.")
    return [(command, "\n".join(output)) for command, output in found]
