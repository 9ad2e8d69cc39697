"""What explains that sealed events are gone or emptied: the records of prunes and erasures, which are sealed too.

A prune keeps proofs: only sealed events go, an event names their leaves, and the leaves stay as stubs. Where no event
is left of the beginning of the log, the leaves up to a checkpoint go too: its subtrees stand for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from django_signal_audit.evidence.config import get_evidence
from django_signal_audit.evidence.leaf import (
    COLUMNS,
    IS_FOREIGN,
    NOT_OURS,
    as_text,
    decode,
    document_of,
    leaf_text,
    rows_of,
)
from django_signal_audit.evidence.sealing import latest_checkpoint, seal
from django_signal_audit.evidence.tree import as_bytes, leaf_hash
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditEventQuerySet, AuditLeaf, AuditPrune
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.guards import changes_allowed
from django_signal_audit.models.tables import has_table

PRUNED_EVENT = "events_pruned"
ERASED_EVENT = "personal_data_erased"
# What says that a prune left no starting points.
NO_STARTS = "[]"


@dataclass
class Record:
    """What one event says about events that are gone or emptied.

    Attributes:
        event: Its uid.
        ranges: The numbers of the leaves that lost their events.
        starts: The starting points that a prune left, as hex.
        erased: The paths of the personal values that were erased, by the uid of the event; None for all, which early
            versions recorded.
        is_true: Whether the event is there, and names these leaves.
        is_sealed: Whether it is sealed, and is what was sealed.
        is_pending: Whether it isn't sealed, and need not be yet.

    """

    event: str
    ranges: list[tuple[int, int]] = field(default_factory=list)
    starts: frozenset[str] = frozenset()
    erased: dict[str, frozenset[str] | None] = field(default_factory=dict)
    is_true: bool = True
    is_sealed: bool = False
    is_pending: bool = False


def ranges_digest(ranges: str) -> str:
    """Return the hash by which the event of a prune names the leaves that lost their events."""
    return hashlib.sha256(ranges.encode()).hexdigest()


def covered(ranges: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return the starts and ends of ranges, joined where they meet."""
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(ranges):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends


def prunes(using: str) -> Iterator[Record]:
    """Yield what was pruned; a record that is not true explains nothing."""
    for prune in AuditPrune.objects.using(using).order_by("id").iterator(chunk_size=100):
        yield _prune(prune, using)


def _prune(prune: AuditPrune, using: str) -> Record:
    record, data = _record(str(prune.event), using)
    try:
        record.ranges = [(int(start), int(end)) for start, end in json.loads(prune.ranges)]
        record.starts = frozenset(map(str, json.loads(prune.starts)))
    except (TypeError, ValueError):
        record.is_true = False
    said = data.get("leaves_sha256"), data.get("starts_sha256", ranges_digest(NO_STARTS))
    record.is_true = record.is_true and said == (ranges_digest(prune.ranges), ranges_digest(prune.starts))
    return record


def recorded_starts(event: str, using: str) -> frozenset[str]:
    """Return the starting points, as hex, that a prune left by the record of its event; none if that proves nothing."""
    try:
        prune = AuditPrune.objects.using(using).filter(event=UUID(event)).first()
    except ValueError:
        return frozenset()
    record = _prune(prune, using) if prune is not None else Record(event, is_true=False)
    return record.starts if record.is_true and (record.is_sealed or record.is_pending) else frozenset()


def erasures(using: str) -> Iterator[Record]:
    """Yield what was erased."""
    events = AuditEvent.of_all_tenants.using(using).filter(event_type=ERASED_EVENT).order_by("id")
    for uid in events.values_list("uid", flat=True).iterator(chunk_size=100):
        record, data = _record(str(uid), using)
        try:
            record.erased = _erased(data)
        except (LookupError, TypeError, ValueError):
            record.is_true = False
        yield record


