"""The one write path: changes become audit events, in one transaction with the change.

What is to be notified goes to the outbox, ``delivery/outbox.py``, in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from django.db import Error, connections, transaction

from django_signal_audit.capture.rows import values_by_key
from django_signal_audit.capture.scope import HeldBack, scope_of
from django_signal_audit.capture.tenants import tenants_of
from django_signal_audit.capture.transactions import rollback_on_error
from django_signal_audit.conf import get_settings
from django_signal_audit.context.actors import resolve_actor, resolve_impersonator
from django_signal_audit.context.extra import context_payload
from django_signal_audit.context.scopes import current_context, telling_receivers
from django_signal_audit.context.tenants import writing_tenant
from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.pending import Pending
from django_signal_audit.enums import EventType
from django_signal_audit.events.changes import Change, FieldChange, RowChange
from django_signal_audit.events.documents import JSONValue, clean_text, safe_str
from django_signal_audit.events.insert import EventRow, insert_row, insert_rows
from django_signal_audit.events.keys import new_uids, object_id, row_name
from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.events.payloads import hide, masked_payload, member_names, text_of
from django_signal_audit.events.secret_fields import has_secret_key, masked_fields
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent
from django_signal_audit.models import tables as storage
from django_signal_audit.models.events import REPR_LENGTH, Signature, signature_hash, utc_now
from django_signal_audit.rules.matching import Match, match_change
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.serializers import Serializer
from django_signal_audit.signals import event_recorded
from django_signal_audit.transient import is_transient

_NO_DATA: dict[str, JSONValue] = {}


class EventBuilder:
    """Describes the changes of one call: what they share is worked out once."""

    def __init__(self, using: str) -> None:
        context = current_context()
        self.moment = utc_now()
        impersonator = resolve_impersonator()
        payload = context_payload(using)
        self.context = {**payload, "impersonator": impersonator} if impersonator else payload
        self.tenant, error = writing_tenant()
        if error:
            self.context = {**self.context, "tenant_error": error}
        self._uids = new_uids()
        self._first: UUID | None = next(self._uids)
        # Outside any scope, the events of one call still belong together.
        self.correlation_id = context.correlation_id or str(self._first)
        self._actor: tuple[str, str] | None = None

    def describe(
        self, change: Change, match: Match, text: str | None, included: Mapping[str, JSONValue] = _NO_DATA
    ) -> EventRow:
        """Return the row of the event.

        Args:
            change: What happened.
            match: What the rules make of it.
            text: The text of the object, None if it has yet to be asked for it.
            included: The values that the event keeps beside the changes.

        """
        label = match.plan.label if match.plan else change.model._meta.label_lower if change.model else ""
        name = row_name(change.model, change.pk) if change.model else object_id(change.pk)
        uid = self._uid()
        data = _describe_data(change, match, label, uid) if change.data else _NO_DATA
        about = (label, name, _object_repr(change, text), self._resolve(change.actor))
        row = self._row(uid, change.event_type, change.source, match, about, _describe_changes(change, match), data)
        return row._replace(context={**self.context, "include": dict(included)}) if included else row

    def describe_row(self, event_type: str, match: Match, row: RowChange, *, has_secrets: bool) -> EventRow:
        """Return the event of a row, whose plan has no secret key.

        Args:
            event_type: The type of the event.
            match: What the rules make of it.
            row: What happened to it.
            has_secrets: Whether the row has masked columns, which its text may not have in it.

        """
        pk, text, source, fields = row
        plan: Any = match.plan
        changes = _described_fields(fields, match.names, plan.serializers, pk)
        if has_secrets:
            masked = masked_fields(plan.model)
            text = hide(text, [value for name in masked for value in fields.get(name, ())])
        name = str(pk) if pk.__class__ is int else row_name(plan.model, pk)
        about = (plan.label, name, shortened(text), self._resolve(None))
        return self._row(self._uid(), event_type, source, match, about, changes, _NO_DATA)

    def _uid(self) -> UUID:
        uid, self._first = self._first or next(self._uids), None
        return uid

    def _row(
        self,
        uid: UUID,
        event_type: str,
        source: str,
        match: Match,
        about: tuple[str, str, str, tuple[str, str]],
        changes: dict[str, JSONValue],
        data: dict[str, JSONValue],
    ) -> EventRow:
        label, name, text, (actor_id, actor_repr) = about
        event_type, rules = str.__str__(event_type), match.rule_names
        # In the order of the columns: naming all of them takes half of the time.
        return EventRow(
            uid,
            self.moment,
            event_type,
            str.__str__(source),
            match.level,
            [*rules],
            label,
            name,
            text,
            actor_id,
            actor_repr,
            changes,
            data,
            self.context,
            self.correlation_id,
            signature_hash(Signature(event_type, match.level, label, rules)),
            self.tenant,
        )

    def _resolve(self, explicit: object) -> tuple[str, str]:
        if explicit is not None:
            return _cut(*resolve_actor(explicit))
        if self._actor is None:
            self._actor = _cut(*resolve_actor())
        return self._actor


def _describe_data(change: Change, match: Match, label: str, uid: UUID) -> dict[str, JSONValue]:
    named = {name for rule in match.rules for name in rule.mask}
    # Secrets without an object are told apart by the event.
    row = (label, row_name(change.model, change.pk)) if change.model and change.pk is not None else (str(uid),)
    containers = {"credentials"} if change.event_type == EventType.LOGIN_FAILED else ()
    return masked_payload(change.data, (*row, "data"), named, containers, change.instance)


def _cut(actor_id: str, actor_repr: str) -> tuple[str, str]:
    return object_id(actor_id), shortened(actor_repr)


def _object_repr(change: Change, text: str | None) -> str:
    values = _masked_values(change)
    if text is not None:
        return shortened(hide(clean_text(text), values))
    return "" if change.instance is None else shortened(text_of(change.instance, values))


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


def shortened(text: str) -> str:
    """Return as much of an object's text as an event keeps."""
    return text if len(text) <= REPR_LENGTH else f"{text[: REPR_LENGTH - 1]}…"


