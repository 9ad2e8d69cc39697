"""The rows of notifications: one for each rule, channel and recipient of a call, written in one statement."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from django.db import connections
from django.db.models import Field

from django_signal_audit.channels import get_channel
from django_signal_audit.context.scopes import MAX_GENERATION, next_generation
from django_signal_audit.delivery.order import is_ordered, order_key
from django_signal_audit.delivery.recipients import depends_on_event
from django_signal_audit.enums import Level
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.notifications import PRIORITIES
from django_signal_audit.rules.durations import parse_duration
from django_signal_audit.rules.schema import NotifyEntry, Rule

logger = logging.getLogger("django_signal_audit")

# A row names this many of its events; how many they are in all stands beside them.
MAX_NAMED = 100_000


@dataclass(slots=True)
class _Group:
    """The events of a call that one rule sends one recipient through one channel."""

    entry: NotifyEntry
    level: str
    uids: list[UUID] = field(default_factory=list)
    # The objects that they are about, by model and primary key; more than one is as good as any number.
    subjects: set[tuple[str, str]] = field(default_factory=set)
    count: int = 0

    def add(self, uid: UUID, level: str, subject: tuple[str, str]) -> None:
        if len(self.subjects) <= 1:
            self.subjects.add(subject)
        self.level = Level.highest([self.level, level])
        self.count += 1
        if self.count <= MAX_NAMED:
            self.uids.append(uid)


class Pending:
    """The notifications of one call, until they are written: one for each rule, channel and recipient."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], _Group] = {}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._groups)

    def add(self, uid: UUID, level: str, subject: tuple[str, str], notify: Iterable[tuple[Rule, NotifyEntry]]) -> None:
        """Add an event, which the entries of rules ask to notify of.

        Args:
            uid: The event.
            level: Its level.
            subject: Its object, by model and primary key.
            notify: The entries, with their rules.

        """
        for rule, entry in notify:
            for recipient in _recipients(rule, entry):
                key = (rule.name, entry.channel, recipient)
                self._groups.setdefault(key, _Group(entry, level)).add(uid, level, subject)

    def rows(self, tenant: str = "") -> list[Notification]:
        """Return the rows to write, in the order in which they were asked for.

        Args:
            tenant: Whose the events are, where the setting TENANT names a function.

        """
        generation = next_generation() if self._groups else 0
        return [_new_row(tenant, generation, *key, group) for key, group in self._groups.items()]


def _recipients(rule: Rule, entry: NotifyEntry) -> tuple[str, ...]:
    if entry.to is not None:
        return tuple(dict.fromkeys(entry.to))
    try:
        return tuple(dict.fromkeys(get_channel(entry.channel).recipients()))
    except Exception:
        # The row is written all the same: delivery fails on it, and the fault is seen there and retried.
        logger.exception('Channel "%s" of rule "%s" names no recipients.', entry.channel, rule.name)
        return ("",)


def _new_row(tenant: str, generation: int, rule: str, channel: str, recipient: str, group: _Group) -> Notification:
    row = Notification(tenant=tenant, rule=rule, channel=channel, recipient=recipient, level=group.level)
    row.priority = PRIORITIES[Level(group.level)]
    row.generation = generation
    if group.count == 1:
        row.event = group.uids[0]
    else:
        row.data = {"events": list(map(str, group.uids)), "count": group.count}
    if row.generation > MAX_GENERATION:
        return _cut_chain(row)
    row.throttle = group.entry.throttle
    if group.entry.digest:
        _wait_for_window(row, group.entry.digest)
    elif is_ordered(channel):
        row.order_key = order_key(channel, recipient, group.subjects)
    return row


def _cut_chain(row: Notification) -> Notification:
    """Return a notification that is not sent, because delivering it would set off the next one without end."""
    row.status = Notification.STATUS.skipped
    row.last_error = (
        f"It is about what a delivery wrote, and so were {MAX_GENERATION} before it, one after another. "
        "Such a chain has no end, so it is cut."
    )
    logger.error('Notification of rule "%s" to channel "%s" is skipped. %s', row.rule, row.channel, row.last_error)
    return row


def _wait_for_window(row: Notification, window: str) -> None:
    """Make a new row wait for the others of its digest.

    One whose recipient is known only from its event is due now: a worker finds out who it is for, and parks it.
    """
    if depends_on_event(row.recipient):
        row.digest_window = window
        return
    row.digest_key = key_of(row, row.recipient)
    row.available_at = end_of_window(window)


def key_of(row: Notification, recipient: str) -> str:
    """Return what stands for the rule, channel, recipient and tenant of a message: the key of a digest or throttle."""
    parts = [row.rule, row.channel, recipient, *([row.tenant] if row.tenant else [])]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def end_of_window(window: str) -> dt.datetime:
    """Return when a digest's window that begins now is over."""
    return utc_now() + (parse_duration(window) or dt.timedelta())


# What PostgreSQL's workers listen to.
SIGNAL = "django_signal_audit_due"
# Rows of one statement, which PostgreSQL gets as one text.
_BATCH_SIZE = 1000


def insert(rows: Sequence[Notification], using: str, *, tell_workers: bool = False) -> list[int]:
    """Write new rows and return their primary keys, in the order of the rows.

    Args:
        rows: Notifications that were not saved yet.
        using: The database of the outbox.
        tell_workers: Whether to wake workers that listen, where the database can. It costs no statement more.

    """
    if connections[using].vendor == "postgresql":
        keys = []
        for start in range(0, len(rows), _BATCH_SIZE):
            keys += _insert_batch(rows[start : start + _BATCH_SIZE], using, tell_workers)
        return keys
    Notification.objects.using(using).bulk_create(rows)
    if any(row.pk is None for row in rows):  # MySQL gives no keys back
        written = Notification.objects.using(using).filter(message_id__in=[row.message_id for row in rows])
        return list(written.order_by("pk").values_list("pk", flat=True))
    return [row.pk for row in rows]


def _insert_batch(rows: Sequence[Notification], using: str, tell_workers: bool) -> list[int]:
    connection = connections[using]
    fields = _fields()
    values = [field.get_db_prep_save(field.pre_save(row, True), connection) for row in rows for field in fields]
    given = f"({', '.join(['%s'] * len(fields))})"
    with connection.cursor() as cursor:
        cursor.execute(_insert_sql(using, tell_workers) % ", ".join([given] * len(rows)), values)
        return [key for key, *_ in cursor.fetchall()]


def _fields() -> list[Field[object, object]]:
    return [field for field in Notification._meta.local_concrete_fields if not field.primary_key]


@cache
def _insert_sql(using: str, tell_workers: bool) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in _fields())
    # The server keeps one of the equal notices of a transaction, and drops it if that rolls back.
    told = f", pg_notify('{SIGNAL}', '')" if tell_workers else ""
    return f"INSERT INTO {quote(Notification._meta.db_table)} ({columns}) VALUES %s RETURNING id{told}"  # noqa: S608