def grouped(values: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return which values of which events are erased, as the event says that records it: most have the same ones."""
    places: dict[tuple[str, ...], list[int]] = {}
    for place, paths in enumerate(values.values()):
        places.setdefault(tuple(sorted(paths)), []).append(place)
    return {"events": list(values), "values": [[list(paths), found] for paths, found in places.items()]}


def _erased(data: Mapping[str, Any]) -> dict[str, frozenset[str] | None]:
    """Return the opposite of ``grouped``."""
    uids = [str(uid) for uid in data["events"]]
    erased: dict[str, frozenset[str] | None] = dict.fromkeys(uids, None)
    for paths, places in data.get("values", ()):
        for place in places:
            erased[uids[place]] = frozenset(map(str, paths))
    if "values" in data and None in erased.values():
        msg = "An event is listed without its values."
        raise ValueError(msg)
    return erased


def _record(uid: str, using: str) -> tuple[Record, dict[str, Any]]:
    """Return the record that an event makes, without what it names, and the event's data."""
    rows = rows_of(AuditEvent.of_all_tenants.using(using).filter(uid=uid).values_list(*COLUMNS))
    if len(rows) != 1:
        return Record(uid, is_true=False), {}
    [row] = rows
    leaf = AuditLeaf.objects.using(using).filter(event=uid).values_list("hash", as_text("commitments")).first()
    try:
        document = document_of(row)
        data = dict(document["data"])
        if leaf is not None:
            digest = leaf_hash(leaf_text(document, decode(leaf[1])).encode())
            return Record(uid, is_sealed=digest == as_bytes(leaf[0])), data
    except NOT_OURS:
        return Record(uid, is_true=False), {}
    if IS_FOREIGN in document:
        return Record(uid, is_true=False), {}
    now, interval = utc_now().replace(tzinfo=None), get_evidence().interval
    # With a time of the future, what the sealer is kept from would never be late.
    earliest, latest = (now - interval).isoformat(), (now + interval).isoformat()
    return Record(uid, is_pending=earliest <= document["recorded_at"] <= latest), data


_CHUNK = 10_000
# What says where others went is never pruned, or their absence could not be explained.
KEPT_EVENTS = (PRUNED_EVENT, ERASED_EVENT)


def is_sealed(using: str) -> bool:
    """Return whether a database has sealed events; if so, what is committed is sealed before anything is pruned."""
    if not has_table(AuditCheckpoint, using) or latest_checkpoint(using) is None:
        return False
    seal(using)
    return True


def only_sealed(events: AuditEventQuerySet) -> AuditEventQuerySet:
    """Return those of the events that may be pruned."""
    leaves = AuditLeaf.objects.using(events.db).filter(event=OuterRef("uid"))
    return events.exclude(event_type__in=KEPT_EVENTS).filter(Exists(leaves))


def leaves_of(events: AuditEventQuerySet) -> list[int]:
    """Return the numbers of the events' leaves."""
    leaves = AuditLeaf.objects.using(events.db).filter(event__in=events.order_by().values("uid"))
    return list(leaves.order_by().values_list("index", flat=True).iterator(chunk_size=_CHUNK))


def ranges_of(leaves: Iterable[int]) -> str:
    """Return the numbers of leaves as the text of a list of ranges."""
    ranges: list[list[int]] = []
    for index in sorted(leaves):
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] = index + 1
        else:
            ranges.append([index, index + 1])
    return json.dumps(ranges, separators=(",", ":"))


def starts_of(uids: Iterable[UUID]) -> str:
    """Return the uids of the starting points that a prune left, as the text of a list."""
    return json.dumps([uid.hex for uid in uids], separators=(",", ":"))


def note_prune(event: UUID, ranges: str, starts: str, using: str) -> None:
    """Keep the ranges and the starting points of a prune, whose event has their hashes."""
    AuditPrune.objects.using(using).create(event=event, ranges=ranges, starts=starts)


def described(ranges: str, starts: str = NO_STARTS) -> dict[str, str]:
    """Return what the event of a prune says of the leaves, and of what was left in the events' place."""
    found = {"leaves_sha256": ranges_digest(ranges)}
    return found if starts == NO_STARTS else {**found, "starts_sha256": ranges_digest(starts)}


def drop_pruned_prefix(using: str) -> int:
    """Delete the leaves before the largest checkpoint that no event is left of, and return its size."""
    seal(using)  # the records of the prunes are to be sealed first
    sealed = [record for record in prunes(using) if record.is_true and record.is_sealed]
    starts, ends = covered(span for record in sealed for span in record.ranges)
    if not starts or starts[0]:
        return 0
    checkpoints = AuditCheckpoint.objects.using(using).filter(size__lte=ends[0]).order_by("-size")
    size = checkpoints.values_list("size", flat=True).first() or 0
    leaves = AuditLeaf.objects.using(using)
    while chunk := _first(leaves.filter(index__lt=size).order_by("index").values_list("index", flat=True)):
        with changes_allowed(using):
            leaves.filter(index__lte=chunk[-1]).delete()
    return size


def _first(indices: Iterable[int]) -> Sequence[int]:
    return list(indices[:_CHUNK])  # type: ignore[index]  # a queryset