def _describe_changes(change: Change, match: Match) -> dict[str, JSONValue]:
    plan = match.plan
    if plan is None:
        return {}
    described = _described_fields(change.fields, match.names, plan.serializers, change.pk)
    for name, members in change.members.items():
        if name in match.names:
            field = plan.all_members[name]
            added, removed = member_names(field, members.added), member_names(field, members.removed)
            described[name] = {"added": added, "removed": removed}
    return described


def _described_fields(
    fields: Mapping[str, FieldChange], names: Collection[str], serializers: Mapping[str, Serializer], pk: object
) -> dict[str, JSONValue]:
    described: dict[str, JSONValue] = {}
    for name, (old, new) in fields.items():
        if name in names:
            keep = serializers[name]
            described[name] = [None if old is None else keep(old, pk), None if new is None else keep(new, pk)]
    return described


logger = logging.getLogger("django_signal_audit")

T = TypeVar("T")


def _savepoints(using: str) -> tuple[str, ...]:
    return tuple(mark for mark in connections[using].savepoint_ids if mark is not None)


def _held_back(using: str) -> HeldBack | None:
    """Return what the notifications of what is recorded now are held back with; None if they are not."""
    held_back = scope_of(using).held_back
    return held_back if held_back is None or held_back.savepoints == _savepoints(using) else None


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
    held_back = _held_back(using)
    return _write(lambda: _record(changes, using, held_back), lambda: _name(changes[0]), using) or []


def _write(write: Callable[[], T], name: Callable[[], str], using: str) -> T | None:
    """Write all of something or nothing; return None if it could not be written and the change stands without."""
    keep_going = get_settings().on_error == "log"
    connection = connections[using]
    try:
        # A savepoint costs two round trips; only "log" needs one, to get rid of half-written events.
        if keep_going or not connection.in_atomic_block:
            with transaction.atomic(using=using, savepoint=keep_going):
                return write()
        with rollback_on_error(using):
            return write()
    except Exception as error:
        # A deadlock on MySQL rolls back all of the transaction, and not only a savepoint.
        if not keep_going or (connection.in_atomic_block and connection.needs_rollback):
            fail(name(), error)
        logger.exception("%s could not be recorded; ON_ERROR is 'log', so the change stands.", name())
        return None


