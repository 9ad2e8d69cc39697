"""The one write path: changes become audit events, in one transaction with the change.

What is to be notified goes to the outbox, ``delivery/outbox.py``, in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from django.db import Error, connections, transaction

from django_signal_audit.capture.scope import HeldBack, scope_of
from django_signal_audit.conf import get_settings
from django_signal_audit.context.actors import resolve_actor, resolve_impersonator
from django_signal_audit.context.scopes import current_context, telling_receivers
from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.outbox import Pending
from django_signal_audit.enums import EventType
from django_signal_audit.events.changes import Change
from django_signal_audit.events.documents import JSONValue, clean_text
from django_signal_audit.events.insert import EventRow, insert_row, insert_rows
from django_signal_audit.events.keys import new_uids, object_id, row_name
from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.events.payloads import hide, masked_payload, member_names, text_of
from django_signal_audit.events.secret_fields import has_secret_key, masked_fields
from django_signal_audit.events.values import safe_str
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent
from django_signal_audit.models import tables as storage
from django_signal_audit.models.events import REPR_LENGTH, Signature, signature_hash, utc_now
from django_signal_audit.rules.matching import Match, match_change
from django_signal_audit.signals import event_recorded
from django_signal_audit.transient import is_transient

_NO_DATA: dict[str, JSONValue] = {}


class EventBuilder:
    """Describes the changes of one call: what they share is worked out once."""

    def __init__(self) -> None:
        context = current_context()
        self.moment = utc_now()
        impersonator = resolve_impersonator()
        self.context = {**context.payload, "impersonator": impersonator} if impersonator else context.payload
        self._uids = new_uids()
        self._first: UUID | None = next(self._uids)
        # Outside any scope, the events of one call still belong together.
        self.correlation_id = context.correlation_id or str(self._first)
        self._actor: tuple[str, str] | None = None
        self._rules: dict[int, list[str]] = {}

    def describe(self, change: Change, match: Match, text: str | None) -> EventRow:
        """Return the row of the event.

        Args:
            change: What happened.
            match: What the rules make of it.
            text: The text of the object, None if it has yet to be asked for it.

        """
        label = match.plan.label if match.plan else change.model._meta.label_lower if change.model else ""
        actor_id, actor_repr = self._resolve(change.actor)
        uid, self._first = self._first or next(self._uids), None
        # In the order of the columns: naming all of them takes half of the time.
        event_type, rules = str.__str__(change.event_type), self._names(match)
        return EventRow(
            uid,
            self.moment,
            event_type,
            str.__str__(change.source),
            match.level,
            rules,
            label,
            row_name(change.model, change.pk) if change.model else object_id(change.pk),
            _object_repr(change, text),
            actor_id,
            actor_repr,
            _describe_changes(change, match),
            _describe_data(change, match, label, uid) if change.data else _NO_DATA,
            self.context,
            self.correlation_id,
            signature_hash(Signature(event_type, match.level, label, tuple(rules))),
        )

    def _resolve(self, explicit: object) -> tuple[str, str]:
        if explicit is not None:
            return _cut(*resolve_actor(explicit))
        if self._actor is None:
            self._actor = _cut(*resolve_actor())
        return self._actor

    def _names(self, match: Match) -> list[str]:
        names = self._rules.get(id(match))
        if names is None:
            names = self._rules[id(match)] = [rule.name for rule in match.rules]
        return names


def _describe_data(change: Change, match: Match, label: str, uid: UUID) -> dict[str, JSONValue]:
    named = {name for rule in match.rules for name in rule.mask}
    # Secrets without an object are told apart by the event.
    row = (label, row_name(change.model, change.pk)) if change.model and change.pk is not None else (str(uid),)
    containers = {"credentials"} if change.event_type == EventType.LOGIN_FAILED else ()
    return masked_payload(change.data, (*row, "data"), named, containers)


def _cut(actor_id: str, actor_repr: str) -> tuple[str, str]:
    return object_id(actor_id), _shorten(actor_repr)


def _object_repr(change: Change, text: str | None) -> str:
    values = _masked_values(change)
    if text is not None:
        return _shorten(hide(clean_text(text), values))
    return "" if change.instance is None else _shorten(text_of(change.instance, values))


def _masked_values(change: Change) -> list[object]:
    """Return the values of masked fields that a change carries: its object may hold others, and hides these itself."""
    found: list[Any] = []
    if change.model is None:
        return found
    for name in masked_fields(change.model):
        found += change.fields.get(name, ())
    if has_secret_key(change.model):
        found += change.pk if isinstance(change.pk, (tuple, list)) else [change.pk]
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= REPR_LENGTH else f"{text[: REPR_LENGTH - 1]}…"


def _describe_changes(change: Change, match: Match) -> dict[str, JSONValue]:
    plan = match.plan
    if plan is None:
        return {}
    serializers, pk = plan.serializers, change.pk
    described: dict[str, JSONValue] = {}
    names = match.names
    for name, (old, new) in change.fields.items():
        if name in names:
            keep = serializers[name]
            described[name] = [None if old is None else keep(old, pk), None if new is None else keep(new, pk)]
    for name, members in change.members.items():
        if name in match.names:
            field = plan.all_members[name]
            added, removed = member_names(field, members.added), member_names(field, members.removed)
            described[name] = {"added": added, "removed": removed}
    return described


logger = logging.getLogger("django_signal_audit")

T = TypeVar("T")


def _savepoints(using: str) -> tuple[str, ...]:
    return tuple(mark for mark in connections[using].savepoint_ids if mark is not None)


def _held_back(using: str) -> HeldBack | None:
    """Return what the notifications of what is recorded now are held back with; None if they are not."""
    held_back = scope_of(using).held_back
    return held_back if held_back is not None and held_back.savepoints == _savepoints(using) else None


@contextmanager
def one_call(using: str) -> Iterator[None]:
    """Make what is recorded inside one call to its recipients: one message to each, written at the end.

    The caller holds a transaction open around it.
    """
    if _held_back(using) is not None or not storage.is_ready(using):
        yield
        return
    held_back = HeldBack(_savepoints(using), Pending())
    with scope_of(using).within(held_back=held_back):
        yield
    if held_back.pending:
        _write(partial(outbox.enqueue, held_back.pending, using), lambda: "The notifications of a call", using)


def record_changes(changes: Sequence[Change], using: str) -> list[EventRow]:
    """Write the events and notifications of the changes of one call, and wake the delivery.

    With ``ON_ERROR="raise"`` a fault marks the transaction for rollback and raises EventNotWritten, so that the
    change does not happen either; a deadlock and the like is raised as the database raised it. With ``"log"`` the
    fault is logged and the change stands.

    Args:
        changes: What happened, in order.
        using: The database the rows are on; the events go there too.

    Returns:
        The rows of the events that rules wanted, in the order of the changes.

    """
    if not changes or not storage.is_ready(using):
        return []
    # Asked for here, as "log" adds a savepoint.
    return _write(partial(_record, changes, using, _held_back(using)), partial(_name, changes[0]), using) or []


def _write(write: Callable[[], T], name: Callable[[], str], using: str) -> T | None:
    """Write all of something or nothing; return None if it could not be written and the change stands without."""
    keep_going = get_settings().on_error == "log"
    try:
        with _scope(using, keep_going=keep_going):
            return write()
    except Exception as error:
        if not keep_going or _cannot_go_on(using):
            _fail(name(), error)
        logger.exception("%s could not be recorded; ON_ERROR is 'log', so the change stands.", name())
        return None


def _scope(using: str, *, keep_going: bool) -> AbstractContextManager[None]:
    """Return the transaction to write in."""
    # A savepoint costs two round trips; only "log" needs one, to get rid of half-written events.
    if keep_going or not connections[using].in_atomic_block:
        return transaction.atomic(using=using, savepoint=keep_going)
    return transaction.mark_for_rollback_on_error(using=using)


def _cannot_go_on(using: str) -> bool:
    """Return whether the transaction is lost: a deadlock on MySQL rolls back all of it, not only a savepoint."""
    connection = connections[using]
    return connection.in_atomic_block and connection.needs_rollback


def _fail(what: str, error: Exception) -> NoReturn:
    # What passes is the application's to repeat, and has to look as it does without us.
    if isinstance(error, EventNotWritten) or is_transient(error):
        raise error
    msg = (
        f"{what} could not be recorded, so it does not happen: {type(error).__name__}: {safe_str(error)}. "
        'Mend the cause, or set SIGNAL_AUDIT["ON_ERROR"] = "log" to let changes pass unrecorded.'
    )
    raise EventNotWritten(msg) from error


def _name(change: Change) -> str:
    """Return how a message names a change. It is told of errors, and raises none."""
    name = f'The event "{change.event_type}"'
    try:
        return f"{name} of {change.model._meta.label} {row_name(change.model, change.pk)}" if change.model else name
    except Exception:  # noqa: BLE001  # whatever is wrong with the change is what the message is about
        return name


def _record(changes: Sequence[Change], using: str, held_back: HeldBack | None) -> list[EventRow]:
    describer = EventBuilder()
    matched = [(change, match) for change in changes if (match := match_change(change)) is not None]
    if not matched:
        return []
    texts = _texts([change for change, _ in matched])
    rows = [describer.describe(change, match, text) for (change, match), text in zip(matched, texts, strict=True)]
    key = _insert(rows, using)
    scope_of(using).recorded += 1
    pending = Pending() if held_back is None else held_back.pending
    for row, (_, match) in zip(rows, matched, strict=True):
        pending.add(row.uid, match.level, match.notify)
    if held_back is None:
        outbox.enqueue(pending, using)
    _tell_listeners(rows, using, key)
    return rows


def _texts(changes: Sequence[Change]) -> list[str | None]:
    """Return the texts of the changes' objects that are known; several objects are asked for theirs together."""
    texts = [change.object_repr for change in changes]
    unasked = {
        at: change.instance
        for at, change in enumerate(changes)
        if change.object_repr is None and change.instance is not None
    }
    if len(unasked) > 1:
        for at, text in zip(unasked, texts_of(list(unasked.values())), strict=True):
            texts[at] = text
    return texts


def _insert(rows: Sequence[EventRow], using: str) -> int | None:
    """Write the rows and return the key of a single one."""
    if len(rows) == 1:
        return insert_row(rows[0], using)
    insert_rows(rows, using)
    return None


def _tell_listeners(rows: Sequence[EventRow], using: str, key: int | None) -> None:
    if not event_recorded.has_listeners(AuditEvent):
        return
    events = [rows[0].as_event(using, key)] if key is not None else _written(rows, using)
    # What a receiver breaks in the transaction is undone with all that the receivers wrote, and the event stays.
    with telling_receivers() as is_told, transaction.atomic(using=using):
        if not is_told:
            logger.error("%s is not sent to receivers: it was recorded by what they wrote themselves.", events[0])
            return
        for event in events:
            for receiver, answer in event_recorded.send_robust(AuditEvent, event=event):
                if isinstance(answer, Exception):
                    logger.error("The receiver %r of event_recorded raised %r.", receiver, answer)
                if isinstance(answer, Error):
                    transaction.set_rollback(True, using=using)


def _written(rows: Sequence[EventRow], using: str) -> list[AuditEvent]:
    found = AuditEvent.objects.using(using).in_bulk([row.uid for row in rows], field_name="uid")
    return [found[row.uid] for row in rows]
