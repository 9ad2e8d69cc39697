"""The one write path: changes in, audit events and notifications out, in one transaction with the change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, TypeAlias, TypeVar
from uuid import UUID

from django.db import Error, connections, transaction

from .channels.registry import get_channel
from .conf import get_settings
from .context import recursion
from .context.suspension import suspended
from .delivery import digests
from .delivery.entries import insert
from .descriptions import EventBuilder
from .dispatchers.registry import get_dispatcher
from .events.changes import Change
from .events.insert import EventRow, insert_row, insert_rows
from .events.keys import row_name
from .events.object_texts import texts_of
from .events.values import safe_str
from .exceptions import EventNotWritten
from .models import AuditEvent, Notification
from .models import tables as storage
from .rules.matching import Match, match_change
from .rules.schema import NotifyEntry, Rule
from .signals import event_recorded
from .transient import is_transient

logger = logging.getLogger("django_signal_audit")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event and the match that asked for it."""

    row: EventRow
    match: Match


@dataclass(slots=True)
class Group:
    """The events of a call that one rule tells one recipient through one channel."""

    entry: NotifyEntry
    uids: list[UUID] = field(default_factory=list)
    count: int = 0

    def add(self, uid: UUID) -> None:
        """Add an event."""
        self.count += 1
        if self.count <= digests.MAX_NAMED:
            self.uids.append(uid)


Groups: TypeAlias = dict[tuple[str, str, str], Group]
Savepoints: TypeAlias = tuple[str, ...]


@dataclass(slots=True)
class Call:
    """A call that records in several batches, and its notifications, held back until its end."""

    # What a receiver of the project's records within a savepoint of its own may be rolled back, and is not the call's.
    savepoints: Savepoints
    groups: Groups = field(default_factory=dict)


# The calls under way, by database.
_calls: ContextVar[Mapping[str, Call]] = ContextVar("django_signal_audit_calls", default={})  # noqa: B039  # never changed


def _savepoints(using: str) -> Savepoints:
    return tuple(mark for mark in connections[using].savepoint_ids if mark is not None)


def _call(using: str) -> Call | None:
    """Return the call that what is recorded now belongs to."""
    call = _calls.get().get(using)
    return call if call is not None and call.savepoints == _savepoints(using) else None


@contextmanager
def one_call(using: str) -> Iterator[None]:
    """Make what is recorded inside one call to its recipients: one message to each, written at the end.

    The caller holds a transaction open around it.
    """
    if _call(using) is not None or not storage.is_ready(using):
        yield
        return
    call = Call(_savepoints(using))
    token = _calls.set({**_calls.get(), using: call})
    try:
        yield
    finally:
        _calls.reset(token)
    if call.groups:
        _write(partial(_notify, call.groups, using), lambda: "The notifications of a call", using)


_count: ContextVar[int] = ContextVar("django_signal_audit_count", default=0)


def recorded_count() -> int:
    """Return a number that has grown if anything was recorded in this context since it was asked for last."""
    return _count.get()


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
    return _write(partial(_record, changes, using, _call(using)), partial(_name, changes[0]), using) or []


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


def _record(changes: Sequence[Change], using: str, call: Call | None) -> list[EventRow]:
    describer = EventBuilder()
    matched = [(change, match) for change in changes if (match := match_change(change)) is not None]
    if not matched:
        return []
    texts = _texts([change for change, _ in matched])
    recorded = [
        Recorded(describer.describe(change, match, text), match)
        for (change, match), text in zip(matched, texts, strict=True)
    ]
    rows = [item.row for item in recorded]
    key = _insert(rows, using)
    _count.set(_count.get() + 1)
    if call is None:
        _notify(_group(recorded, {}), using)
    else:
        _group(recorded, call.groups)
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


def _group(recorded: Sequence[Recorded], groups: Groups) -> Groups:
    """Add the events to the groups of those that one rule tells one recipient through one channel."""
    for item in recorded:
        for rule, entry in item.match.notify:
            for recipient in _recipients(rule, entry):
                groups.setdefault((rule.name, entry.channel, recipient), Group(entry)).add(item.row.uid)
    return groups


def _notify(groups: Groups, using: str) -> None:
    """Write one row per group, of its event or of all its events, and wake the delivery."""
    rows = [_notification(*key, group) for key, group in groups.items()]
    if not rows:
        return
    dispatcher = get_dispatcher()
    ids = insert(rows, using, tell_workers=dispatcher.workers_listen)
    try:
        # What a dispatcher writes to wake somebody is no change of the project's.
        with suspended():
            dispatcher.wake(using, ids)
    except Exception:
        # A lost wake costs the time until a worker looks, and must not cost the change.
        logger.exception("The dispatcher could not be woken; the notifications wait for manage.py audit_deliver.")


def _notification(rule: str, channel: str, recipient: str, group: Group) -> Notification:
    row = Notification(rule=rule, channel=channel, recipient=recipient)
    if group.count == 1:
        row.event = group.uids[0]
    else:
        row.data = {"events": list(map(str, group.uids)), "count": group.count}
    generation = recursion.generation()
    if generation:
        row.data[recursion.KEY] = generation
    if generation > recursion.MAX_GENERATION:
        return _skip(row)
    if group.entry.throttle:
        row.data["throttle"] = group.entry.throttle
    if group.entry.digest:
        digests.collect(row, group.entry.digest)
    return row


def _skip(row: Notification) -> Notification:
    """Return a notification that is not sent, because delivering it would set off the next one without end."""
    row.status = Notification.STATUS.skipped
    row.last_error = (
        f"It is about what a delivery wrote, and so were {recursion.MAX_GENERATION} before it, one after another. "
        "Such a chain has no end, so it is cut."
    )
    logger.error('Notification of rule "%s" to channel "%s" is skipped. %s', row.rule, row.channel, row.last_error)
    return row


def _recipients(rule: Rule, entry: NotifyEntry) -> tuple[str, ...]:
    if entry.to is not None:
        return tuple(dict.fromkeys(entry.to))
    try:
        return tuple(dict.fromkeys(get_channel(entry.channel).recipients()))
    except Exception:
        # The row is written all the same: delivery fails on it, and the fault is seen there and retried.
        logger.exception('Channel "%s" of rule "%s" names no recipients.', entry.channel, rule.name)
        return ("",)


def _tell_listeners(rows: Sequence[EventRow], using: str, key: int | None) -> None:
    if not event_recorded.has_listeners(AuditEvent):
        return
    events = [rows[0].as_event(using, key)] if key is not None else _written(rows, using)
    # What a receiver breaks in the transaction is undone with all that the receivers wrote, and the event stays.
    with recursion.telling_receivers() as is_told, transaction.atomic(using=using):
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
