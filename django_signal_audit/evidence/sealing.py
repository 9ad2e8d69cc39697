"""The sealer: gives every committed event a leaf, in batches, without a lock that writers could wait for.

An event is sealed when a leaf names its uid, never because its id lies below a mark: ids are given out before the
commit, and imported events have ids below all others. Marks only bound where the sealer looks.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError, connections, transaction
from django.db.models import Exists, Max, Min, OuterRef, Q

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.events.documents import safe_str
from django_signal_audit.evidence.config import PATH, get_evidence, get_signer, verifying_keys
from django_signal_audit.evidence.leaf import (
    COLUMNS,
    FORMAT,
    IS_FOREIGN,
    commitments_for,
    document_of,
    leaf_text,
    rows_of,
)
from django_signal_audit.evidence.notes import Checkpoint, NoteError, Signer, sign_note, signers_of, time_lines
from django_signal_audit.evidence.personal import is_personal
from django_signal_audit.evidence.tree import Stack, as_bytes, leaf_hash
from django_signal_audit.exceptions import SignalAuditError
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditEventQuerySet, AuditLeaf
from django_signal_audit.models.events import utc_now
from django_signal_audit.transient import is_transient

logger = logging.getLogger("django_signal_audit")

BATCH_SIZE = 5000
# Of one statement that writes leaves: MariaDB takes a megabyte where nobody allows more.
_MOST_ROWS = 2000
# Says that an anchor took a checkpoint. Sealing it would make a checkpoint to anchor: it waits for the next event.
RECEIPT_EVENT = "checkpoint_anchored"
# How long a transaction may be open before its events are found by the daily search of the whole table alone.
# PostgreSQL says which transactions have ended; there, it only has to cover the moment from an id to its transaction's.
_MARK_AGE = {"postgresql": dt.timedelta(minutes=1), "sqlite": dt.timedelta(0)}
_OTHER_MARK_AGE = dt.timedelta(hours=1)
_FULL_SEARCH = dt.timedelta(days=1)
# How often a batch is tried again that another sealer was faster with.
_ATTEMPTS = 20
# How many events are asked for by their uids at once.
_NAMED = 500


class CannotSeal(SignalAuditError):
    """Nothing can be sealed now; the message says why."""


@dataclass
class SealReport:
    """How many events were sealed, and the size of the tree."""

    sealed: int = 0
    size: int = 0
    checkpoints: int = 0


class _Mark(NamedTuple):
    """The ends of the table at one moment, and the number of the transaction that was to begin next, read after."""

    time: str
    low: int
    high: int
    transaction: int


@dataclass
class _Horizon:
    """Between which ids every event is known to be sealed, and when the whole table was searched."""

    low: int | None = None
    high: int | None = None
    searched: str = ""
    marks: list[_Mark] = field(default_factory=list)
    # The size of the tree when the search began. What was sealed before was found by earlier searches.
    began: int = 0

    @classmethod
    def of(cls, checkpoint: AuditCheckpoint | None) -> _Horizon:
        """Return what a checkpoint says; one that says nothing, or what isn't ours, has the whole table searched."""
        if checkpoint is None:
            return cls()
        try:
            found = cls(**{**checkpoint.horizon, "marks": [_Mark(*mark) for mark in checkpoint.horizon["marks"]]})
            now = utc_now().replace(tzinfo=dt.UTC)
            for moment in (*(mark.time for mark in found.marks), found.searched or now.isoformat()):
                if _since(moment, now) < -_FULL_SEARCH:
                    return cls()
            ends = (found.low, found.high) if (found.low, found.high) != (None, None) else (0, 0)
            numbers = [*ends, *(number for mark in found.marks for number in mark[1:])]
        except (LookupError, TypeError, ValueError):
            return cls()
        return found if all(type(number) is int for number in numbers) else cls()

    def stored(self) -> dict[str, Any]:
        return {**vars(self), "marks": [list(mark) for mark in self.marks]}


def latest_checkpoint(using: str) -> AuditCheckpoint | None:
    """Return the newest checkpoint of a database, None if nothing was sealed."""
    return AuditCheckpoint.objects.using(using).order_by("-size").first()


