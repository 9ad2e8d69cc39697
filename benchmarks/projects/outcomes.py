"""What a run of tests printed: how many there were, and which failed with what."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A test's name, its docstring's first line if it has one, a rule, and the traceback up to the next rule.
_UNITTEST = re.compile(
    r"^(?:FAIL|ERROR): ([^\n]+)\n(?:[^\n]*\n)?-{70}\n(.*?)(?=^={70}$|^-{70}$|\Z)", re.MULTILINE | re.DOTALL
)
_PYTEST = re.compile(r"^(?:FAILED|ERROR|SUBFAILED\S*) (\S+?::.+?)(?: - (.*))?$", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
_COUNTS = re.compile(r"(\d+) (passed|failed|error)")
# assertNumQueries, pytest-django's django_assert_num_queries, and counts of the captured queries.
_QUERIES = re.compile(r"quer(?:y|ies) executed|Expected to perform \d+ quer", re.IGNORECASE)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run."""

    count: int
    # The last line that each failure told, by the name of its test.
    failures: dict[str, str]


def read(output: str) -> Outcome:
    """Return what the output of unittest's or pytest's runner tells."""
    ran = _RAN.findall(output)
    if ran:
        found = {name: _message(traceback) for name, traceback in _UNITTEST.findall(output)}
        # Some run one suite after the other.
        count = sum(map(int, ran))
    else:
        found = dict(_PYTEST.findall(output))
        last = output.strip().rpartition("\n")[2]
        count = sum(int(number) for number, _ in _COUNTS.findall(last))
    if not count:
        msg = "No test ran. The end of what was printed:\n" + output[-2000:]
        raise RuntimeError(msg)
    return Outcome(count, {_ADDRESS.sub("", name): message for name, message in found.items()})


def _message(traceback: str) -> str:
    # The exception stands where the indentation ends; assertNumQueries lists the queries after it.
    lines = [
        line
        for line in traceback.splitlines()
        if re.match(r"[\w.]+(?:Error|Exception|NotWritten|DoesNotExist)\b", line)
    ]
    return lines[-1] if lines else ""


def counts_queries(message: str) -> bool:
    """Return whether a failure is about the number of queries."""
    return bool(_QUERIES.search(message))
