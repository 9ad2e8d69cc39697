"""Reading leaves with their events, as the database holds them now."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from django_signal_audit.evidence.leaf import (
    COLUMNS,
    IS_FOREIGN,
    NOT_OURS,
    Document,
    as_text,
    decode,
    document_of,
    has_erased,
    is_erased,
    leaf_text,
    uid_text,
)
from django_signal_audit.evidence.tree import leaf_hash
from django_signal_audit.models import AuditEvent, AuditLeaf
from django_signal_audit.models.events import Signature, signature_hash

PAGE = 5000
# How many pages are checked, or are waiting to be taken, at a time.
_AHEAD = 8
# The source of events that audit_import writes: their times are before all others.
IMPORT = "import"
_READ = (*COLUMNS, "signature")


class Ranges:
    """Numbers in ascending order, kept as ranges."""

    def __init__(self) -> None:
        self.starts, self.ends = array("q"), array("q")

    def add(self, start: int, end: int) -> None:
        """Add the numbers from one to another, that one not included."""
        if self.ends and self.ends[-1] == start:
            self.ends[-1] = end
        else:
            self.starts.append(start)
            self.ends.append(end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)


class Checked(NamedTuple):
    """A leaf, and what its event is found to be.

    Attributes:
        number: The number of the leaf.
        uid: The uid of the event, with hyphens or without.
        hash: The hash that was sealed.
        event: The id of the event, None if that is gone.
        wrong: What isn't as it was sealed, in words.
        moment: When the event says that it was recorded; empty if SQL wrote something else there.
        is_import: Whether it was imported.
        erased: The paths of its personal values that were erased.

    """

    number: int
    uid: str
    hash: bytes
    event: int | None = None
    wrong: str = ""
    moment: str = ""
    is_import: bool = False
    erased: tuple[str, ...] = ()


class Leaves:
    """Reads leaves and their events page by page: memory stays constant, and small checkpoints share a page.

    Args:
        using: The database.
        start: The number of the first leaf.
        on_leaves: Is told how many leaves were read.
        pool: Processes that read and check pages beforehand; this one does if there are none.

    """

    def __init__(
        self, using: str, start: int, on_leaves: Callable[[int], object], pool: ProcessPoolExecutor | None = None
    ) -> None:
        self._using, self._next, self._on_leaves, self._pool = using, start, on_leaves, pool
        self._page: list[Checked] = []
        self._at = 0
        # Pages that are being checked, and how many leaves each of them spans.
        self._ahead: deque[tuple[Future[list[Checked]], int]] = deque()
        self._asked = start
        # Nothing is read from here on.
        self.end = start

    def before(self, end: int) -> Iterator[list[Checked]]:
        """Yield the leaves below a number that were not yielded yet, in parts."""
        while True:
            stop = bisect_left(self._page, end, lo=self._at, key=itemgetter(0))
            if stop > self._at:
                part = self._page[self._at : stop]
                self._at = stop
                yield part
            if stop < len(self._page) or self._next >= min(end, self.end):
                return
            self._read()

    def _read(self) -> None:
        if self._pool is None:
            stop = min(self._next + PAGE, self.end)
            self._page, count = checked(self._using, self._next, stop), stop - self._next
        else:
            self._ask(self._pool)
            future, count = self._ahead.popleft()
            self._page = future.result()
        self._at = 0
        self._next += count
        self._on_leaves(count)

    def _ask(self, pool: ProcessPoolExecutor) -> None:
        """Have the next pages checked: enough that no process waits, and few enough to keep."""
        while len(self._ahead) < _AHEAD and self._asked < self.end:
            stop = min(self._asked + PAGE, self.end)
            self._ahead.append((pool.submit(checked, self._using, self._asked, stop), stop - self._asked))
            self._asked = stop


def checked(using: str, start: int, stop: int) -> list[Checked]:
    """Return the leaves from one number to another, that one not included, and what their events are now."""
    leaves = AuditLeaf.objects.using(using).filter(index__gte=start, index__lt=stop)
    events = AuditEvent.of_all_tenants.using(using).filter(uid__in=leaves.values("event")).order_by()
    rows = {row[1]: row for row in events.values_list(*_READ)}
    columns = ("index", uid_text("event"), "hash", as_text("commitments"))
    return [
        _checked(index, uid, bytes(stored), commitments, rows.get(uid))
        for index, uid, stored, commitments in leaves.order_by("index").values_list(*columns)
    ]


def _checked(index: int, uid: str, stored: bytes, commitments: str, row: tuple[Any, ...] | None) -> Checked:
    if row is None:
        return Checked(index, uid, stored)
    digest, document, erased = sealed_as(row, commitments)
    if digest != stored:
        return Checked(index, uid, stored, row[0], f"Event {row[0]} isn't what was sealed.")
    is_foreign = IS_FOREIGN in document
    is_signed = is_foreign or row[-1] == signature_of(row[3], row[5], row[7], row[6])
    wrong = "" if is_signed else "The column signature was changed."
    moment = document["recorded_at"]
    is_import = document["source"] == IMPORT
    return Checked(index, uid, stored, row[0], wrong, moment if isinstance(moment, str) else "", is_import, erased)


def sealed_as(row: tuple[Any, ...], commitments: str) -> tuple[bytes, Document, tuple[str, ...]]:
    """Return the hash of an event as it is now, the event, and the paths of its values that were erased."""
    try:
        document, marks = document_of(row), decode(commitments)
        digest = leaf_hash(leaf_text(document, marks).encode())
        return digest, document, erased_of(marks) if has_erased(marks) else ()
    except NOT_OURS:
        return b"", {}, ()


@lru_cache(4096)
def signature_of(event_type: str, level: str, model: str, rules: str) -> int:
    """Return what the column ``signature`` of an event must hold."""
    return signature_hash(Signature(event_type, level, model, tuple(map(str, decode(rules)))))


@lru_cache(1024)
def _together(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return a tuple that equal ones share: a person's events have the same values erased."""
    return paths


def erased_of(commitments: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of the values that are erased."""
    return _together(tuple(sorted(path for path, mark in commitments.items() if is_erased(mark))))