def unsealed(using: str) -> AuditEventQuerySet:
    """Return the events without a leaf."""
    leaves = AuditLeaf.objects.using(using).filter(event=OuterRef("uid"))
    return AuditEvent.of_all_tenants.using(using).filter(~Exists(leaves))


def _imported_later(using: str, low: int) -> Q:
    """Return the condition that an event is of an import after those that are sealed, though its id is above ``low``.

    Ids of imports are negative and ascend, and one import runs at a time.
    """
    if low >= 0:
        return Q(pk__in=())
    leaves = AuditLeaf.objects.using(using).filter(event=OuterRef("uid"))
    sealed = AuditEvent.of_all_tenants.using(using).filter(Exists(leaves), id__lt=0).order_by("-id")
    newest = sealed.values_list("id", flat=True).first()
    # Where none is left, an import begins with the lowest id again, which may be the mark itself.
    return Q(id__lt=0) if newest is None else Q(id__lt=0, id__gt=newest)


def backlog(using: str, most: int) -> int:
    """Return how many events wait to be sealed, at most so many; it looks only where the sealer would."""
    last = latest_checkpoint(using)
    horizon = _Horizon.of(last)
    waiting = unsealed(using).exclude(event_type=RECEIPT_EVENT)
    if horizon.low is not None:
        outside = Q(id__lt=horizon.low) | Q(id__gt=horizon.high)
        waiting = waiting.filter(outside | _imported_later(using, horizon.low))
    return waiting.order_by()[:most].count()


