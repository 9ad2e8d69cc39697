"""Pruning that keeps proofs: only sealed events go, an event names their leaves, and the leaves stay as stubs.

Where no event is left of the beginning of the log, the leaves up to a checkpoint go too: its subtrees stand for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db.models import Exists, OuterRef

from django_signal_audit.evidence.records import (
    ERASED_EVENT,
    NO_STARTS,
    PRUNED_EVENT,
    covered,
    prunes,
    ranges_digest,
)
from django_signal_audit.evidence.sealing import latest_checkpoint, seal
from django_signal_audit.models import AuditCheckpoint, AuditEventQuerySet, AuditLeaf, AuditPrune
from django_signal_audit.models.guards import changes_allowed
from django_signal_audit.models.tables import has_table

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