def fail(what: str, error: Exception) -> NoReturn:
    """Raise EventNotWritten for an error that keeps an event from being written; an error that passes, as it is."""
    # What passes is the application's to repeat, and has to look as it does without us.
    if isinstance(error, EventNotWritten) or is_transient(error):
        raise error
    msg = (
        f"{what} could not be recorded, so the change isn't saved: {type(error).__name__}: {safe_str(error)}. "
        'Fix the cause, or set SIGNAL_AUDIT["ON_ERROR"] = "log" to save changes without their events.'
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
    matched = [(change, match) for change in changes if (match := match_change(change)) is not None]
    if not matched:
        return []
    texts = _texts([change for change, _ in matched])
    included = _included(matched, using)
    builder = EventBuilder(using)
    rows = [
        builder.describe(change, match, text, beside)
        for (change, match), text, beside in zip(matched, texts, included, strict=True)
    ]
    tenants = tenants_of([change for change, _ in matched], using)
    if tenants is not None:
        rows = [
            row if tenant is None else row._replace(tenant=tenant) for row, tenant in zip(rows, tenants, strict=True)
        ]
    key = _insert(rows, using)
    scope_of(using).recorded += 1
    wanted = [
        (row.uid, (row.model, row.object_id), one) for row, (_, one) in zip(rows, matched, strict=True) if one.notify
    ]
    _notify(wanted, using, held_back)
    _tell_listeners(rows, using, key)
    return rows


def _notify(events: Iterable[tuple[UUID, tuple[str, str], Match]], using: str, held_back: HeldBack | None) -> None:
    """Queue what the rules notify about events, given by uid, object and match; or hold it back until the call ends."""
    pending = Pending() if held_back is None else held_back.pending
    for uid, subject, match in events:
        pending.add(uid, match.level, subject, match.notify)
    if held_back is None:
        outbox.enqueue(pending, using)


def may_record_rows(plan: ModelPlan, event_type: str) -> bool:
    """Return whether ``record_rows`` may write events: nobody asks for more than they have."""
    return (
        event_type not in plan.conditional
        and not plan.included
        and not has_secret_key(plan.model)
        and not event_recorded.has_listeners(AuditEvent)
    )


def record_rows(plan: ModelPlan, event_type: str, rows: Sequence[RowChange], using: str) -> None:
    """Write the events of many rows of one model as ``record_changes`` does, with less work for each.

    Args:
        plan: The plan of the rows' model, for which ``may_record_rows``.
        event_type: The type of the events.
        rows: What happened, in order.
        using: The database the rows are on.

    """
    if rows and storage.is_ready(using):
        write = partial(_record_rows, plan, event_type, rows, using, _held_back(using))
        first = Change(event_type=event_type, source=rows[0].source, using=using, model=plan.model, pk=rows[0].pk)
        _write(write, partial(_name, first), using)


def _record_rows(
    plan: ModelPlan, event_type: str, rows: Sequence[RowChange], using: str, held_back: HeldBack | None
) -> None:
    builder, matches = EventBuilder(using), {}
    has_secrets = bool(masked_fields(plan.model))
    events: list[tuple[EventRow, Match]] = []
    for row in rows:
        touched = frozenset(row.fields)
        if touched not in matches:
            fields = dict.fromkeys(touched, FieldChange(None, None))
            change = Change(event_type=event_type, source=row.source, using=using, model=plan.model, fields=fields)
            matches[touched] = match_change(change)
        match = matches[touched]
        if match is not None:
            events.append((builder.describe_row(event_type, match, row, has_secrets=has_secrets), match))
    if not events:
        return
    _insert([event for event, _ in events], using)
    scope_of(using).recorded += 1
    _notify([(row.uid, (row.model, row.object_id), one) for row, one in events if one.notify], using, held_back)


def record_together(first: Change, write: Callable[[EventRow, Match], Iterable[tuple[str, str]]]) -> None:
    """Write the events of many rows of one model, which differ in few columns, as ``record_changes`` does.

    Args:
        first: What happened to the first of the rows. Its fields are those of all of them; their values don't count.
        write: What writes the events, given the first one, as far as they share it, and what the rules make of them.
            It returns their uids and the names of their rows.

    """
    _write(partial(_record_together, first, write, _held_back(first.using)), partial(_name, first), first.using)


def _record_together(
    first: Change, write: Callable[[EventRow, Match], Iterable[tuple[str, str]]], held_back: HeldBack | None
) -> None:
    match = match_change(first)
    if match is None:
        return
    shared = EventBuilder(first.using).describe(first, match, "")
    told = write(shared, match)
    scope_of(first.using).recorded += 1
    to_notify = told if match.notify else ()
    _notify(((UUID(uid), (shared.model, name), match) for uid, name in to_notify), first.using, held_back)


def described(change: Change, text: str | None) -> tuple[EventRow, Match] | None:
    """Return the event of a change that its statement is going to write along, and what the rules make of it.

    Args:
        change: What is going to happen.
        text: The text of the object, None if it has yet to be asked for it.

    Returns:
        None if no rule wants the event.

    """
    try:
        match = match_change(change)
        return None if match is None else (EventBuilder(change.using).describe(change, match, text), match)
    except Exception as error:  # noqa: BLE001  # as if it had failed in writing
        fail(_name(change), error)


def notify(uid: UUID, subject: tuple[str, str], match: Match, using: str) -> None:
    """Hand over what is to be notified of an event that was written along with its change."""
    scope_of(using).recorded += 1
    if not match.notify:
        return
    held_back, events = _held_back(using), [(uid, subject, match)]
    if held_back is not None:
        _notify(events, using, held_back)
    else:
        _write(partial(_notify, events, using, None), lambda: "The notifications of a save", using)


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


def _included(matched: Sequence[tuple[Change, Match]], using: str) -> Sequence[Mapping[str, JSONValue]]:
    """Return what each event keeps of its row beside the changes; the columns that nobody has read yet are read."""
    if not any(match.include for _, match in matched):
        return [_NO_DATA] * len(matched)
    known = [_known_values(change, match) for change, match in matched]
    wanted: dict[int, list[int]] = {}
    for at, (_, match) in enumerate(matched):
        if not known[at].keys() >= set(match.include):
            wanted.setdefault(id(match.plan), []).append(at)
    for positions in wanted.values():
        _complete([matched[at] for at in positions], [known[at] for at in positions], using)
    return [
        {name: _kept(match, name, values[name], change.pk) for name in match.include if name in values}
        for (change, match), values in zip(matched, known, strict=True)
    ]


def _known_values(change: Change, match: Match) -> dict[str, object]:
    """Return what the change itself has of the fields to include: what was left, or what went with the row."""
    is_gone = change.event_type == EventType.DELETE
    told = {name: pair.old if is_gone else pair.new for name, pair in change.fields.items()}
    return {name: value for name, value in {**change.row, **told}.items() if name in match.include}


def _complete(matched: Sequence[tuple[Change, Match]], known: Sequence[dict[str, Any]], using: str) -> None:
    """Read what is missing of rows of one model."""
    plan = matched[0][1].plan
    names = {name for (_, match), values in zip(matched, known, strict=True) for name in {*match.include} - {*values}}
    if plan is None:
        return
    # Only an UPDATE has locked its rows; to lock an owner of members might make others wait.
    are_locked = all(change.event_type == EventType.UPDATE for change, _ in matched)
    rows = values_by_key(plan, [change.pk for change, _ in matched], names, using, are_locked=are_locked)
    for (change, _), values in zip(matched, known, strict=True):
        values.update({name: value for name, value in rows.get(change.pk, {}).items() if name not in values})


def _kept(match: Match, name: str, value: object, pk: object) -> JSONValue:
    return None if value is None or match.plan is None else match.plan.serializers[name](value, pk)


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
    found = AuditEvent.of_all_tenants.using(using).in_bulk([row.uid for row in rows], field_name="uid")
    return [found[row.uid] for row in rows]