class Sealer:
    """Seals what is committed, batch by batch; any number of them may run at once, and be killed at any moment.

    Args:
        using: The database.
        batch_size: How many events one checkpoint adds at most.
        is_full: Whether to search the whole table, not only where unsealed events can be.
        events: The uids of events that are to be sealed too, wherever their ids are.

    """

    def __init__(
        self, using: str, *, batch_size: int = BATCH_SIZE, is_full: bool = False, events: Sequence[UUID] = ()
    ) -> None:
        self._using, self._batch_size, self._is_full = using, batch_size, is_full
        self._events = events
        self._vendor = connections[using].vendor

    def run(
        self, *, should_stop: Callable[[], bool] = lambda: False, on_events: Callable[[int], object] = lambda _n: None
    ) -> SealReport:
        """Seal until nothing is left, and return what was done."""
        report = SealReport()
        signer = get_signer()
        for _attempt in range(_ATTEMPTS):
            if self._pass(report, signer, should_stop, on_events):
                break
        newest = latest_checkpoint(self._using)
        report.size = newest.size if newest else 0
        return report

    def _pass(
        self, report: SealReport, signer: Signer | None, should_stop: Callable[[], bool], on_events: Callable[..., Any]
    ) -> bool:
        """Search once and seal what is found; return False if another sealer came in between."""
        last = latest_checkpoint(self._using)
        horizon = self._started(_Horizon.of(last))
        stack = _stack_of(last) if last else Stack()
        began = stack.size
        for rows, is_last in self._found():
            stored = horizon if is_last else _Horizon.of(last)
            stored.began = began
            checkpoint = self._seal(rows, stack, stored, signer)
            if checkpoint is None:
                return False
            last = checkpoint
            report.sealed += len(rows)
            report.checkpoints += 1
            on_events(len(rows))
            if should_stop():
                break
        return True

    def _started(self, stored: _Horizon) -> _Horizon:
        """Return the horizon that holds once the search that begins now has found everything.

        Its marks are read first: what commits during the search is looked for again.
        """
        now = utc_now().replace(tzinfo=dt.UTC)
        ends = AuditEvent.of_all_tenants.using(self._using).aggregate(low=Min("id"), high=Max("id"))
        newest, oldest = self._transactions()
        self._low, self._high = stored.low, stored.high
        if self._is_full or not stored.searched or _since(stored.searched, now) >= _FULL_SEARCH:
            self._low = self._high = None
            stored.searched = now.isoformat()
        age = _MARK_AGE.get(self._vendor, _OTHER_MARK_AGE)
        if ends["low"] is not None and (not stored.marks or _since(stored.marks[-1].time, now) >= age):
            stored.marks.append(_Mark(now.isoformat(), ends["low"], ends["high"], newest))
        # Whoever took an id of the first mark had a transaction by the second one, and that has ended.
        while len(stored.marks) > 1 and oldest >= stored.marks[1].transaction:
            mark = stored.marks.pop(0)
            stored.low, stored.high = mark.low, mark.high
        del stored.marks[2:]
        return stored

    def _transactions(self) -> tuple[int, int]:
        """Return the number of the next transaction, and of the oldest that is running; 0 where nobody tells."""
        if self._vendor != "postgresql":
            return 0, 0
        with connections[self._using].cursor() as cursor:
            cursor.execute(
                "SELECT pg_snapshot_xmax(snapshot)::text::bigint, pg_snapshot_xmin(snapshot)::text::bigint "
                "FROM pg_current_snapshot() AS snapshot"
            )
            newest, oldest = cursor.fetchone()
        return newest, oldest

    def _found(self) -> Iterator[tuple[list[tuple[Any, ...]], bool]]:
        """Yield the unsealed events in batches, and with each whether the search ended with it."""
        pending: list[tuple[Any, ...]] = []
        for row in self._rows():
            if not isinstance(row[1], str):
                # A leaf can't name it, so it would be found again each time.
                logger.error("Event %s is not sealed: SQL wrote %r for its uid.", row[0], row[1])
                continue
            if len(pending) == self._batch_size:
                yield pending, False
                pending = []
            pending.append(row)
        # A receipt alone makes no checkpoint, or anchoring would never end.
        if any(row[3] != RECEIPT_EVENT for row in pending):
            yield pending, True

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        done: set[Any] = set()
        for at in range(0, len(self._events) if self._low is not None else 0, _NAMED):
            named = unsealed(self._using).filter(uid__in=self._events[at : at + _NAMED])
            # Whatever lies outside of the marks is found below.
            rows = rows_of(named.filter(id__gte=self._low, id__lte=self._high).order_by("id").values_list(*COLUMNS))
            done.update(row[1] for row in rows)
            yield from rows
        if self._low is None or self._high is None:
            yield from self._pages(Q())
            return
        yield from self._pages(Q(id__lt=self._low))
        later = _imported_later(self._using, self._low) & Q(id__gte=self._low, id__lte=self._high)
        yield from (row for row in self._pages(later) if row[1] not in done)
        yield from self._pages(Q(id__gt=self._high))

    def _pages(self, bound: Q) -> Iterator[tuple[Any, ...]]:
        """Yield rows in the order of their ids, each page by a query of its own: nothing is held open."""
        rows = unsealed(self._using).filter(bound).order_by("id").values_list(*COLUMNS)
        page = rows_of(rows[: self._batch_size])
        while page:
            yield from page
            after = rows.filter(id__gt=page[-1][0])[: self._batch_size]
            page = rows_of(after) if len(page) == self._batch_size else []

    def _seal(
        self, rows: Sequence[tuple[Any, ...]], stack: Stack, horizon: _Horizon, signer: Signer | None
    ) -> AuditCheckpoint | None:
        """Write the leaves of a batch and their checkpoint, or return None if another sealer was faster."""
        start = stack.size
        leaves = []
        for index, row in enumerate(rows, start):
            uid, digest, commitments = _leaf(row)
            leaves.append((index, uid, digest, commitments))
            stack.append(digest)
        root = stack.root()
        now = utc_now()
        lines = time_lines(iso_text(now), horizon.began)
        text = str(Checkpoint(get_evidence().origin_of(self._using), stack.size, root, lines))
        checkpoint = AuditCheckpoint(
            size=stack.size,
            root=root,
            stack=stack.packed(),
            note=_signed(text, signer),
            sealed_at=now,
            leaf_format=FORMAT,
            horizon=horizon.stored(),
        )
        return checkpoint if self._write(leaves, checkpoint, start) else None

    def _write(self, leaves: list[tuple[Any, ...]], checkpoint: AuditCheckpoint, start: int) -> bool:
        try:
            with transaction.atomic(using=self._using):
                lock_database(self._using)
                last = latest_checkpoint(self._using)
                if (last.size if last else 0) != start:
                    return False
                # The primary key is the fence: of two sealers, one inserts leaf number ``start``.
                _insert(leaves, self._using)
                checkpoint.save(using=self._using, force_insert=True)
        except IntegrityError:
            return False
        except Exception as error:
            if not is_transient(error) or connections[self._using].in_atomic_block:
                raise
            logger.info("A batch is sealed again: %s", error)
            return False
        return True


