"""Reading leaves with their events, as the database holds them now."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

from django.db.models import Min

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
    leaf_texts,
    rows_of,
    uid_text,
)
from django_signal_audit.evidence.tree import HASH_SIZE, as_bytes, as_hash, leaf_hash
from django_signal_audit.models import AuditEvent, AuditLeaf
from django_signal_audit.models.events import Signature, signature_hash
from django_signal_audit.retention.starting_points import PRUNE, is_starting_point

PAGE = 5000
# How many pages are checked, or are waiting to be taken, at a time.
_AHEAD = 8
# The source of events that audit_import writes: their times are before all others.
IMPORT = "import"
_READ = (*COLUMNS, "signature")
_DATA = 13
# How many events are hashed together.
_TOGETHER = 250
_Row = tuple[Any, ...]
# The number of a leaf, the uid of its event, its hash and its commitments.
_Leaf = tuple[int, str, bytes, str]
_Sealed = tuple[bytes, Document, tuple[str, ...]]
# What is found of an event that is gone, or that nobody can read.
_NONE: _Sealed = (b"", {}, ())


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

    @property
    def stop(self) -> int:
        """Return the number after the last leaf."""
        return self.number + 1


class Run(NamedTuple):
    """Leaves one after the other, of each of which there is nothing to tell: most are.

    Attributes:
        number: The number of the first leaf.
        hashes: What was sealed, hash after hash.
        moments: When each event says that it was recorded.
        are_imports: Whether they were imported.

    """

    number: int
    hashes: bytes
    moments: list[str]
    are_imports: bool

    @property
    def stop(self) -> int:
        """Return the number after the last leaf."""
        return self.number + len(self.moments)

    def part(self, start: int, stop: int) -> Run:
        """Return the leaves from one number to another."""
        at, end = start - self.number, stop - self.number
        return Run(start, self.hashes[at * HASH_SIZE : end * HASH_SIZE], self.moments[at:end], self.are_imports)


Piece = Checked | Run


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
        self._pieces: deque[Piece] = deque()
        # Pages that are being checked, and the number after each of them.
        self._ahead: deque[tuple[Future[list[Piece]], int]] = deque()
        self._asked = start
        # Whether the last page had no leaf.
        self._is_gap = False
        # Nothing is read from here on.
        self.end = start

    def before(self, end: int) -> Iterator[Piece]:
        """Yield the leaves below a number that were not yielded yet."""
        while True:
            while self._pieces and self._pieces[0].number < end:
                piece = self._pieces.popleft()
                if isinstance(piece, Run) and piece.stop > end:
                    self._pieces.appendleft(piece.part(end, piece.stop))
                    piece = piece.part(piece.number, end)
                yield piece
            if self._pieces or self._next >= min(end, self.end):
                return
            self._read()

    def _read(self) -> None:
        if self._is_gap and not self._ahead:
            # Somebody may have written a leaf, or a checkpoint, that is very far from all others.
            leaves = AuditLeaf.objects.using(self._using).filter(index__gte=self._asked, index__lt=self.end)
            first = leaves.aggregate(first=Min("index"))["first"]
            self._asked = self._next = self.end if first is None else first
            self._is_gap = False
            return
        if self._pool is None:
            stop = self._asked = min(self._next + PAGE, self.end)
            found = pieces(self._using, self._next, stop)
        else:
            self._ask(self._pool)
            future, stop = self._ahead.popleft()
            found = future.result()
        self._is_gap = not found
        self._pieces.extend(found)
        self._on_leaves(stop - self._next)
        self._next = stop

    def _ask(self, pool: ProcessPoolExecutor) -> None:
        """Have the next pages checked: enough that no process waits, and few enough to keep."""
        while len(self._ahead) < _AHEAD and self._asked < self.end and not self._is_gap:
            stop = min(self._asked + PAGE, self.end)
            self._ahead.append((pool.submit(pieces, self._using, self._asked, stop), stop))
            self._asked = stop


def checked(using: str, start: int, stop: int) -> list[Checked]:
    """Return the leaves from one number to another, that one not included, and what their events are now."""
    leaves, rows = _read(using, start, stop)
    found = [rows.get(uid) for _index, uid, _stored, _marks in leaves]
    return list(map(_checked, leaves, found, _sealed_as(leaves, found)))


def pieces(using: str, start: int, stop: int) -> list[Piece]:
    """Return what ``checked`` does, but those leaves together of which there is nothing to tell."""
    leaves, rows = _read(using, start, stop)
    collected = _Pieces()
    for at in range(0, len(leaves), _TOGETHER):
        part = leaves[at : at + _TOGETHER]
        found = [rows.get(uid) for _index, uid, _stored, _marks in part]
        for leaf, row, sealed in zip(part, found, _sealed_as(part, found), strict=True):
            digest, document, erased = sealed
            if digest != leaf[2] or erased or IS_FOREIGN in document or row is None or not _is_signed(row):
                collected.add(_checked(leaf, row, sealed))
            else:
                collected.add_plain(leaf[0], digest, document["recorded_at"], _is_import(document, row))
    return collected.ended()


class _Pieces:
    """Collects what is found of leaves, in their order."""

    def __init__(self) -> None:
        self._done: list[Piece] = []
        self._hashes: list[bytes] = []
        self._moments: list[str] = []
        self._start = self._next = 0
        self._are_imports = False

    def add_plain(self, number: int, digest: bytes, moment: str, is_import: bool) -> None:
        if number != self._next or is_import is not self._are_imports:
            self._end()
            self._start, self._are_imports = number, is_import
        self._next = number + 1
        self._hashes.append(digest)
        self._moments.append(moment)

    def add(self, leaf: Checked) -> None:
        self._end()
        self._start = self._next = leaf.number + 1
        self._done.append(leaf)

    def ended(self) -> list[Piece]:
        """Return all that was collected."""
        self._end()
        return self._done

    def _end(self) -> None:
        if self._moments:
            self._done.append(Run(self._start, b"".join(self._hashes), self._moments, self._are_imports))
            self._hashes, self._moments = [], []


def _read(using: str, start: int, stop: int) -> tuple[list[_Leaf], dict[str, _Row]]:
    """Return leaves, and the events that there are by their uids as the leaves have them."""
    leaves = AuditLeaf.objects.using(using).filter(index__gte=start, index__lt=stop)
    events = AuditEvent.of_all_tenants.using(using).filter(uid__in=leaves.values("event")).order_by()
    rows: dict[str, _Row] = {}
    for row in rows_of(events.values_list(*_READ)):
        # Somebody who drops the constraint can add a row with the uid of a sealed one: neither is what was sealed.
        rows[row[1]] = (f"{rows[row[1]][0]} and {row[0]}", *row[1:]) if row[1] in rows else row
    columns = ("index", uid_text("event"), "hash", as_text("commitments"))
    return rows_of(leaves.order_by("index").values_list(*columns)), rows


def _checked(leaf: _Leaf, row: _Row | None, sealed: _Sealed) -> Checked:
    index, uid, stored, _marks = leaf
    uid = uid if isinstance(uid, str) else repr(uid)
    digest, document, erased = sealed
    if row is None:
        return Checked(index, uid, as_hash(stored))
    if isinstance(row[0], str):
        return Checked(index, uid, as_hash(stored), 0, f"Events {row[0]} have the same uid, and one was sealed.")
    if digest != as_bytes(stored):
        return Checked(index, uid, as_hash(stored), row[0], f"Event {row[0]} isn't what was sealed.")
    wrong = "" if IS_FOREIGN in document or _is_signed(row) else "The column signature was changed."
    moment = document["recorded_at"]
    time = moment if isinstance(moment, str) else ""
    return Checked(index, uid, digest, row[0], wrong, time, _is_import(document, row), erased)


def _is_import(document: Document, row: _Row) -> bool:
    """Return whether an event was imported, or ends what was: its time depends on that of the former audit log.

    Only imports write ids below zero. A starting point that a prune left has the time of another event of ours, and
    names the prune.
    """
    if row[0] >= 0:
        return False
    source = document["source"]
    # The data is taken out of the document once its hash is known.
    is_closing = is_starting_point(source, document["rules"]) and f'"{PRUNE}"' not in str(row[_DATA])
    return source == IMPORT or is_closing


def _is_signed(row: _Row) -> bool:
    return bool(row[-1] == signature_of(row[3], row[5], row[7], row[6]))


def _sealed_as(leaves: Sequence[_Leaf], rows: Sequence[_Row | None]) -> list[_Sealed]:
    """Return the hash of each event as it is now, the event, and the paths of its values that were erased."""
    try:
        read = [(document_of(row), decode(leaf[3])) for leaf, row in zip(leaves, rows, strict=True) if row]
        found = iter(
            [
                (leaf_hash(text.encode()), document, erased_of(marks) if has_erased(marks) else ())
                for text, (document, marks) in zip(leaf_texts(read), read, strict=True)
            ]
        )
        return [next(found) if row else _NONE for row in rows]
    except NOT_OURS:
        if len(rows) == 1:
            return [_NONE]
        return [one for leaf, row in zip(leaves, rows, strict=True) for one in _sealed_as([leaf], [row])]


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
