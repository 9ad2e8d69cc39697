"""Erasing what events tell of one person, so that all proofs stay: leaves hold digests of personal values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import models, transaction

from django_signal_audit.capture.rows import is_one_of
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.conf import get_settings
from django_signal_audit.context.actors import resolve_actor
from django_signal_audit.context.scopes import AuditContext, current_context, replaced_context
from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.keys import row_id
from django_signal_audit.evidence.leaf import (
    COLUMNS,
    EMPTIED,
    ERASED,
    Document,
    commitments_for,
    digest_of,
    disclosure,
    document_of,
    is_erased,
    rows_of,
    value_at,
)
from django_signal_audit.evidence.personal import is_personal
from django_signal_audit.evidence.records import ERASED_EVENT, KEPT_EVENTS, grouped, is_sealed
from django_signal_audit.evidence.sealing import RECEIPT_EVENT, seal
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, AuditLeaf, ChannelState, Notification
from django_signal_audit.models.events import erase_values
from django_signal_audit.models.guards import changes_allowed
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.rollups import count_again
from django_signal_audit.retention.holds import held_objects
from django_signal_audit.retention.pruning import FINISHED
from django_signal_audit.retention.starting_points import family_of, is_starting_point

_CHUNK = 200
# What the record of an erasure has of an event: its uid, and where others have none of these, the names of the values.
_RECORD_BYTES = 200
# Others are needed to know what was pruned, erased and anchored.
_KEEP_DATA = {*KEPT_EVENTS, RECEIPT_EVENT}


@dataclass
class ErasureReport:
    """How many events told of the person, how many values were erased, and of how many messages the text."""

    events: int = 0
    values: int = 0
    messages: int = 0


class OnLegalHold(Exception):
    """The object is on legal hold, so nothing of it is erased."""


class Erasure:
    """Erases the personal values of one object, and those of its user where it is one.

    Args:
        model: The model of the subject.
        pk: Its primary key; the row may be gone.
        using: The database.
        is_dry: Only count.

    """

    def __init__(self, model: type[models.Model], pk: object, using: str, *, is_dry: bool = False) -> None:
        concrete = model._meta.concrete_model or model
        self._label, self._using, self._is_dry = concrete._meta.label_lower, using, is_dry
        # A row of a multi-table parent has values of the same person.
        self._labels = set(family_of(self._label))
        self._key = row_id(concrete, pk)
        self._is_user = issubclass(get_user_model(), concrete) or issubclass(concrete, get_user_model())
        self.report = ErasureReport()

    def events(self) -> AuditEventQuerySet:
        """Return the events that tell of the subject."""
        which = models.Q(model__in=self._labels, object_id=self._key)
        if self._is_user:
            which |= models.Q(actor_id=self._key)
        return AuditEvent.objects.using(self._using).filter(which)

    @cached_property
    def _held(self) -> Collection[tuple[str, str]]:
        return held_objects(self._using).keys()

    @property
    def is_held(self) -> bool:
        """Return whether a legal hold forbids to erase anything."""
        return (self._label, self._key) in self._held

    def run(self, on_events: Callable[[int], object] = lambda _n: None) -> ErasureReport:
        """Erase, chunk by chunk; each is one transaction with the event that records it.

        Raises:
            OnLegalHold: A legal hold forbids it.

        """
        if not self._is_dry and self.is_held:
            msg = "It is on legal hold."
            raise OnLegalHold(msg)
        is_evidence = not self._is_dry and is_sealed(
            self._using
        )  # what is not sealed has no commitment that could stay
        # The events that record the erasure are no part of it: a person who erases their own data is their actor.
        newest = self.events().order_by("-id").values_list("id", flat=True).first()
        last = None
        while newest is not None and (uids := self._page(last, newest)):
            last = uids[-1][0]
            if self._is_dry:
                self._count(self._rows(uids))
            else:
                if is_evidence:
                    self._seal_late(uids)
                with transaction.atomic(using=self._using):
                    lock_database(self._using)
                    self._erase(uids)
            on_events(len(uids))
        if not self._is_dry:
            self._finish(is_evidence=is_evidence)
        return self.report

    def _finish(self, *, is_evidence: bool) -> None:
        if self._is_user:
            _erase_addresses(self._key, self._using)
        if not self.report.events:
            return
        if is_evidence:
            seal(self._using)  # an erasure counts once its record is sealed
        count_again(self._using)

    def _page(self, last: int | None, newest: int) -> list[tuple[int, UUID]]:
        """Return the ids and uids of some events: as many as one event can record."""
        events = self.events().filter(id__lte=newest)
        if last is not None:
            events = events.filter(id__gt=last)
        most = min(_CHUNK, get_settings().max_value_bytes // _RECORD_BYTES + 1)
        return list(events.order_by("id").values_list("id", "uid")[:most])

    def _rows(self, page: Sequence[tuple[int, UUID]], *, is_locked: bool = False) -> list[tuple[Any, ...]]:
        events = AuditEvent.of_all_tenants.using(self._using).filter(pk__in=[pk for pk, _ in page]).order_by("id")
        return rows_of((events.select_for_update() if is_locked else events).values_list(*COLUMNS))

    def _seal_late(self, page: Sequence[tuple[int, UUID]]) -> None:
        """Seal what was committed since the erasure began: a sealer that has read it would seal what is then gone."""
        uids = [uid for _, uid in page]
        sealed = AuditLeaf.objects.using(self._using).filter(event__in=uids)
        if sealed.count() < len(uids):
            seal(self._using, events=uids)

    def _count(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for row in rows:
            document = document_of(row)
            known = self._paths(document, commitments_for(document, is_personal))
            paths = [path for path in known if value_at(document, path) != ERASED]
            self.report.events += bool(paths)
            self.report.values += len(paths)

    def _erase(self, page: Sequence[tuple[int, UUID]]) -> None:
        # An event may tell of two persons whose data is erased at the same time: what one has read, the other changes.
        rows = self._rows(page, is_locked=True)
        leaves = {
            str(leaf.event): leaf
            for leaf in AuditLeaf.objects.using(self._using).filter(event__in=[uid for _, uid in page])
        }
        done: dict[str, list[str]] = {}
        for row in rows:
            document = document_of(row)
            # No record can name an event whose uid SQL wrote, and none that is sealed.
            uid = document["uid"] if _is_uuid(document["uid"]) else ""
            leaf = leaves.get(uid)
            known = leaf.commitments if leaf else commitments_for(document, is_personal)
            paths = [path for path in self._paths(document, known) if not is_erased(known[path])]
            if not paths:
                continue
            if leaf is not None:
                digests = {path: digest_of(disclosure(known[path], path, value_at(document, path))) for path in paths}
                with changes_allowed(self._using):
                    AuditLeaf.objects.using(self._using).filter(pk=leaf.pk).update(commitments={**known, **digests})
            erase_values(AuditEvent.of_all_tenants.using(self._using).filter(pk=row[0]), _emptied(document, paths))
            self.report.values += len(paths)
            done[uid] = paths
        self.report.events += len(done)
        done.pop("", None)
        if done:
            self.report.messages += _erase_messages(list(done), self._using)
            self._record(done)

    def _paths(self, document: Document, known: Iterable[str]) -> list[str]:
        """Return the paths of the values that are the subject's: an actor's of their events, an object's of its own.

        What was done to an object on legal hold stays known, with who did it.
        """
        if (str(document["model"]), str(document["object_id"])) in self._held:
            return []
        is_object = str(document["model"]) in self._labels and document["object_id"] == self._key
        is_actor = self._is_user and document["actor_id"] == self._key
        wanted = {"context", "context.text"}
        # A starting point's data says which prune left it there: without that, its time would be that of a forgery.
        is_start = is_starting_point(str(document["source"]), document["rules"])
        if not is_start and str(document["event_type"]) not in _KEEP_DATA:
            wanted |= {"data", "data.text"}
        if is_actor:
            wanted |= {"actor_id", "actor_repr"}
        if is_object:
            wanted.add("object_repr")
        return [path for path in known if path in wanted or (is_object and path.startswith("changes."))]

    def _record(self, values: Mapping[str, Sequence[str]]) -> None:
        data = {"model": self._label, **grouped(values)}
        change = Change(event_type=ERASED_EVENT, source=Source.MANUAL, using=self._using, data=data)
        # What records that a person's data is gone must not name the person.
        is_own = self._is_user and resolve_actor()[0] == self._key
        with replaced_context(AuditContext(reason=current_context().reason)) if is_own else nullcontext():
            recorded = record_changes([change], self._using)
        if not recorded:
            msg = "That personal data is erased could not be recorded, so it stays. See the log for the cause."
            raise EventNotWritten(msg)
        if recorded[0].data != data:
            msg = (
                'The record of an erasure is longer than SIGNAL_AUDIT["MAX_VALUE_BYTES"]. Raise that, and erase again.'
            )
            raise EventNotWritten(msg)


def _is_uuid(uid: object) -> bool:
    try:
        return isinstance(uid, str) and bool(UUID(uid))
    except ValueError:
        return False


def _emptied(document: Document, paths: Iterable[str]) -> dict[str, Any]:
    """Return the new values of the event's columns."""
    values: dict[str, Any] = {}
    changes = document["changes"]
    for path in paths:
        if path in EMPTIED:
            values[path.removesuffix(".text")] = EMPTIED[path]
            continue
        name, at = path.removeprefix("changes.").rsplit(".", 1)
        changes[name][int(at)] = ERASED
        values["changes"] = changes
    return values