def _stack_of(checkpoint: AuditCheckpoint) -> Stack:
    """Return the subtrees that the next leaves are added to.

    Raises:
        CannotSeal: They aren't those of the root that was signed: whatever is built on them would be wrong forever, and
            signed.

    """
    try:
        keys = verifying_keys()
    except NoteError as error:
        msg = f'{PATH}["PUBLIC_KEYS"] can\'t be used: {error}'
        raise CannotSeal(msg) from error
    try:
        stack = Stack.unpacked(checkpoint.size, as_bytes(checkpoint.stack))
        said, root = signers_of(checkpoint.note, keys)[0], as_bytes(checkpoint.root)
        if (said.size, said.root, stack.root()) == (checkpoint.size, root, root):
            return stack
    except (AttributeError, NoteError, TypeError, ValueError):
        pass
    msg = (
        f"The newest checkpoint, {checkpoint.size}, was changed. Nothing is sealed until its row is as it was: "
        "restore it from a backup. audit_verify shows what else differs."
    )
    raise CannotSeal(msg)


def _signed(text: str, signer: Signer | None) -> str:
    """Return a checkpoint with its signature.

    Raises:
        CannotSeal: It could not be signed. A project can have a signer of its own, which asks another service.

    """
    try:
        return sign_note(text, signer)
    except Exception as error:
        msg = f"The checkpoint could not be signed, so nothing is sealed: {type(error).__name__}: {safe_str(error)}"
        raise CannotSeal(msg) from error


def _leaf(row: tuple[Any, ...]) -> tuple[str, bytes, str]:
    """Return the uid of an event as the database has it, the hash of its leaf, and its commitments as JSON."""
    document = document_of(row)
    if IS_FOREIGN in document:
        logger.warning("Event %s was written by SQL, in a form that isn't ours. It is sealed as it is.", row[0])
    commitments = commitments_for(document, is_personal)
    return row[1], leaf_hash(leaf_text(document, commitments).encode()), json.dumps(commitments)


def _insert(leaves: Sequence[tuple[Any, ...]], using: str) -> None:
    """Write leaves by as few statements as the database takes; objects of the model would take three times as long."""
    connection = connections[using]
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, ("index", "event", "hash", "commitments")))
    insert = f"INSERT INTO {quote(AuditLeaf._meta.db_table)} ({columns})"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            arrays = "unnest(%s::bigint[], %s::uuid[], %s::bytea[], %s::text[]) AS leaf(i, e, h, c)"
            sql = f"{insert} SELECT i, e, h, c::jsonb FROM {arrays}"  # noqa: S608  # our own names
            cursor.execute(sql, list(map(list, zip(*leaves, strict=True))))
            return
        most = max(connection.ops.bulk_batch_size([AuditLeaf._meta.pk] * 4, leaves), 1)
        size = min(most, _MOST_ROWS)
        for part in (leaves[at : at + size] for at in range(0, len(leaves), size)):
            values = ", ".join(["(%s, %s, %s, %s)"] * len(part))
            cursor.execute(f"{insert} VALUES {values}", list(chain.from_iterable(part)))


def iso_text(moment: dt.datetime) -> str:
    """Return a moment of UTC as events and checkpoints have it."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _since(text: str, now: dt.datetime) -> dt.timedelta:
    return now - dt.datetime.fromisoformat(text)


def seal(using: str, **options: Any) -> SealReport:
    """Seal the events of a database until nothing is left; see ``Sealer``."""
    return Sealer(using, **options).run()