def _erase_messages(uids: Sequence[str], using: str) -> int:
    """Take the text out of the messages that are kept about events, and return how many they were."""
    gone, count, about = set(uids), 0, []
    rows = Notification.objects.using(using)
    kept = models.Q(event__in=uids) | models.Q(event=None)
    for row in rows.filter(kept).only("event", "data", "last_error").order_by("id").iterator(chunk_size=_CHUNK):
        is_about = row.event is not None or not gone.isdisjoint(map(str, row.event_uids))
        about += [row.pk] if is_about else []
        if is_about and ({"subject", "body"} & row.data.keys() or row.last_error):
            data = {key: value for key, value in row.data.items() if key not in ("subject", "body")}
            # What a server or a program answered may quote the message.
            rows.filter(pk=row.pk).update(data=data, last_error="")
            count += 1
    # The channel's last error is that of one of its messages.
    ChannelState.objects.using(using).filter(is_one_of(ChannelState, about, using, column="last_failed")).update(
        last_error=""
    )
    return count


def _erase_addresses(user: str, using: str) -> None:
    """Take the addresses out of the messages that a user got. The key, by which a retry finds the user, stays."""
    rows = Notification.objects.using(using).filter(user=user, status__in=FINISHED)
    rows.exclude(recipient=user, address="").update(recipient=user, address="")
